"""Lowering for QNN: a vocoder as a window of one size, compiled for one chip and believed only after it has run.

vocoder.json           how it is run: windows, masks, what the host does
vocoder-context.onnx   what Qualcomm's compiler made: one node, for one chip
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsvexport.artifact.tools import tool_version
from gsvexport.backends.lowered import Calibration, Lowered
from gsvexport.backends.qnn import BACKEND, plugin, vendor
from gsvexport.backends.qnn.chips import Chip, chip_of
from gsvexport.backends.qnn.recipe import Recipe
from gsvexport.errors import EnvironmentProblem, missing_package
from gsvexport.model import Model
from gsvexport.npu.lowering import Compiled, Maker, lower_stages

if TYPE_CHECKING:
    from gsvexport.npu.forms import Window

Say = Callable[[str], None]


# QAIRT 2.51 says nothing and computes wrongly: [1, k] convolutions over few samples (at 16 frames; those of [k, 1] are
# right, and a full-size vocoder of them was not compiled after 600 s); the last samples behind a ConvTranspose, which
# the masks take away; Tanh by up to 0.005, which the host computes.
_SIZES = {"shortest": 64, "guard": 2, "step": 8}
_INSTEAD = "place the vocoder on onnxruntime: gsvexport --target arm64-android"


def _maker(chip: Chip, say: Say) -> Maker:
    from gsvexport.npu.forms import TALL, WIDE

    @contextmanager
    def compiled(made: Window, stage: str, work: Path, baked: dict[str, str]) -> Iterator[Compiled]:
        plain, context = work / f"{stage}.onnx", work / f"{stage}-context.onnx"
        plain.write_bytes(made.graph)
        qairt = vendor.compile_for(plain, context, chip, say)
        package = tool_version(plugin.PACKAGE)
        recipe = Recipe(context=context.name, chip=chip, qairt=qairt, package=package, baked=baked, **made.sizes)
        how = f"compiled for {chip.name} (v{chip.htp_arch}) with QAIRT {qairt}, run as compiled in its emulation"
        yield Compiled(recipe, (context,), (how,), lambda given: vendor.emulate(context, given, chip, say))

    makes = f"Qualcomm's compiler makes for {chip.name}"
    return Maker("qnn", BACKEND.precisions, makes, _INSTEAD, (WIDE, TALL), **_SIZES, compiled=compiled)


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
            compiler failed, or computes this stage wrongly in every form.
        EnvironmentProblem: onnxruntime-qnn is absent or of another release, or this machine cannot emulate.
    """
    try:
        maker = _maker(chip_of(device), say)
    except ImportError as error:
        raise missing_package(error.name or "onnx-ir", "building an artifact", "compile") from error
    return Lowered.windows(lower_stages(maker, source, model, placement, out, feeds=calibration, ready=ready))


def ready() -> None:
    """Refuse where the compiler, or its emulation, cannot be used."""
    if problem := plugin.missing():
        raise EnvironmentProblem(problem, fix=BACKEND.needs["lowering"].fix)
    if not plugin.emulates():
        fix = "build on x86-64 Linux"
        raise EnvironmentProblem("what is compiled here could not be run: only x86-64 has the emulation", fix=fix)
