"""Lowering for RKNN: a vocoder as a window of one size, compiled for one chip, and its graph run in the simulator.

vocoder.json             how it is run: windows, masks, what the host does
vocoder.rknn             what Rockchip's compiler made, for one chip
vocoder-window.onnx      what it was made of, with weights in FP16; the simulator runs this
vocoder-placement.json   what the compiler says of where each operator runs
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsvexport.backends.lowered import Calibration, Lowered
from gsvexport.backends.rknn import BACKEND, place
from gsvexport.backends.rknn.chips import chip_of
from gsvexport.backends.rknn.recipe import Recipe
from gsvexport.backends.rknn.toolkit import Toolkit
from gsvexport.errors import BackendError, EnvironmentProblem, missing_package
from gsvexport.model import Model
from gsvexport.npu.lowering import Compiled, Maker, lower_stages

if TYPE_CHECKING:
    from gsvexport.npu.forms import Window

Say = Callable[[str], None]
_SIZES = {"shortest": 64, "guard": 0, "step": 8}
_REPEATS = "a build of the same gives other bytes: the compiler leaves some of them unset"
_INSTEAD = "place the vocoder on onnxruntime: gsvexport --target rk3588"


def lower(
    source: Path,
    model: Model,
    placement: Mapping[str, str],
    out: Path,
    *,
    device: Mapping[str, Any],
    calibration: Calibration | None = None,
    say: Say = lambda _: None,
) -> Lowered:
    """Write the stages of `placement` (stage -> precision) from the folder of a source to `out`.

    `device` holds the target's `npu`. `say` is told what the compiler is at.

    Raises:
        BackendError: a precision that a stage cannot have, a voice without a baked reference, no calibration; the
            compiler failed, or the simulator computes this stage wrongly in every form.
        EnvironmentProblem: rknn-toolkit2 is absent or of another release.
    """
    try:
        maker = _maker(chip_of(device), say)
    except ImportError as error:
        raise missing_package(error.name or "onnx-ir", "building an artifact", "compile") from error
    return Lowered.windows(lower_stages(maker, source, model, placement, out, feeds=calibration, ready=ready))


def ready() -> None:
    """Refuse where the toolkit cannot be used."""
    if problem := place.missing():
        raise EnvironmentProblem(problem, fix=place.BUILDING)


def _maker(chip: str, say: Say) -> Maker:
    import onnx
    import onnx_ir as ir

    from gsvexport.npu.forms import TALL, WIDE
    from gsvexport.passes.base import run_passes
    from gsvexport.passes.store_fp16 import StoreFp16

    @contextmanager
    def compiled(made: Window, stage: str, work: Path, baked: dict[str, str]) -> Iterator[Compiled]:
        graph, model, table = work / f"{stage}-window.onnx", work / f"{stage}.rknn", work / f"{stage}-placement.json"
        # The NPU's weights are FP16 anyway, and the graph travels with the file.
        stored = run_passes(ir.serde.deserialize_model(onnx.load_from_string(made.graph)), [StoreFp16()]).model
        proto = ir.serde.serialize_model(stored)
        graph.write_bytes(proto.SerializeToString(deterministic=True))
        recipe = Recipe(
            model=model.name,
            graph=graph.name,
            placement=table.name,
            chip=chip,
            toolkit=place.KNOWN,
            baked=baked,
            **made.sizes,
        )
        found = tuple(port.name for port in proto.graph.input)
        if found != recipe.inputs:  # a device is given them by their place
            raise BackendError(f"stage {stage}: a window has its inputs in another order", found=", ".join(found))
        with Toolkit(say) as toolkit:
            placed = replace(toolkit.build(graph, model, chip), stage=stage)
            table.write_bytes(placed.text().encode())
            how = f"compiled for {chip} with {place.PACKAGE} {place.KNOWN}; its simulator ran the graph, not the file"
            yield Compiled(recipe, (model, graph, table), (how, placed.words, _REPEATS), toolkit.run)

    makes = f"Rockchip's simulator makes of {chip}'s graph"
    return Maker("rknn", BACKEND.precisions, makes, _INSTEAD, (WIDE, TALL), **_SIZES, compiled=compiled)
