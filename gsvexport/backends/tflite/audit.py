"""What of an artifact's stages runs on the Edge TPU: judged anew from its graphs, and held against what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from gsvexport.artifact.manifest import Manifest
from gsvexport.backends.tflite.report import MEMBER, NOT_RUN, Report, page
from gsvexport.backends.tflite.survey import BACKEND, read, survey
from gsvexport.errors import ArtifactError, BackendError
from gsvexport.files import sha256_file
from gsvexport.model import read_model

METRIC = "mapped_share"


def audit(folder: Path, manifest: Manifest) -> Iterator[tuple[str, str, float, int, str]]:
    """(stage, metric, value, operators, reason) of the placement, judged anew from the graphs of an unpacked artifact.

    The value is NaN where the stored report, or the compiled file, is not that of these graphs.
    """
    device = manifest.target.get("device", {})
    for stage, entry in manifest.stages.items() if device.get("tpu") else ():
        if entry.backend != BACKEND:
            continue
        try:
            stored = read(folder)
            found = survey(folder, stage, entry.file, device, read_model(folder).rate)
            problem = _problem(folder, stored, found)
        except (ArtifactError, BackendError, KeyError, TypeError) as error:  # the last two: a profile that lacks parts
            yield stage, METRIC, float("nan"), 0, " ".join(str(error).split())
            continue
        rows = len(found.placement.rows)
        yield stage, METRIC, float("nan") if problem else stored.mapped_share, rows, problem or _words(stored)


def described(manifest: Manifest, read_member: Callable[[str], bytes]) -> str:
    """The placement report as text; empty where the artifact has none.

    Raises:
        ArtifactError: it cannot be read.
    """
    return page(Report.from_bytes(read_member(MEMBER), MEMBER)) if MEMBER in manifest.members else ""


def _words(report: Report) -> str:
    placed, compiled = report.placement, report.compile
    if compiled.status != NOT_RUN:
        return f"edge tpu compile {compiled.status}: {compiled.reason}"
    cut = "" if placed.cut is None else f" up to {placed.rows[placed.cut].kind} '{placed.rows[placed.cut].name}'"
    return (
        f"predicted: {placed.mapped} of {len(placed.rows)} operators of {placed.file}{cut}; edge tpu compile: not_run"
    )


def _problem(folder: Path, stored: Report, found: Report) -> str:
    """Why a stored report is not that of the graphs beside it."""
    if replace(stored, compile=found.compile) != found:
        return f"{MEMBER} is not what the graphs give"
    if not stored.compile.file:
        return "" if not stored.compile.mapped else f"{MEMBER} has mapped operators and no compiled file"
    model, made = folder / stored.placement.file, folder / stored.compile.file
    if Path(stored.compile.file).name != stored.compile.file or not made.is_file():
        return f"{stored.compile.file} is missing"
    same = sha256_file(model) == stored.compile.model and sha256_file(made) == stored.compile.compiled
    return "" if same else f"{stored.compile.file} was not compiled from this {stored.placement.file}"
