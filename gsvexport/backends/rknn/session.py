"""Runs a compiled stage in windows: on a Rockchip's NPU with rknn-toolkit-lite2, or elsewhere in the simulator of the
toolkit, which runs the graph that the file was made of and not the file."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsvexport.backends.rknn import place
from gsvexport.backends.rknn.about import differs
from gsvexport.backends.rknn.recipe import Recipe, read_recipe
from gsvexport.backends.rknn.toolkit import Toolkit, same
from gsvexport.errors import ArtifactError, BackendError, EnvironmentProblem
from gsvexport.npu.windows import AGAIN, WindowSession, remembered
from gsvexport.untrusted import external, reading

Array = NDArray[Any]


def open_session(path: Path, *, threads: int | None = None) -> WindowSession:
    """Open the files that the recipe `path` names; see `gsvexport.backends.open_session`. Threads are the chip's.

    Raises:
        ArtifactError: the recipe is damaged, the file is for another chip, or it is not what the toolkit makes of the
            graph beside it.
        EnvironmentProblem: neither rknn-toolkit-lite2 is installed, nor the toolkit.
        BackendError: the file cannot be loaded, or the graph not be built.
    """
    recipe = read_recipe(path)
    try:
        model, graph = (reading.inside(path.parent, name) for name in (recipe.model, recipe.graph))
        external.check_external_once(graph)
        problem = differs(model, recipe.chip)
    except (OSError, ValueError, external.NoGraph, reading.Refused) as error:
        raise ArtifactError(f"{path}: {recipe.model}, {recipe.graph}: {reading.why(error)}", fix=AGAIN) from error
    if problem:
        raise ArtifactError(f"{recipe.model} is a file for another chip: {problem}", fix=AGAIN)
    if importlib.util.find_spec("rknnlite") is not None:
        return _on_device(path, recipe, model)
    if problem := place.missing():
        fix = f"on a board: {place.ON_DEVICE}; elsewhere: {place.BUILDING}"
        raise EnvironmentProblem(f"{recipe.model} can neither be run nor simulated: {problem}", fix=fix)
    return _simulated(path, recipe, model, graph)


def _simulated(path: Path, recipe: Recipe, model: Path, graph: Path) -> WindowSession:
    """In the simulator. It cannot load a file; but the same run of the toolkit makes the file anew, and that has to be
    the artifact's, except for the few bytes that the compiler never sets."""
    if recipe.toolkit != place.KNOWN:
        raise EnvironmentProblem(
            f"{recipe.model} was made by {place.PACKAGE} {recipe.toolkit}, and here is {place.KNOWN}",
            fix="verify it with the release of gsvexport that built it, or build it again",
        )
    toolkit = Toolkit()
    try:
        with tempfile.TemporaryDirectory() as work:
            again = Path(work) / recipe.model
            toolkit.build(graph, again, recipe.chip)
            if not same(model, again):
                raise ArtifactError(
                    f"{recipe.model} is not what {place.PACKAGE} {place.KNOWN} makes of {recipe.graph}", fix=AGAIN
                )
    except BaseException:
        toolkit.end()
        raise
    return WindowSession(path, recipe, remembered(lambda feeds: toolkit.run([feeds])[0]), toolkit.end)


def _on_device(path: Path, recipe: Recipe, model: Path) -> WindowSession:
    """On the NPU."""
    from rknnlite.api import RKNNLite

    lite = RKNNLite()
    for what, code in (("load", lite.load_rknn(str(model))), ("start", lite.init_runtime())):
        if code:
            lite.release()
            raise BackendError(
                f"{recipe.model}, made for {recipe.chip}: rknn-toolkit-lite2 cannot {what} it, it returned {code}",
                fix=f"it needs a {recipe.chip}, and a librknnrt.so of {recipe.toolkit} or newer",
            )

    def window(feeds: dict[str, Array]) -> Array:
        given = [feeds[name] for name in recipe.inputs]
        found = lite.inference(inputs=given, data_format=["nchw"] * len(given))
        if not found:
            raise BackendError(f"{recipe.model} does not run on this {recipe.chip}")
        return np.asarray(found[0], np.float32)

    return WindowSession(path, recipe, window, lite.release)
