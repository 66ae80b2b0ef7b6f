"""What an artifact says of itself: its manifest, the report that it was delivered with, its sizes. Nothing is run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gsvexport.artifact.container import read_member
from gsvexport.artifact.manifest import REPORT, Manifest, media
from gsvexport.artifact.trust import prove
from gsvexport.backends import audit
from gsvexport.backends.carried import unproven
from gsvexport.errors import ArtifactError
from gsvexport.report.markup import plain
from gsvexport.untrusted import reading
from gsvexport.verify.report import Report


@dataclass(frozen=True)
class Stored:
    """An artifact's manifest, its report (None where it holds none), its size in bytes, and what its backends say of it
    in words (empty where they say nothing). `text` are the bytes of the manifest as they were read and their signatures
    checked; `told` says what could not be checked."""

    path: Path
    manifest: Manifest
    report: Report | None
    size: int
    described: str = ""
    text: bytes = b""
    told: tuple[str, ...] = ()

    @property
    def voice(self) -> str:
        """Name and version of the voice."""
        return plain(f"{self.manifest.name} ({self.manifest.version})")

    @property
    def target(self) -> str:
        """Name of the target."""
        return plain(self.manifest.target["name"])


def read_stored(path: Path) -> Stored:
    """Read an artifact or an unpacked one.

    Raises:
        ArtifactError: no artifact, damaged, of an unknown schema, wrongly signed, with other code in it than this
            package's, or its report contradicts itself.
    """
    proven = prove(path)
    manifest = proven.manifest
    reason = unproven(manifest, str(path))
    size = path.stat().st_size if path.is_file() else sum(item.size for item in manifest.files.values())
    described = _described(path, manifest)
    told = tuple(filter(None, (reason, proven.unchecked)))
    if manifest.report is None:
        return Stored(path, manifest, None, size, described, proven.text, told)
    where = f"{path}: {REPORT}"
    try:
        value = reading.parse_json(_member(path, REPORT))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{where} {reading.why(error)}", fix="build the artifact again") from error
    return Stored(path, manifest, Report.from_json(value, where), size, described, proven.text, told)


def _described(path: Path, manifest: Manifest) -> str:
    found = (audit(name) for name in sorted({entry.backend for entry in manifest.stages.values()}))
    return "".join(one.described(manifest, lambda name: _member(path, name)) for one in found if one)


def _member(path: Path, name: str) -> bytes:
    if not path.is_dir():
        return read_member(path, name)
    return reading.read_bytes(reading.inside(path, name), reading.LARGEST_JSON)


def members(manifest: Manifest, *, stored: bool = False) -> dict[str, int]:
    """Bytes by kind of member, the largest first; `stored` counts them as they are in the file, compressed."""
    kinds: dict[str, int] = {}
    for name, member in manifest.files.items():
        kinds[media(name)] = kinds.get(media(name), 0) + (member.payload_size if stored else member.size)
    return dict(sorted(kinds.items(), key=lambda item: (-item[1], item[0])))


def weights(manifest: Manifest) -> dict[str, dict[str, int]]:
    """Bytes of weights by the stages that use them ("prefill + step"), then by what they are stored as."""
    found: dict[str, dict[str, int]] = {}
    for item in manifest.weights:
        kinds = found.setdefault(" + ".join(item.stages), {})
        kinds[item.kind] = kinds.get(item.kind, 0) + item.bytes
    return found
