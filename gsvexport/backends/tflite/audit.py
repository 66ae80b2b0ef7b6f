"""What an artifact's TFLite stages are, and what of them runs on the Edge TPU: judged anew from the graphs themselves,
and held against what the artifact says."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from gsvexport.artifact.manifest import Manifest
from gsvexport.backends.tflite import vela
from gsvexport.backends.tflite.flatbuffer import load
from gsvexport.backends.tflite.integers import faults
from gsvexport.backends.tflite.report import MEMBER, NOT_RUN, Report, page
from gsvexport.backends.tflite.session import read_recipe
from gsvexport.backends.tflite.survey import BACKEND, read, survey
from gsvexport.errors import ArtifactError, BackendError, EnvironmentProblem
from gsvexport.files import sha256_file
from gsvexport.model import read_model

METRIC = "mapped_share"
_SHOWN = 5  # faults that a reason lists


Finding = tuple[str, str, float | None, int, str]


def audit(folder: Path, manifest: Manifest) -> Iterator[Finding]:
    """(stage, metric, value, how many, reason) of the graphs and their placement, in an unpacked artifact.

    The value is NaN where something is not what the artifact says, and None where a package to read it with is missing.
    """
    for stage, entry in manifest.stages.items():
        if entry.backend == BACKEND:
            try:
                yield from (*_graphs(folder, manifest, stage), *_placement(folder, manifest, stage))
            except EnvironmentProblem as error:
                for metric in ("ports", "integer_faults", "declared_precision", METRIC):
                    yield stage, metric, None, 0, " ".join(str(error).split())


def _graphs(folder: Path, manifest: Manifest, stage: str) -> Iterator[Finding]:
    """Whether the stage's first part is integers throughout and fits its ports, and which share of weights is int8."""
    ports = read_model(folder).stages[stage]
    try:
        output, _, parts = read_recipe(folder / manifest.stages[stage].file)
        graphs = [load(folder / part.file) for part in parts]
    except (ArtifactError, BackendError) as error:
        yield stage, "integer_faults", float("nan"), 0, " ".join(str(error).split())
        return
    first = graphs[0]
    have = {first.tensors[index].name: first.tensors[index].shape[-1] for index in first.inputs}
    wrong = [] if output == ports.outputs[0].name else [f"output {output} instead of {ports.outputs[0].name}"]
    wrong += [f"no input {port.name} with {port.shape[1]} channels"
              for port in ports.inputs if have.get(port.name) != port.shape[1]]  # fmt: skip
    wrong += [f"input {name} is unknown" for name in have.keys() - {port.name for port in ports.inputs}]
    yield stage, "ports", len(wrong), len(have) + 1, "; ".join(wrong)
    found = faults(first, manifest.stages[stage].precision)
    yield stage, "integer_faults", len(found), len(first.tensors), "; ".join(found[:_SHOWN])
    stored: Counter[str] = Counter()
    for tensor in (tensor for graph in graphs for tensor in graph.tensors if tensor.data is not None):
        stored[tensor.dtype] += math.prod(tensor.shape)
    weights = stored["int8"] + stored["float32"]
    words = f"{stored['int8']} int8, {stored['float32']} fp32"
    yield stage, "declared_precision", stored["int8"] / weights if weights else 0.0, weights, words


def _placement(folder: Path, manifest: Manifest, stage: str) -> Iterator[Finding]:
    """The share that the accelerator runs."""
    device, entry = manifest.target.get("device", {}), manifest.stages[stage]
    if device.get("npu"):
        try:
            made = vela.read(folder)
            fault = vela.problem(folder, made, device["npu"]["chip"])
        except (ArtifactError, BackendError) as error:
            yield stage, METRIC, float("nan"), 0, " ".join(str(error).split())
            return
        words = (
            f"{made.on_npu} of {made.operators} operators of {made.file} on {made.chip}, as Vela {made.version} says"
        )
        yield stage, METRIC, float("nan") if fault else made.mapped_share, made.operators, fault or words
    if device.get("tpu"):
        try:
            stored = read(folder)
            found = survey(folder, stage, entry.file, device, read_model(folder).rate)
            problem = _problem(folder, stored, found)
        except (ArtifactError, BackendError) as error:
            yield stage, METRIC, float("nan"), 0, " ".join(str(error).split())
            return
        rows = len(found.placement.rows)
        yield stage, METRIC, float("nan") if problem else stored.mapped_share, rows, problem or _words(stored)


def described(manifest: Manifest, read_member: Callable[[str], bytes]) -> str:
    """The placement report as text; empty where the artifact has none.

    Raises:
        ArtifactError: it cannot be read.
    """
    if vela.MEMBER in manifest.members:
        return vela.parse(read_member(vela.MEMBER), vela.MEMBER).page()
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
