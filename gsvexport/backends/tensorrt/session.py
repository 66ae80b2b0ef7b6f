"""Runs a stage as a TensorRT engine that was built on this device, or ahead of time, and was proven on this device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from gsvexport.backends import Session
from gsvexport.backends.tensorrt import plans, ready
from gsvexport.backends.tensorrt.cuda import Cuda
from gsvexport.backends.tensorrt.decoder import T2S, DeviceDecoder
from gsvexport.backends.tensorrt.device import import_tensorrt, this_device
from gsvexport.backends.tensorrt.engine import Engine
from gsvexport.backends.tensorrt.ports import graph_feeds, in_place_feeds, in_place_results, stage_results
from gsvexport.backends.tensorrt.space import shared
from gsvexport.backends.tensorrt.windows import Windows
from gsvexport.errors import ArtifactError, BackendError, EnvironmentProblem
from gsvexport.model import read_model

_FIX = "run `gsvexport finalize ARTIFACT` on the device"


class EngineSession:
    """One engine; see `gsvexport.backends.Session`. Which stage of a T2S engine is meant is told by the arrays."""

    def __init__(self, engine: Engine, folder: Path, *, recorded: bool, context: Sequence[int] | None = None) -> None:
        self._engine: Engine | None = engine
        self._dims = read_model(folder).dims
        self._t2s = T2S(engine, self._dims, recorded=recorded) if engine.name == "t2s" else None
        self._name = engine.name
        self._windows = Windows.of(context, engine, read_model(folder).hop) if context else None

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The stage's own ports. A step copies the cache to the device and back: for checks, not for speech."""
        if self._engine is None:
            raise BackendError(f"engine {self._name} was closed", fix="load the voice again")
        stage = self._name if self._t2s is None else "prefill" if "prompt" in feeds else "step"
        if self._t2s is not None and self._engine.aliases:
            window = 0 if stage == "prefill" else self._capacity(feeds["keys"].shape[2] + 1)
            given = in_place_feeds(stage, feeds, self._dims, max(self._t2s.capacities), window)
            return in_place_results(stage, self._engine.run(given), self._dims, given)
        given = graph_feeds(stage, feeds, self._dims)
        if stage == "step":
            given = self._with_capacity(given)
        if self._windows is not None:
            return self._windows.run(self._engine, given)
        return stage_results(stage, self._engine.run(given))

    def decoder(self, step: Any) -> DeviceDecoder:
        """The decoder whose cache stays on the device; `step` is this session itself."""
        if step is not self or self._t2s is None:
            raise BackendError("prefill and step are one engine", fix="build the artifact again")
        return self._t2s.decoder()

    def close(self) -> None:
        """Free the engine, once no decoder uses it any more."""
        self._engine = self._t2s = None

    def _with_capacity(self, given: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The cache [L, 1, S, D], padded to the smallest capacity that the engine was built for."""
        import numpy as np

        rows = given["keys"].shape[2]
        size = self._capacity(rows)
        pad = ((0, 0), (0, 0), (0, size - rows), (0, 0))
        return {**given, **{kind: np.pad(given[kind], pad) for kind in ("keys", "values")}}

    def _capacity(self, rows: int) -> int:
        """The smallest capacity for so many rows; `rows` itself where none is, which no profile takes."""
        assert self._t2s is not None
        return min((one for one in self._t2s.capacities if one >= rows), default=rows)


def open_session(path: Path, *, threads: int | None = None) -> Session:
    """Open the engine of one graph from the cache; see `gsvexport.backends.open_session`.

    Raises:
        BackendError: it has not been built on this device, or failed its checks there.
    """
    folder = path.parent
    recipe = plans.read_recipe(folder)
    entry = next((one for one in recipe["engines"].values() if one["graph"] == path.name), None)
    if entry is None:
        raise ArtifactError(f"{folder / plans.RECIPE} names no engine of {path.name}", fix="get the artifact again")
    manifest = plans.read_manifest(folder)
    try:
        trt = import_tensorrt(ready.module(manifest), ready.wanted(manifest))
        cuda = Cuda()
        device = this_device(cuda, trt)
    except (EnvironmentProblem, BackendError) as error:
        raise BackendError(
            f"{path.name} has no TensorRT engine here: {error.what}", found=error.found, fix=error.fix
        ) from error
    entry, plan = plans.current(folder, entry, device)
    if why := plans.stale(plan):
        raise BackendError(
            f"{path.name} has no TensorRT engine yet: only the device can build it",
            found=f"{why} (for {device.gpu.name}, TensorRT {device.tensorrt}, CUDA {device.gpu.cuda})",
            fix=_FIX,
        )
    notes = plans.notes_of(plan) or {}
    if notes.get("passed") is not True:
        what = "failed its golden vectors" if notes.get("passed") is False else "has not been checked"
        raise BackendError(f"the TensorRT engine of {path.name} {what} on this device", fix=_FIX)
    return EngineSession(
        Engine(plan.file, entry, shared(cuda), trt, plan.kernels),
        folder,
        recorded=bool(notes.get("recorded")),
        context=entry.get("context"),
    )


def finished(folder: Path) -> bool:
    """Whether every engine of the unpacked artifact in `folder` is there for this device, and passed."""
    try:
        recipe, manifest = plans.read_recipe(folder), plans.read_manifest(folder)
        device = this_device(Cuda(), import_tensorrt(ready.module(manifest)))
    except (EnvironmentProblem, BackendError):
        return False
    made = [plans.current(folder, entry, device)[1] for entry in recipe["engines"].values()]
    return all(plan.file.is_file() and (plans.notes_of(plan) or {}).get("passed") is True for plan in made)
