"""Runs a compiled stage with Qualcomm's provider, in windows: on a Snapdragon's NPU, or in the emulation on x86-64."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsvexport.backends.qnn import plugin
from gsvexport.backends.qnn.chips import ABOUT
from gsvexport.backends.qnn.recipe import MASK, Recipe, read_recipe, spans
from gsvexport.errors import ArtifactError, BackendError
from gsvexport.untrusted import external, reading

Array = NDArray[Any]
_AGAIN = "get the artifact again, or build it again"


class QnnSession:
    """One compiled stage; see `gsvexport.backends.Session`."""

    def __init__(self, path: Path, recipe: Recipe, session: Any) -> None:
        self._path, self._recipe, self._session = path, recipe, session
        self._running = threading.Lock()  # one NPU, and the emulation holds the arrays of a run

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Every output by name. Arrays are [1, C, F] or what is a constant in the context: callers check them."""
        recipe = self._recipe
        for name, digest in recipe.baked.items():
            if name in feeds and sha256(feeds[name]) != digest:
                raise BackendError(
                    f"{self._path}: '{name}' is another voice's, and the context was compiled with the artifact's own",
                    fix="leave the voice as it is, or build the artifact with another reference",
                )
        given, found = np.asarray(feeds[recipe.input], np.float32), []
        with self._running:
            if self._session is None:
                raise BackendError(f"{self._path} was closed", fix="load the voice again")
            for one in spans(given.shape[2], recipe):
                y = self._window(window_feeds(given[:, :, one.start : one.stop], recipe))
                found.append(y[..., (one.first - one.start) * recipe.rate : (one.last - one.start) * recipe.rate])
        sound = np.concatenate(found, axis=-1)
        return {recipe.output: np.tanh(sound) if recipe.tail == "tanh" else sound}

    def close(self) -> None:
        """Free the context's memory."""
        with self._running:
            self._session = None

    def _window(self, feeds: dict[str, Array]) -> Array:
        try:
            found: Array = self._session.run([self._recipe.output], feeds)[0]
        except Exception as error:  # the runtime's exceptions share no base class of their own
            raise BackendError(
                f"{self._recipe.context} does not run on {self._recipe.chip.name}", problems=[str(error).strip()]
            ) from error
        rank = 2 if self._recipe.samples else 3
        if found.ndim != rank or found.shape[-1] != self._recipe.window * self._recipe.rate:
            raise ArtifactError(f"{self._recipe.context} gives {list(found.shape)}", fix=_AGAIN)
        return found


def window_feeds(frames: Array, recipe: Recipe) -> dict[str, Array]:
    """What a compiled window is given for frames [1, C, n] with n up to `valid`; zeros beyond."""
    count = frames.shape[2]
    given = np.zeros((1, frames.shape[1], recipe.window), np.float32)
    given[:, :, :count] = frames
    feeds = {recipe.input: given}
    for rate in recipe.masks:
        mask = np.zeros((1, 1, recipe.window * rate), np.float32)
        mask[:, :, : count * rate] = 1
        feeds[f"{MASK}{rate}"] = mask
    return feeds


def sha256(value: Array) -> str:
    """SHA-256 over an array as float32, row by row."""
    return hashlib.sha256(np.ascontiguousarray(value, np.float32).tobytes()).hexdigest()


def open_session(path: Path, *, threads: int | None = None) -> QnnSession:
    """Open the context that the recipe `path` names; see `gsvexport.backends.open_session`. Threads are the chip's.

    Raises:
        ArtifactError: the recipe is damaged, or the context is for another chip than it says.
    """
    recipe = read_recipe(path)
    try:
        context = reading.inside(path.parent, recipe.context)
        external.check_external_once(context)
    except (OSError, reading.Refused) as error:
        raise ArtifactError(f"{path}: {recipe.context} {reading.why(error)}", fix=_AGAIN) from error
    options = recipe.chip.options if plugin.emulates() else {}  # a device knows what it is
    device = plugin.device()
    try:
        session = plugin.open_graph(context, options, {}, device)
    except Exception as error:  # the runtime's exceptions share no base class of their own
        raise BackendError(
            f"{recipe.context}, compiled for {recipe.chip.name} with QAIRT {recipe.qairt}, cannot be loaded here",
            problems=[str(error).strip()],
            fix=f"it needs a {recipe.chip.name} and {plugin.PACKAGE} {recipe.package} or newer",
        ) from error
    words = session.get_modelmeta().custom_metadata_map.get(ABOUT, "")
    if problem := recipe.chip.differs(words):
        raise ArtifactError(f"{recipe.context} is a context for another chip: {problem}", fix=_AGAIN)
    return QnnSession(path, recipe, session)
