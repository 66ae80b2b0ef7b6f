"""Publishing: blobs first, then the manifest and its signatures, and last the entry that makes them visible."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from gsvexport.artifact import container
from gsvexport.artifact.manifest import REPORT, Manifest
from gsvexport.artifact.signature import Signature, to_bytes, valid
from gsvexport.errors import ArtifactError, EnvironmentProblem, GateFailed, GsvError, InputError
from gsvexport.files import canonical_json, sha256_bytes
from gsvexport.progress import Progress, Step, note
from gsvexport.registry.index import (
    LARGEST_ENTRY,
    MOST_TRIES,
    PUBLISHING,
    Entry,
    blob_path,
    check_name,
    manifest_path,
    published,
    read_entry,
    refresh,
    signature_path,
    version_order,
)
from gsvexport.registry.places import Place
from gsvexport.untrusted import schema
from gsvexport.untrusted.reading import parse_json

COLLECTING = "gc.json"
_CHECK = schema.record({"status": schema.one_of("pass", "fail", "not_run", "info")}, more=True)
_REPORT = schema.record(
    {"passed": schema.flag, "checks": schema.rows(_CHECK, 10_000)},
    {"elsewhere": schema.optional(schema.text(200))},
    more=True,
)
_WAIT = 60.0  # seconds for somebody else's garbage collection
_POLL = 0.2


@dataclass(frozen=True)
class Published:
    """What became of one artifact: its entry, whether that is new, and the bytes that were sent for it."""

    entry: Entry
    new: bool
    sent: int


@dataclass(frozen=True)
class _Artifact:
    path: Path
    data: bytes  # of the manifest
    manifest: Manifest
    signatures: tuple[Signature, ...]
    gates: dict[str, int]
    elsewhere: str | None

    @property
    def digest(self) -> str:
        return sha256_bytes(self.data)

    @property
    def stored(self) -> dict[str, tuple[int, int]]:
        """Offset and size by SHA-256 of the stored bytes, each once."""
        return {one.sha256: (one.offset, one.size) for one in container.payloads(self.path)}


def publish(
    paths: Iterable[Path], place: Place, *, version: str | None = None, progress: Progress | None = None
) -> list[Published]:
    """Publish artifacts; each is visible completely or not at all, however this ends.

    Without a `version` each gets the next whole number of its voice and target, unless it is the latest already. What
    was published never changes: the same artifact again under its version does nothing, another one is refused.

    Raises:
        InputError: no version or name that a repository takes, or another artifact has that version.
        ArtifactError: an artifact is damaged or wrongly signed; of several all are named.
        GateFailed: an artifact's report says that it missed a limit.
        EnvironmentProblem: the repository cannot be written, or garbage is being collected all the time.
    """
    say = progress or (lambda _: None)
    if version is not None:
        version_order(version)
    artifacts = _read(paths, say)
    done = []
    try:
        for artifact in artifacts:
            done.append(_publish(artifact, place, version, say))
    finally:
        if done:
            say("writing the index")
            refresh(place)
    return done


def wait_for_collector(place: Place, say: Progress) -> None:
    """Wait until nobody collects garbage.

    Raises:
        EnvironmentProblem: somebody does for a minute.
    """
    end = time.monotonic() + _WAIT
    told = False
    while place.size(COLLECTING) is not None:
        if not told:
            say("waiting for a garbage collection to end")
            told = True
        if time.monotonic() > end:
            raise EnvironmentProblem(
                f"garbage is being collected in {place.name}, or a collection was killed",
                found=f"{COLLECTING} is there for more than {_WAIT:.0f} s",
                fix=f"wait; if none is running: gsvexport gc {place.name} --take-over",
            )
        time.sleep(_POLL)


def _read(paths: Iterable[Path], say: Progress) -> list[_Artifact]:
    """The artifacts, every byte checked; all problems at once."""
    found, errors = [], []
    for path in paths:
        say(f"checking every byte of {path}")
        try:
            found.append(_artifact(path))
        except GsvError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise type(errors[0])("several artifacts cannot be published", problems=[str(error) for error in errors])
    places = [(one.manifest.name, one.manifest.target["name"]) for one in found]
    if twice := sorted({f"{name} for {target}" for name, target in places if places.count((name, target)) > 1}):
        raise InputError("two artifacts of one voice and target cannot be published at once", problems=twice)
    return found


def _artifact(path: Path) -> _Artifact:
    if path.is_dir():
        raise InputError(f"{path} is a folder; a .gsv file is published")
    if problems := container.damage(path):
        raise ArtifactError(f"{path} is damaged", problems=problems, fix="build it again")
    manifest, data = container.read_manifest(path), container.manifest_bytes(path)
    check_name(manifest.name, "voice")
    check_name(manifest.target["name"], "target")
    stored = container.signature(path)
    signatures = valid(stored, data, str(path))
    report = _report(path) if manifest.report else {}
    statuses = [check["status"] for check in report.get("checks", ())]
    gates = {status: statuses.count(status) for status in ("pass", "fail", "not_run")} if report else {}
    if report and report.get("passed") is not True:
        raise GateFailed(
            f"{path} missed a limit of its verification, so it is not published",
            found=f"{gates['fail']} checks failed, {gates['not_run']} did not run",
            fix=f"gsvexport inspect {path} shows which",
        )
    return _Artifact(path, data, manifest, signatures, gates, report.get("elsewhere"))


def _report(path: Path) -> dict[str, Any]:
    """What of an artifact's report a repository tells.

    Raises:
        ArtifactError: it is no report.
    """
    try:
        value = parse_json(container.read_member(path, REPORT))
    except ValueError as error:
        raise ArtifactError(f"{path}: {REPORT} {error}", fix="build it again") from error
    if problems := schema.findings(value, _REPORT):
        raise ArtifactError(f"{path}: {REPORT} cannot be right", problems=problems, fix="build it again")
    found: dict[str, Any] = value
    return found


def _publish(artifact: _Artifact, place: Place, version: str | None, say: Progress) -> Published:
    """One artifact. What it needs is named in `publishing/` first, so that no garbage collection takes it."""
    intent = f"{PUBLISHING}/{artifact.digest}.json"
    stored = artifact.stored
    place.put(intent, canonical_json({"blobs": sorted(stored)}).encode())
    wait_for_collector(place, say)
    sent = _send(artifact, stored, place, say)
    entry, new = _enter(artifact, sum(size for _, size in stored.values()), place, version)
    # Only one that took this publisher for dead, after its grace, can have removed anything meanwhile.
    wait_for_collector(place, say)
    sent += _send(artifact, stored, place, say)
    place.remove(intent)
    say(note(f"published {entry.title}: {sent / 1e6:.1f} MB sent" if new else f"{entry.title} was published before"))
    if not artifact.signatures:
        say(note(f"{entry.title} is not signed: gsvexport pull refuses it, unless --allow-unsigned is given"))
    return Published(entry, new, sent)


def _send(artifact: _Artifact, stored: dict[str, tuple[int, int]], place: Place, say: Progress) -> int:
    """Put what is not there; returns the bytes that were sent."""
    phase = f"sending {artifact.manifest.name} for {artifact.manifest.target['name']}"
    sent = seen = 0
    total = sum(size for _, size in stored.values())
    with open(artifact.path, "rb") as file:
        for digest, (offset, size) in stored.items():
            if place.size(blob_path(digest)) != size:
                if size > 1 << 20:
                    say(Step(f"sending {size / 1e6:.1f} MB", phase, seen, total, unit="B"))
                file.seek(offset)
                place.put(blob_path(digest), cast("IO[bytes]", _Slice(file, size)))
                sent += size
            seen += size
    if place.size(manifest_path(artifact.digest)) != len(artifact.data):
        place.put(manifest_path(artifact.digest), artifact.data)
        sent += len(artifact.data)
    for signature in artifact.signatures:
        path, data = signature_path(artifact.digest, signature.key.id), to_bytes([signature])
        if place.size(path) != len(data):
            place.put(path, data)
            sent += len(data)
    return sent


def _enter(artifact: _Artifact, size: int, place: Place, version: str | None) -> tuple[Entry, bool]:
    """Claim a version; returns the entry, and whether it is new."""
    for candidate in _candidates(artifact, place, version):
        entry = Entry(
            name=artifact.manifest.name,
            version=candidate,
            target=artifact.manifest.target["name"],
            manifest=artifact.digest,
            digest=artifact.manifest.digest,
            size=size + len(artifact.data),
            model=artifact.manifest.version,
            device=_device(artifact.manifest.target),
            gates=artifact.gates,
            elsewhere=artifact.elsewhere,
        )
        _refuse_unreadable(entry, artifact)
        if place.create(entry.path, entry.to_bytes()):
            return entry, True
        try:
            there = read_entry(place.read(entry.path, LARGEST_ENTRY), f"{place.name}/{entry.path}")
        except FileNotFoundError:
            continue  # taken out meanwhile
        except ArtifactError:
            if version is None:
                continue  # nobody can read that one
            fix = f"choose another --version, or: gsvexport gc {place.name} --remove-bad"
            raise InputError(f"{entry.title} is taken by an entry that cannot be read", fix=fix) from None
        if there.manifest == entry.manifest:
            return there, False
        if version is not None:
            raise InputError(
                f"{entry.title} is published already, and it is another artifact",
                found=f"digest {there.digest[:16]}… there, {entry.digest[:16]}… in {artifact.path}",
                fix="choose another --version; what was published does not change",
            )
    raise EnvironmentProblem(f"{place.name}: others took {MOST_TRIES} versions meanwhile", fix="publish again")


def _refuse_unreadable(entry: Entry, artifact: _Artifact) -> None:
    """Read the entry as everybody will, before it is there for everybody.

    Raises:
        ArtifactError: something in the artifact makes an entry that no reader takes.
    """
    data = entry.to_bytes()
    try:
        if len(data) > LARGEST_ENTRY or read_entry(data, "its entry") != entry:
            raise ArtifactError("its entry is too large", found=f"{len(data)} bytes", limit=f"{LARGEST_ENTRY} bytes")
    except ArtifactError as error:
        raise ArtifactError(
            f"{artifact.path} cannot be published: no reader would take what stands in its manifest and report",
            problems=[error.what, *error.problems],
            fix="build it again",
        ) from error


def _candidates(artifact: _Artifact, place: Place, version: str | None) -> Iterator[str]:
    """The version that was asked for; else the latest, if it is this artifact, else the numbers after it."""
    if claims := {one.claim.version for one in artifact.signatures if one.claim}:
        if len(claims) > 1 or version not in (None, *claims):
            raise InputError(
                f"{artifact.path} is signed as version {' and '.join(sorted(claims))}",
                found=f"--version {version}" if version is not None else None,
                fix="publish it as that version, or sign it anew",
            )
        version = claims.pop()
    if version is not None:
        yield version
        return
    name, target = artifact.manifest.name, artifact.manifest.target["name"]
    of_target = [item.entry for item in published(place, name) if item.entry.target == target]
    latest = max(of_target, key=lambda entry: entry.order, default=None)
    if latest is not None and latest.manifest == artifact.digest:
        yield latest.version
    first = latest.order[0] + 1 if latest else 1
    yield from map(str, range(first, first + MOST_TRIES))


def _device(target: dict[str, Any]) -> dict[str, Any]:
    """What of a resolved target decides whether a machine is meant."""
    device = target.get("device", {})
    keys = ("arch", "core", "features", "memory_mb", "os", "gpu", "tpu", "npu")
    return {key: device[key] for key in keys if device.get(key) is not None}


class _Slice:
    """`size` bytes of a file from where it stands, as a file."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._left = file, size

    def read(self, size: int = -1) -> bytes:
        """As of any file."""
        data = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        return data
