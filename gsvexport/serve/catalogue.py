"""Which voices a server has: found in artifacts, folders and repositories, and judged before anything of them is used.

A caller's word for a voice is only ever looked up here. It never becomes a path.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gsvexport.artifact import container
from gsvexport.artifact.keys import trusted_keys
from gsvexport.artifact.manifest import REPORT, Manifest
from gsvexport.artifact.trust import names, prove
from gsvexport.errors import ArtifactError, GsvError, InputError
from gsvexport.files import cache_directory, sha256_bytes
from gsvexport.model import LARGEST, Model
from gsvexport.registry import index
from gsvexport.registry.places import FolderPlace, Place, open_place
from gsvexport.registry.pull import pull
from gsvexport.serve.settings import Settings
from gsvexport.target.detect import Candidate, probe, rank
from gsvexport.target.machine import mismatch
from gsvexport.text.phonemise import languages
from gsvexport.untrusted.reading import parse_json
from gsvexport.verify.report import Report

MOST_VOICES = 10_000
_ONLY_V2 = ("ko", "yue")  # languages whose phones only the table of v2 and later has


@dataclass(frozen=True)
class Verified:
    """What the artifact's own report says: "passed", "failed" or "none" where nothing was compared; and its counts."""

    state: str
    counts: Mapping[str, int]


@dataclass(frozen=True)
class Offer:
    """A voice that may be served. `text` are the manifest's bytes: nothing else than what they name is ever opened."""

    id: str
    path: Path
    text: bytes
    manifest: Manifest
    model: Model
    verified: Verified
    signed: str  # in words
    trusted: bool

    @property
    def size(self) -> int:
        """Bytes of all members, as they are used."""
        return sum(member.size for member in self.manifest.files.values())

    @property
    def readable(self) -> tuple[str, ...]:
        """Languages that the voice has phones for; some of them need their extra installed."""
        old = self.model.symbols == "v1"
        return tuple(one for one in languages() if not (old and one in _ONLY_V2))

    def to_json(self) -> dict[str, Any]:
        """What `/voices` tells of it."""
        return {
            "id": self.id,
            "name": self.manifest.name,
            "target": self.manifest.target["name"],
            "version": self.model.version,
            "language": self.model.language,
            "languages": list(self.readable),
            "sample_rate": self.model.rate,
            "bytes": self.size,
            "digest": self.manifest.digest,
            "verified": self.verified.state,
            "checks": dict(self.verified.counts),
            "signed": self.signed,
            "trusted": self.trusted,
        }


@dataclass(frozen=True)
class Catalogue:
    """The offers by what callers call them, and what was passed over, with the reason."""

    offers: Mapping[str, Offer]
    refused: Mapping[str, str]
    aliases: Mapping[str, str]

    def find(self, name: str) -> Offer | None:
        """The voice of that id, or of that alias."""
        return self.offers.get(self.aliases.get(name, name))


def gather(settings: Settings, say: Callable[[str], None] = lambda _: None) -> Catalogue:
    """Find and judge every voice that the settings name. What a repository has for this machine is pulled first.

    Raises:
        InputError: nothing was named, or a pinned voice or an alias leads nowhere.
        ArtifactError: nothing is left that may be served; says why of each.
        EnvironmentProblem: a repository cannot be read.
    """
    if not settings.voices:
        raise InputError("no voice to serve was named", fix="gsvexport serve ARTIFACT, FOLDER or REPOSITORY")
    refused: dict[str, str] = {}
    found: dict[str, Offer] = {}  # by digest of the manifest: the same artifact in two places is one
    for word in settings.voices:
        for path in _paths(word, settings, refused, say):
            if len(found) >= MOST_VOICES:
                raise InputError("too many voices", limit=MOST_VOICES, fix="serve them with several servers")
            try:
                offer = judged(path, settings)
            except GsvError as error:
                refused[str(path)] = str(error)
            else:
                found.setdefault(sha256_bytes(offer.text), offer)
    if not found:
        problems = [" ".join(f"{where}: {reason}".split()) for where, reason in list(refused.items())[:20]]
        raise ArtifactError("there is no voice that may be served", problems=problems or [*settings.voices])
    offers = _named(list(found.values()))
    lost = [one for one in (*settings.pin, *settings.aliases.values()) if one not in offers]
    taken = [one for one in settings.aliases if one in offers]
    if lost or taken:
        problems = [f"{one} is pinned, or has an alias, and is not served" for one in lost]
        problems += [f"{one} is a voice, and no name for another one" for one in taken]
        raise InputError("names of voices do not fit", problems=problems, limit=", ".join(offers))
    return Catalogue(offers, refused, settings.aliases)


def judged(path: Path, settings: Settings) -> Offer:
    """An artifact that may be served.

    Raises:
        ArtifactError: damaged, wrongly signed, made for another machine, or not signed by a trusted key, or without a
            report that passed, where the settings do not allow that.
    """
    proven = prove(path)
    trusted = proven.trusted
    if trusted is None and not settings.allow_unsigned:
        raise ArtifactError(
            f"{path} is not signed by a trusted key",
            found=proven.unchecked or names(proven.keys),
            fix="gsvexport sign it, gsvexport key trust its maker, or --allow-unsigned",
        )
    verified = _verified(path, proven.manifest)
    if verified.state != "passed" and not settings.allow_unverified:
        raise ArtifactError(
            f"{path} has not passed its verification",
            found={"failed": "its report names checks that failed", "none": "nothing was compared"}[verified.state],
            fix="build it again, or --allow-unverified",
        )
    if not settings.any_machine and (other := mismatch(proven.manifest.target, None)):
        what = f"{path} was made for another machine"
        raise ArtifactError(what, found=f"this one is {other}", fix="build it for this machine, or --any-machine")
    member = f"{path}: model.json"
    model = Model.from_json(parse_json(container.read_member(path, "model.json"), limit=LARGEST), member)
    signed = proven.unchecked or names(proven.keys)
    return Offer("", path, proven.text, proven.manifest, model, verified, signed, trusted is not None)


def _verified(path: Path, manifest: Manifest) -> Verified:
    if manifest.report is None:
        return Verified("none", {})
    where = f"{path}: {REPORT}"
    try:
        report = Report.from_json(parse_json(container.read_member(path, REPORT)), where)
    except ValueError as error:
        raise ArtifactError(f"{where} {error}", fix="build it again") from error
    counts = Counter(str(check.status) for check in report.checks)
    return Verified("failed" if report.failures else "passed" if report.passed else "none", counts)


def _paths(word: str, settings: Settings, refused: dict[str, str], say: Callable[[str], None]) -> Iterator[Path]:
    """The artifacts that one argument means."""
    if "://" in word or (Path(word) / index.ENTRIES).is_dir() or (Path(word) / index.INDEX).is_file():
        place = open_place(word) if "://" in word else FolderPlace(Path(word))
        yield from _pulled(place, settings, refused, say)
        return
    path = Path(word)
    if not path.exists():
        raise InputError(f"{path} does not exist", fix="name an artifact, a folder of them, or a repository")
    if path.is_file():
        yield path
        return
    found = sorted(path.glob(f"*{container.SUFFIX}"))
    if not found:
        raise InputError(f"{path} holds no {container.SUFFIX} file and is no repository", fix="name another folder")
    yield from found


def _pulled(place: Place, settings: Settings, refused: dict[str, str], say: Callable[[str], None]) -> Iterator[Path]:
    """The latest version of every voice of a repository that runs here, in the target that fits best."""
    bad: dict[str, ArtifactError] = {}
    listed = index.published(place, bad=bad)
    refused |= {f"{place.name}/{path}": str(error) for path, error in bad.items()}
    seen = probe()
    folder = cache_directory("served")
    folder.mkdir(parents=True, exist_ok=True)
    for name in dict.fromkeys(item.entry.name for item in listed):
        items = index.choose(listed, name, None, None)
        best = rank(seen, [Candidate(one.entry.target, one.entry.device, one.entry.size) for one in items])[0]
        where = f"{place.name}: {name}"
        if best.against and not settings.any_machine:
            refused[where] = f"nothing of it is for this machine: {best.line}"
            continue
        item = next(one for one in items if one.entry.target == best.candidate.target)
        path = folder / f"{item.entry.manifest}{container.SUFFIX}"
        say(f"pulling {item.entry.title}")
        try:
            pull(place, item, path, trusted_keys(), allow_unsigned=settings.allow_unsigned, force=True)
        except GsvError as error:
            refused[where] = str(error)
            continue
        yield path


def _named(found: list[Offer]) -> dict[str, Offer]:
    """Each under its name, or, where several are called so, under name and target.

    Raises:
        InputError: two have both in common.
    """
    counts = Counter(one.manifest.name for one in found)
    offers: dict[str, Offer] = {}
    for one in found:
        name, target = one.manifest.name, one.manifest.target["name"]
        index.check_name(name, "voice")
        key = name if counts[name] == 1 else f"{name}-{target}"
        if key in offers:
            problems = [str(offers[key].path), str(one.path)]
            raise InputError(f"two artifacts are {key}", problems=problems, fix="serve one of them")
        offers[key] = replace(one, id=key)
    return dict(sorted(offers.items()))
