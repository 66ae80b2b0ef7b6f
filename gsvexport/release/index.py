"""What a release holds: `release.json`, `SHA256SUMS` and, of this machine, `measured.json`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gsvexport.bench.machine import describe
from gsvexport.files import atomic_file, canonical_json, sha256_file
from gsvexport.report.margins import used
from gsvexport.report.stored import read_stored
from gsvexport.report.terminal import place, verdict
from gsvexport.verify import student
from gsvexport.verify.report import Report

SCHEMA = 1
# What says how far a student is from its teacher, what people would hear first: name and words.
TAUGHT = {
    "free_run.p808_drop": "P.808 lost",
    "free_run.wer_rise": "WER risen",
    "pipeline.log_mel_l1": "log-mel distance",
    "step.kl": "KL of codes",
}
RELEASE, SUMS, MEASURED = "release.json", "SHA256SUMS", "measured.json"


@dataclass(frozen=True)
class Row:
    """One artifact of a release.

    `verdict` is "pass", "fail" or "not_run", `checks` counts its checks by status, `place` says where they ran if that
    is not the device itself, `nearest` is the check that uses up most of its limit and the share that it uses.
    `taught` is what was measured of a student beside its teacher, empty for other voices.
    """

    file: str
    bytes: int
    sha256: str
    digest: str
    voice: str
    version: str
    target: str
    title: str
    portability: str
    precisions: dict[str, str]
    verdict: str
    checks: dict[str, int]
    place: str
    nearest: tuple[str, float] | None
    taught: dict[str, float]


def row_of(path: Path) -> Row:
    """What an artifact says of itself.

    Raises:
        ArtifactError: no artifact, or a damaged one.
    """
    stored = read_stored(path)
    manifest, report = stored.manifest, stored.report or Report(())
    shares = [(share, check) for check in report.checks if (share := used(check)) is not None and check.level > 0]
    worst = max(shares, key=lambda item: item[0], default=None)
    return Row(
        file=path.name,
        bytes=stored.size,
        sha256=sha256_file(path),
        digest=manifest.digest,
        voice=manifest.name,
        version=manifest.version,
        target=str(manifest.target["name"]),
        title=str(manifest.target.get("title", "")),
        portability=str(manifest.target.get("portability", "")),
        precisions={name: f"{entry.backend} {entry.precision}" for name, entry in manifest.stages.items()},
        verdict=verdict(report),
        checks=dict(sorted(Counter(check.status for check in report.checks).items())),
        place=place(report),
        nearest=(f"{worst[1].stage}.{worst[1].metric}", worst[0]) if worst else None,
        taught={
            name: check.value
            for check in report.checks
            if check.against == student.AGAINST
            and (name := f"{check.stage}.{check.metric}") in TAUGHT
            and check.value is not None
        },
    )


def write_index(out: Path, rows: Sequence[Row], measured: Mapping[str, Any]) -> None:
    """Write the files beside the artifacts, the sums last; equal artifacts give equal files but for `measured.json`."""
    ordered = sorted(rows, key=lambda row: row.file)
    _write(out / RELEASE, canonical_json({"schema": SCHEMA, "artifacts": [asdict(row) for row in ordered]}))
    if measured:
        _write(out / MEASURED, canonical_json({"machine": describe(), "artifacts": dict(measured)}))
    else:
        (out / MEASURED).unlink(missing_ok=True)
    _write(out / SUMS, "".join(f"{row.sha256}  {row.file}\n" for row in ordered))


def _write(path: Path, text: str) -> None:
    with atomic_file(path, force=True) as work:
        work.write_bytes(text.encode())
