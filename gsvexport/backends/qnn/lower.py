"""Lowering for QNN: a vocoder as a window of one size, compiled for one chip and believed only after it has run.

vocoder.json           how it is run: windows, masks, what the host does
vocoder-context.onnx   what Qualcomm's compiler made: one node, for one chip

Every form of the window is compiled, emulated on frames that the voice really makes, and compared with ONNX Runtime.
The first that agrees is taken: the compiler gets single layers wrong without a word (see `FORMS`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gsvexport.artifact.manifest import Weights
from gsvexport.artifact.tools import tool_version
from gsvexport.backends.lowered import Calibration, Lowered, digits
from gsvexport.backends.qnn import BACKEND, plugin, vendor
from gsvexport.backends.qnn.chips import chip_of
from gsvexport.backends.qnn.recipe import MASK, Recipe
from gsvexport.backends.qnn.session import sha256, window_feeds
from gsvexport.errors import BackendError, EnvironmentProblem, missing_package
from gsvexport.files import canonical_json
from gsvexport.model import Model
from gsvexport.stages import stages

if TYPE_CHECKING:
    from gsvexport.backends.qnn.forms import Form

Array = NDArray[Any]
Say = Callable[[str], None]
LEAST_DB, MOST_ERROR = 40.0, 0.02  # a vocoder in FP16 has 48 to 63 dB and 0.01; its faults have 4 to 32 dB or 0.07
_GUARD = 2  # frames at a window's end that are always masked: the compiler gets the last samples wrong
_SHORTEST = 64  # frames of a window: at 16 some convolutions come out wrong
_STEP = 8


@dataclass(frozen=True)
class Measured:
    """A compiled form against ONNX Runtime: the least SNR in dB of a window, and the largest error of a sample."""

    form: Form
    snr: float
    error: float

    @property
    def agrees(self) -> bool:
        """Whether it may be shipped; NaN may not."""
        return self.snr >= LEAST_DB and self.error <= MOST_ERROR

    def __str__(self) -> str:
        verdict = (
            "taken" if self.agrees else f"refused: at least {LEAST_DB:g} dB and at most {MOST_ERROR:g} are asked for"
        )
        return f"{self.form.words}: {self.snr:.1f} dB, largest error {digits(self.error):g}; {verdict}"


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
        import onnx_ir as ir

        from gsvexport.backends.qnn.forms import FORMS, window
    except ImportError as error:
        raise missing_package(error.name or "onnx-ir", "building an artifact", "compile") from error
    chip, table = chip_of(device), stages(model.version)
    notes: dict[str, tuple[str, ...]] = {}
    weights: list[Weights] = []
    files: dict[str, str] = {}
    for stage, precision in placement.items():
        if precision not in (known := BACKEND.precisions[table[stage].role]):
            can = ", ".join(known) or "nothing: only a vocoder is convolutions throughout"
            raise BackendError(f"backend qnn cannot lower stage {stage} to {precision}", limit=can)
        if calibration is None:
            raise BackendError(f"stage {stage}: backend qnn needs calibration", fix="build it with gsvexport --target")
        if problem := plugin.missing():
            raise EnvironmentProblem(problem, fix=BACKEND.needs["lowering"].fix)
        if not plugin.emulates():
            fix = "build on x86-64 Linux"
            raise EnvironmentProblem("what is compiled here could not be run: only x86-64 has the emulation", fix=fix)
        graph = ir.load(source / model.files[stage])
        baked = _baked(source, model, stage)
        found: list[Measured] = []
        for form in FORMS:
            with tempfile.TemporaryDirectory() as work:
                made = window(graph, table[stage], model, baked, form, shortest=_SHORTEST, guard=_GUARD, step=_STEP)
                plain, context = Path(work) / f"{stage}.onnx", Path(work) / f"{stage}-context.onnx"
                plain.write_bytes(made.graph)
                qairt = vendor.compile_for(plain, context, chip, say)
                recipe = Recipe(
                    context=context.name,
                    chip=chip,
                    qairt=qairt,
                    package=tool_version(plugin.PACKAGE),
                    baked={name: sha256(value) for name, value in baked.items()},
                    **made.sizes,
                )
                given = [window_feeds(one, recipe) for one in _windows(calibration.feeds(stage), recipe)]
                found.append(_measured(form, made.graph, given, vendor.emulate(context, given, chip, say), recipe))
                if found[-1].agrees:
                    files[stage] = f"{stage}.json"
                    (out / recipe.context).write_bytes(context.read_bytes())
                    (out / files[stage]).write_bytes(canonical_json(recipe.to_json()).encode())
                    break
        else:
            raise BackendError(
                f"stage {stage}: what Qualcomm's compiler makes for {chip.name} computes something else",
                problems=[str(one) for one in found],
                fix="place the vocoder on onnxruntime: gsvexport --target arm64-android",
            )
        words = f"windows of {recipe.window} frames, {recipe.valid} of them used, "
        words += f"{recipe.left} and {recipe.right} looked at before and after"
        how = f"compiled for {chip.name} (v{chip.htp_arch}) with QAIRT {recipe.qairt}, run as compiled in its emulation"
        notes[stage] = (*made.notes, words, how, *map(str, found))
        weights.append(Weights((stage,), "fp16", 2 * made.weights))
    return Lowered(notes, {}, tuple(weights), files)


def _baked(source: Path, model: Model, stage: str) -> dict[str, Array]:
    """The stage's inputs that a voice with a reference never changes."""
    ports = [port.name for port in stages(model.version)[stage].inputs]
    if "ge" in ports and "ge" not in model.baked:
        fix = "give its voice.toml a [reference] table"
        raise BackendError(f"stage {stage}: a voice without a baked reference cannot be compiled for an NPU", fix=fix)
    return {name: np.load(source / model.baked[name]) for name in ports if name in model.baked}


def _windows(feeds: Sequence[Mapping[str, Array]], recipe: Recipe) -> list[Array]:
    """Frames that the voice made: a whole window out of the longest sentence, and its end, half as long."""
    longest = max((one[recipe.input] for one in feeds), key=lambda one: one.shape[2])
    middle = max(0, (longest.shape[2] - recipe.valid) // 2)
    return [longest[:, :, middle : middle + recipe.valid], longest[:, :, -(recipe.valid // 2) :]]


def _measured(form: Form, graph: bytes, given: list[dict[str, Array]], got: list[Array], recipe: Recipe) -> Measured:
    """What the emulation gave beside ONNX Runtime's own result of the same graph, with the host's part."""
    import onnxruntime

    exact = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    host = np.tanh if recipe.tail == "tanh" else np.asarray
    ratios, errors = [], []
    for feeds, raw in zip(given, got, strict=True):
        rate = max(recipe.masks, default=1)
        kept = int(feeds[f"{MASK}{rate}"].sum()) // rate * recipe.rate
        want, have = (host(one)[..., :kept].astype(np.float64) for one in (exact.run(None, feeds)[0], raw))
        if not np.isfinite(have).all():
            return Measured(form, float("nan"), float("nan"))
        error = want - have
        ratios.append(10 * np.log10((want**2).sum() / max((error**2).sum(), 1e-30)))
        errors.append(np.abs(error).max())
    return Measured(form, digits(float(min(ratios))), float(max(errors)))
