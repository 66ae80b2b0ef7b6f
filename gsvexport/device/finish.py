"""On the device: build what only the device can build, then verify the artifact with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from gsvexport.artifact.trust import Key, prove
from gsvexport.backends import finalisation
from gsvexport.compiler.pack import intact
from gsvexport.errors import InputError
from gsvexport.progress import recognised
from gsvexport.target.machine import check_machine


def finish(
    path: Path,
    *,
    out: Path | None = None,
    cache: str = "auto",
    any_machine: bool = False,
    key: Key | None = None,
    allow_unsigned: bool = False,
    progress: Callable[[str], None] | None = None,
) -> tuple[dict[str, Any], Path, str]:
    """Finish an artifact on this device; returns the device report, where it was written, and both in words.

    The report goes to `out`, by default beside the artifact. When the device's own checks passed, every stage is
    verified as `gsvexport verify` does, too; the report's `passed` covers both. `cache` is what an engine does with the
    cache of T2S: "read-only", "in-place", or "auto", the latter where TensorRT can; `key` has to have signed it.
    Engines that were compiled elsewhere are used if a trusted key signed it, or with `allow_unsigned`; else the device
    builds its own.

    Raises:
        InputError: nothing of it has to be built on a device.
        ArtifactError: it is damaged, or made for another device.
        EnvironmentProblem, BackendError: see the backend's `finalisation`.
    """
    from gsvexport.verify import verify_artifact

    say = progress or (lambda _: None)
    folder, manifest = intact(path, key=key, progress=progress)
    if not any_machine:
        check_machine(manifest.target, path)
    offer = finalisation(entry.backend for entry in manifest.stages.values())
    if offer is None:
        raise InputError(
            f"{path} is finished as it is: none of its stages is built on a device", fix=f"gsvexport verify {path}"
        )
    trusted = allow_unsigned or key is not None or prove(path, key).trusted is not None
    report: dict[str, Any] = offer.finalize(folder, recognised(say), cache, trusted=trusted)
    if report["passed"]:
        precisions = {stage: entry.precision for stage, entry in manifest.stages.items()}
        gates = manifest.target.get("gates")
        verified = verify_artifact(folder, gates=gates, precision=precisions, progress=say)
        report |= {"passed": verified.passed, "verification": verified.to_json()}
        if not verified.passed:
            offer.reject(folder)
    place = out or path.absolute().parent / f"{path.name.removesuffix('.gsv')}-device-report.json"
    offer.write_report(report, place, folder)
    return report, place, f"{offer.summary(report)}\n{offer.how_to_send(place)}"
