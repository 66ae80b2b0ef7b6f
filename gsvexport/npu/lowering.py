"""Lowers convolutional stages to windows of one size, each form of which is compiled, run on frames that the voice
really makes, and compared with ONNX Runtime. The first that agrees is taken: compilers for NPUs get single layers wrong
without a word.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gsvexport.artifact.manifest import Weights, digits
from gsvexport.errors import BackendError
from gsvexport.files import canonical_json
from gsvexport.npu.windows import MASK, Windows, sha256, window_feeds
from gsvexport.stages import stages

if TYPE_CHECKING:
    from gsvexport.model import Model
    from gsvexport.npu.forms import Form, Window

Array = NDArray[Any]
Say = Callable[[str], None]
LEAST_DB, MOST_ERROR = 40.0, 0.02  # a vocoder in FP16 has 48 to 65 dB and 0.01; faults have 4 to 32 dB or 0.07


class Feeds(Protocol):
    """What a calibration keeps; see `gsvexport.backends.lowered.Calibration`."""

    def feeds(self, stage: str) -> Sequence[Mapping[str, NDArray[Any]]]:
        """What the stage was given, utterance by utterance."""
        ...


@dataclass(frozen=True)
class Compiled:
    """What a compiler made of one window: the recipe, the files that it names, in the folder that was given, what was
    done in words, and what runs it."""

    recipe: Windows
    files: tuple[Path, ...]
    notes: tuple[str, ...]
    run: Callable[[list[dict[str, Array]]], list[Array]]


@dataclass(frozen=True)
class Maker:
    """A compiler, of a backend that has `precisions` by role. `makes` is what it makes, in words, and `instead`
    what to do where that is wrong. Windows have `shortest` frames or more, in multiples of `step`; of each the last
    `guard` are always masked. `compiled` compiles a window of a stage in a folder; the digests are those of what is a
    constant in it."""

    backend: str
    precisions: Mapping[str, Sequence[str]]
    makes: str
    instead: str
    forms: tuple[Form, ...]
    shortest: int
    guard: int
    step: int
    compiled: Callable[[Window, str, Path, dict[str, str]], AbstractContextManager[Compiled]]


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


@dataclass(frozen=True)
class Taken:
    """A stage as it was lowered: its recipe's file, what was done, in words, and what it stored."""

    file: str
    notes: tuple[str, ...]
    weights: Weights


def lower_stages(
    maker: Maker,
    source: Path,
    model: Model,
    placement: Mapping[str, str],
    out: Path,
    *,
    feeds: Feeds | None,
    ready: Callable[[], None],
) -> dict[str, Taken]:
    """Write the stages of `placement` (stage -> precision) of the source in the folder `source` to `out`; `ready`
    raises where the compiler cannot be used here.

    Raises:
        BackendError: a precision that a stage cannot have, no calibration; see `lower_stage`.
    """
    taken: dict[str, Taken] = {}
    for stage, precision in placement.items():
        if precision not in (known := maker.precisions[stages(model.version)[stage].role]):
            can = ", ".join(known) or "nothing: only a vocoder is convolutions throughout"
            raise BackendError(f"backend {maker.backend} cannot lower stage {stage} to {precision}", limit=can)
        if feeds is None:
            fix = "build it with gsvexport --target"
            raise BackendError(f"stage {stage}: backend {maker.backend} needs calibration", fix=fix)
        ready()
        taken[stage] = lower_stage(maker, source, model, stage, feeds, out)
    return taken


def lower_stage(maker: Maker, source: Path, model: Model, stage: str, feeds: Feeds, out: Path) -> Taken:
    """Write a stage of the source in the folder `source` to `out`, in the first of the maker's forms that agrees.

    Raises:
        BackendError: a voice without a baked reference; the compiler failed, or computes this stage wrongly in every
            form.
    """
    import onnx_ir as ir

    from gsvexport.npu.forms import window

    graph, table = ir.load(source / model.files[stage]), stages(model.version)[stage]
    baked = _baked(source, model, stage)
    digests = {name: sha256(value) for name, value in baked.items()}
    found: list[Measured] = []
    sizes = {"shortest": maker.shortest, "guard": maker.guard, "step": maker.step}
    for form in maker.forms:
        made = window(graph, table, model, baked, form, **sizes)
        with tempfile.TemporaryDirectory() as work, maker.compiled(made, stage, Path(work), digests) as compiled:
            recipe = compiled.recipe
            given = [window_feeds(one, recipe) for one in _windows(feeds.feeds(stage), recipe)]
            found.append(_measured(form, made.graph, given, compiled.run(given), recipe))
            if found[-1].agrees:
                file = f"{stage}.json"
                for path in compiled.files:
                    kept = out / path.relative_to(work)
                    kept.parent.mkdir(parents=True, exist_ok=True)
                    kept.write_bytes(path.read_bytes())
                (out / file).write_bytes(canonical_json(recipe.to_json()).encode())
                words = f"windows of {recipe.window} frames, {recipe.valid} of them used, "
                words += f"{recipe.left} and {recipe.right} looked at before and after"
                notes = (*made.notes, words, *compiled.notes, *map(str, found))
                return Taken(file, notes, Weights((stage,), "fp16", 2 * made.weights))
    raise BackendError(
        f"stage {stage}: what {maker.makes} computes something else",
        problems=[str(one) for one in found],
        fix=maker.instead,
    )


def _baked(source: Path, model: Model, stage: str) -> dict[str, Array]:
    """The stage's inputs that a voice with a reference never changes."""
    ports = [port.name for port in stages(model.version)[stage].inputs]
    if "ge" in ports and "ge" not in model.baked:
        fix = "give its voice.toml a [reference] table"
        raise BackendError(f"stage {stage}: a voice without a baked reference cannot be compiled for an NPU", fix=fix)
    return {name: np.load(source / model.baked[name]) for name in ports if name in model.baked}


def _windows(feeds: Sequence[Mapping[str, Array]], recipe: Windows) -> list[Array]:
    """Frames that the voice made: a whole window out of the longest sentence, and its end, half as long."""
    longest = max((one[recipe.input] for one in feeds), key=lambda one: one.shape[2])
    middle = max(0, (longest.shape[2] - recipe.valid) // 2)
    return [longest[:, :, middle : middle + recipe.valid], longest[:, :, -(recipe.valid // 2) :]]


def _measured(form: Form, graph: bytes, given: list[dict[str, Array]], got: list[Array], recipe: Windows) -> Measured:
    """What the vendor's tool gave beside ONNX Runtime's own result of the same graph, with the host's part."""
    import onnxruntime

    exact = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    ratios, errors = [], []
    for feeds, raw in zip(given, got, strict=True):
        rate = max(recipe.masks, default=1)
        kept = int(feeds[f"{MASK}{rate}"].sum()) // rate * recipe.rate
        want, have = (recipe.host(one)[..., :kept].astype(np.float64) for one in (exact.run(None, feeds)[0], raw))
        if not np.isfinite(have).all():
            return Measured(form, float("nan"), float("nan"))
        error = want - have
        ratios.append(10 * np.log10((want**2).sum() / max((error**2).sum(), 1e-30)))
        errors.append(np.abs(error).max())
    return Measured(form, digits(float(min(ratios))), float(max(errors)))
