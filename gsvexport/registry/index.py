"""What a repository holds. Its files:

    blobs/sha256/ab/abcd…                    stored members, named by SHA-256 of their bytes
    manifests/MANIFEST.json                  exact bytes of a manifest, named by their SHA-256
    signatures/MANIFEST/KEY.json             one signature of it, by key id
    entries/VOICE/TARGET/VERSION.json        one published artifact: written once, last, and never changed
    publishing/MANIFEST.json                 what a publisher needs that is not done yet
    gc.json                                  there while garbage is collected
    index.json                               all entries in one file, for those who cannot list

The entries are the index. Each is a file of its own that is created only where there is none, so publishers cannot lose
each other's, whatever the timing. `index.json` is derived: see `refresh`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gsvexport.artifact.manifest import LARGEST_TOTAL
from gsvexport.errors import ArtifactError, EnvironmentProblem, InputError
from gsvexport.files import canonical_json
from gsvexport.registry.places import Place
from gsvexport.system.names import refused
from gsvexport.untrusted import schema
from gsvexport.untrusted.reading import MOST_VALUES, parse_json

INDEX, ENTRIES, MANIFESTS, SIGNATURES, BLOBS, PUBLISHING = (
    *("index.json", "entries", "manifests", "signatures", "blobs/sha256", "publishing"),
)
LARGEST_ENTRY = 64_000  # bytes
LARGEST_INDEX = 16 << 20
MOST_ENTRIES = 20_000
_MOST_VALUES = 40 * MOST_ENTRIES  # an entry has 25 and a few more for its features
MOST_TRIES = 100
_SCHEMA = 1
_DIGEST = re.compile(r"[0-9a-f]{64}")
_KEY_ID = re.compile(r"[0-9a-f]{16}")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}")  # of voices and targets
VERSION = r"(0|[1-9][0-9]{0,8})(\.(0|[1-9][0-9]{0,8})){0,3}"
_VERSION = re.compile(VERSION)
_ENTRY = re.compile(rf"{ENTRIES}/({_NAME.pattern})/({_NAME.pattern})/({_VERSION.pattern})\.json")
_SHAPE = schema.record(
    {
        "model": schema.text(40),
        "elsewhere": schema.optional(schema.text(200)),
        "device": schema.table(schema.anything, 100),
    }
)
_STATUSES = ("pass", "fail", "not_run")


@dataclass(frozen=True)
class Entry:
    """One published artifact.

    `manifest` is SHA-256 of the manifest's bytes, `digest` the artifact's own (see `gsvexport.artifact.manifest`),
    `size` the bytes that a first pull transfers, `model` the GPT-SoVITS version, `device` the target's `[device]`.
    `gates` counts the checks of the report inside by status, and is empty without a report; `elsewhere` is the machine
    that they ran on where that was not the device. Nothing depends on when it was published.
    """

    name: str
    version: str
    target: str
    manifest: str
    digest: str
    size: int
    model: str
    device: dict[str, Any]
    gates: dict[str, int]
    elsewhere: str | None = None

    @property
    def path(self) -> str:
        """Its file in the repository."""
        return f"{ENTRIES}/{self.name}/{self.target}/{self.version}.json"

    @property
    def order(self) -> tuple[int, ...]:
        """What versions are sorted by: `latest` is the greatest."""
        return version_order(self.version)

    @property
    def title(self) -> str:
        """What it is called in messages."""
        return f"{self.name}@{self.version} for {self.target}"

    def to_bytes(self) -> bytes:
        """The content of its file."""
        return canonical_json({"schema": _SCHEMA, **asdict(self)}).encode()

    @classmethod
    def from_json(cls, value: Any, where: str) -> Entry:
        """Rebuild from JSON that nobody vouches for.

        Raises:
            ArtifactError: an unknown schema, or values that no entry has; names all of them.
        """
        if not isinstance(value, dict) or value.get("schema") != _SCHEMA:
            raise ArtifactError(f"{where} is no entry of a schema that this gsvexport knows", limit=f"schema {_SCHEMA}")
        try:
            entry = cls(**{key: item for key, item in value.items() if key != "schema"})
        except TypeError as error:
            raise ArtifactError(f"{where} lacks or adds something: {error}") from error
        if problems := entry._problems():
            raise ArtifactError(f"{where} cannot be right", problems=problems, fix="ask who runs the repository")
        return entry

    def _problems(self) -> list[str]:
        patterns = {"name": _NAME, "target": _NAME, "version": _VERSION, "manifest": _DIGEST, "digest": _DIGEST}
        problems = [
            f"its {key} is {str(getattr(self, key))[:80]!a}"
            for key, pattern in patterns.items()
            if not isinstance(getattr(self, key), str)
            or not pattern.fullmatch(getattr(self, key))
            or (key in ("name", "target") and refused(getattr(self, key)))
        ]
        if not _count(self.size):
            problems.append("its size is none")
        problems += schema.findings({"model": self.model, "elsewhere": self.elsewhere, "device": self.device}, _SHAPE)
        gates = self.gates
        if not isinstance(gates, dict) or not {*gates} <= {*_STATUSES} or not all(map(_count, gates.values())):
            problems.append("its gates are not counts by status")
        return problems


@dataclass(frozen=True)
class Listed:
    """An entry, and the ids of the keys that signed what it names, as far as the repository tells."""

    entry: Entry
    signed: tuple[str, ...]


def version_order(version: str) -> tuple[int, ...]:
    """Versions are one to four numbers with dots; they are ordered number by number, and 1.2 stands before 1.2.0.

    Raises:
        InputError: it is no version.
    """
    if not _VERSION.fullmatch(version):
        raise InputError(f"{version[:80]!a} is no version", limit="one to four numbers with dots: 3, 1.2, 2026.11.0")
    return tuple(int(number) for number in version.split("."))


def check_name(name: str, what: str) -> None:
    """Refuse a voice's or target's name that cannot stand in a repository.

    Raises:
        InputError: it cannot.
    """
    if not _NAME.fullmatch(name):
        raise InputError(f"{name[:80]!a} is no {what}'s name", limit="1 to 64 letters, digits, '.', '_' and '-'")
    if why := refused(name):
        raise InputError(f"{name!a} {why}, so no {what} is called so", fix="build it under another name")


def blob_path(digest: str) -> str:
    """Where stored bytes of that SHA-256 are."""
    return f"{BLOBS}/{digest[:2]}/{digest}"


def manifest_path(digest: str) -> str:
    """Where the manifest of that SHA-256 is."""
    return f"{MANIFESTS}/{digest}.json"


def signature_path(manifest: str, key: str) -> str:
    """Where the signature of a manifest by the key of that id is."""
    return f"{SIGNATURES}/{manifest}/{key}.json"


def published(place: Place, name: str | None = None, bad: dict[str, ArtifactError] | None = None) -> list[Listed]:
    """What is published, of one voice or of all, by name, target and version: from the entries where the place can list
    them, else from index.json. An entry that cannot be right is passed over, and put into `bad` by its file's name, so
    that one crafted entry keeps nobody from the others.

    Raises:
        ArtifactError: the index is not what it should be.
        EnvironmentProblem: there is no repository, or it cannot be read.
    """
    below = f"{ENTRIES}/{name}" if name else ENTRIES
    bad = {} if bad is None else bad
    if (names := place.names(below)) is not None:
        keys = _keys(place.names(SIGNATURES) or [])
        found = [Listed(entry, keys.get(entry.manifest, ())) for entry in _entries(place, names, bad)]
    else:
        found = [item for item in _merged(place, bad) if name in (None, item.entry.name)]
    return sorted(found, key=lambda item: (item.entry.name, item.entry.target, item.entry.order))


def refuse_none(place: Place) -> None:
    """Refuse a place that can list its files and is no repository; one whose versions were all withdrawn is.

    Raises:
        EnvironmentProblem: it has neither an index nor an entry.
    """
    if place.names(ENTRIES) == [] and place.size(INDEX) is None:
        raise _none(place)


def _none(place: Place) -> EnvironmentProblem:
    return EnvironmentProblem(f"there is no repository at {place.name}: it has no {INDEX}", fix="check the address")


def refresh(place: Place) -> int:
    """Write index.json anew until it says what the entries say; returns how many there are.

    Two publishers may each write an index without the other's entry. But each looks at the entries again after its
    last write, and writes again where the index differs. So the last one to write has seen every entry that was there
    when it looked, and whoever adds one after that writes once more.

    Raises:
        EnvironmentProblem: others write all the time; or the place fails.
    """
    for _ in range(MOST_TRIES):
        listed = published(place)
        rows = [{**json.loads(item.entry.to_bytes()), "signed": list(item.signed)} for item in listed]
        data = canonical_json({"schema": _SCHEMA, "entries": rows}).encode()
        if len(data) > LARGEST_INDEX or len(rows) > MOST_ENTRIES:
            raise EnvironmentProblem(
                f"{place.name} holds more than an index may list",
                found=f"{len(rows)} entries, {len(data)} bytes",
                limit=f"{MOST_ENTRIES} entries, {LARGEST_INDEX} bytes",
                fix=f"gsvexport gc {place.name} --keep N; what was published is there, and listed where it can be",
            )
        try:
            if place.read(INDEX, LARGEST_INDEX) == data:
                return len(listed)
        except FileNotFoundError:
            pass
        place.put(INDEX, data)
    raise EnvironmentProblem(
        f"{place.name}: others changed the repository {MOST_TRIES} times while its index was written",
        fix="publish again; what is published already is found, and only the index is written",
    )


def choose(listed: Iterable[Listed], name: str, version: str | None, target: str | None) -> list[Listed]:
    """Of each target the wanted version, or the latest; of one target if one is named.

    Raises:
        InputError: there is none; says what there is.
    """
    listed = [item for item in listed if item.entry.name == name]
    fits = [item for item in listed if target in (None, item.entry.target) and version in (None, item.entry.version)]
    if not fits:
        wanted = f"{name}@{version or 'latest'}" + (f" for {target}" if target else "")
        there = [f"{item.entry.target} {item.entry.version}" for item in listed]
        raise InputError(
            f"{wanted} is not in the repository",
            problems=[f"of {name} there is: {', '.join(there[-40:]) or 'nothing'}"],
            fix="gsvexport pull REPOSITORY lists everything",
        )
    best: dict[str, Listed] = {}
    for item in sorted(fits, key=lambda item: item.entry.order):
        best[item.entry.target] = item
    return list(best.values())


def read_entry(data: bytes, where: str) -> Entry:
    """An entry from the bytes of its file, as every reader takes it.

    Raises:
        ArtifactError: it cannot be right.
    """
    return Entry.from_json(_loaded(data, where, LARGEST_ENTRY), where)


def _entries(place: Place, names: Iterable[str], bad: dict[str, ArtifactError]) -> list[Entry]:
    found = []
    for path in names:
        if not _ENTRY.fullmatch(path):
            continue  # being written, or left by who was killed
        try:
            entry = read_entry(place.read(path, LARGEST_ENTRY), f"{place.name}/{path}")
            if entry.path != path:
                raise ArtifactError(f"{place.name}/{path} is the entry of something else", found=entry.path)
        except FileNotFoundError:
            continue  # removed since it was listed
        except ArtifactError as error:
            bad[path] = error
            continue
        found.append(entry)
    return found


def _merged(place: Place, bad: dict[str, ArtifactError]) -> list[Listed]:
    where = f"{place.name}/{INDEX}"
    try:
        value = _loaded(place.read(INDEX, LARGEST_INDEX), where, LARGEST_INDEX, most=_MOST_VALUES)
    except FileNotFoundError:
        raise _none(place) from None
    if not isinstance(value, dict) or value.get("schema") != _SCHEMA or not isinstance(value.get("entries"), list):
        raise ArtifactError(f"{where} is no index of a schema that this gsvexport knows", limit=f"schema {_SCHEMA}")
    found = []
    for number, row in enumerate(value["entries"]):
        row = dict(row) if isinstance(row, dict) else {}
        signed = row.pop("signed", None)
        try:
            entry = Entry.from_json(row, f"{where}: entry {number}")
            if not isinstance(signed, list) or not all(isinstance(k, str) and _KEY_ID.fullmatch(k) for k in signed):
                raise ArtifactError(f"{where}: entry {number}: its signers are no key ids")
        except ArtifactError as error:
            bad[f"{INDEX}: entry {number}"] = error
            continue
        found.append(Listed(entry, tuple(signed)))
    twice = {path for path, count in Counter(item.entry.path for item in found).items() if count > 1}
    bad |= {path: ArtifactError(f"{where} lists {path} twice") for path in twice}
    return [item for item in found if item.entry.path not in twice]


def _keys(names: Iterable[str]) -> Mapping[str, tuple[str, ...]]:
    """The key ids by manifest, from the names of signature files; what is no such name is left out."""
    keys: dict[str, tuple[str, ...]] = {}
    for path in names:
        manifest, _, file = path.removeprefix(f"{SIGNATURES}/").partition("/")
        if _DIGEST.fullmatch(manifest) and _KEY_ID.fullmatch(file.removesuffix(".json")):
            keys[manifest] = (*keys.get(manifest, ()), file.removesuffix(".json"))
    return keys


def _loaded(data: bytes, where: str, limit: int, *, most: int = MOST_VALUES) -> Any:
    try:
        return parse_json(data, limit=limit, most=most)
    except ValueError as error:
        raise ArtifactError(f"{where} {error}", fix="ask who runs the repository") from error


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_TOTAL
