"""Lowering for a browser. T2S has the source's own attention, its weights stored as float16: in wasm a step takes less
time so than with the operators that are fused for native ONNX Runtime, whose caches would go in and out as a whole
(docs/web.md has figures), and WebGPU computes one of those wrongly. All else is what native ONNX Runtime is given."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsvexport import backends
from gsvexport.backends.lowered import Calibration, Lowered
from gsvexport.backends.web import BACKEND
from gsvexport.backends.web.stand_in import NATIVE
from gsvexport.errors import BackendError, missing_package
from gsvexport.model import Model
from gsvexport.stages import stages

if TYPE_CHECKING:
    import onnx_ir as ir


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

    Raises:
        BackendError: a precision that a stage cannot have, or one that needs calibration without it.
    """
    table = stages(model.version)
    for stage, precision in placement.items():
        if precision not in (known := BACKEND.precisions[table[stage].role]):
            raise BackendError(f"backend web cannot lower stage {stage} to {precision}", limit=", ".join(known))
    rest = {stage: precision for stage, precision in placement.items() if table[stage].role != "ar"}
    native = backends.lowering(NATIVE)
    done = native.lower(source, model, rest, out, device=device, calibration=calibration)
    notes, weights = _t2s(source, model, {name: placement[name] for name in placement if name not in rest}, out)
    return Lowered({**done.notes, **notes}, done.decisions, (*done.weights, *weights))


def _t2s(source: Path, model: Model, placement: Mapping[str, str], out: Path) -> tuple[dict[str, tuple[str, ...]], Any]:
    try:
        import onnx_ir as ir

        from gsvexport.graphs.save import save_graphs, stored_weights
        from gsvexport.passes.base import run_passes
        from gsvexport.passes.store_fp16 import StoreFp16
    except ImportError as error:
        raise missing_package(error.name or "onnx-ir", "building an artifact", "compile") from error
    graphs: dict[str, ir.Model] = {}
    notes: dict[str, tuple[str, ...]] = {}
    for stage, precision in placement.items():
        result = run_passes(ir.load(source / model.files[stage]), [] if precision == "fp32" else [StoreFp16()])
        graphs[stage] = result.model
        notes[stage] = tuple(note for _, outcome in result.applied for note in outcome.notes) or ("as in the source",)
    with tempfile.TemporaryDirectory(dir=out) as work:  # the other stages' weights have their name there
        save_graphs(Path(work), graphs, list(graphs))
        for name in ("t2s.safetensors", *(f"{stage}.onnx" for stage in graphs)):
            shutil.move(Path(work) / name, out / name)
    return notes, stored_weights(graphs)
