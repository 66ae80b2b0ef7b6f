"""Lowering for ONNX Runtime: each stage through the passes of its recipe; T2S's weights in a file of their own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsvexport.artifact.manifest import Decisions
from gsvexport.backends.lowered import Calibration, Lowered
from gsvexport.backends.onnxruntime import BACKEND
from gsvexport.backends.onnxruntime.recipes import recipe
from gsvexport.errors import BackendError, missing_package
from gsvexport.model import Model
from gsvexport.stages import stages

if TYPE_CHECKING:
    import onnx_ir as ir

    from gsvexport.backends.onnxruntime.int8 import Quantised


def lower(
    source: Path,
    model: Model,
    placement: Mapping[str, str],
    out: Path,
    *,
    device: Mapping[str, Any],
    calibration: Calibration | None = None,
) -> Lowered:
    """Write the stages of `placement` (stage -> precision) from the folder of a source to `out`.

    `device` holds the target's processor `features`. A weight that several stages share is stored once.

    Raises:
        BackendError: a precision that a stage cannot have, or one that needs calibration without it.
    """
    try:
        import onnx_ir as ir

        from gsvexport.graphs.save import save_graphs, stored_weights
        from gsvexport.passes.base import run_passes
    except ImportError as error:
        raise missing_package(error.name or "onnx-ir", "building an artifact", "compile") from error
    table = stages(model.version)
    graphs: dict[str, ir.Model] = {}
    notes: dict[str, tuple[str, ...]] = {}
    decisions: dict[str, Decisions] = {}
    for stage, precision in placement.items():
        graph = ir.load(source / model.files[stage])
        result = run_passes(graph, recipe(stage, table[stage].role, precision, model, device["features"]))
        graphs[stage] = result.model
        notes[stage] = tuple(note for _, outcome in result.applied for note in outcome.notes) or ("as in the source",)
        if precision in BACKEND.calibrated:
            integer = _judged(stage, source / model.files[stage], graphs[stage], precision, device, calibration)
            graphs[stage], decisions[stage] = integer.model, integer.decisions
            notes[stage] += integer.notes
    save_graphs(out, graphs, [stage for stage in graphs if table[stage].role == "ar"])
    return Lowered(notes, decisions, stored_weights(graphs))


def _judged(
    stage: str,
    plain: Path,
    graph: ir.Model,
    precision: str,
    device: Mapping[str, Any],
    calibration: Calibration | None,
) -> Quantised:
    """The float form `graph` of the source's graph `plain` on integers, as far as its gates allow."""
    from gsvexport.backends.onnxruntime import dynamic
    from gsvexport.backends.onnxruntime.int8 import quantise, quantised_tensors

    if calibration is None:
        raise BackendError(f"stage {stage}: {precision} needs calibration", fix="build it with gsvexport --target")
    damage, feeds = partial(calibration.damage, stage), calibration.feeds(stage)
    if precision == "int8-dynamic":
        return dynamic.quantise(stage, plain, graph, feeds, device["features"], damage)
    ranges = calibration.ranges(stage, graph, quantised_tensors(graph))
    return quantise(graph, ranges, feeds, device["features"], damage)
