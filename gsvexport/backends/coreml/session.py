"""Runs a stage with Core ML, in windows: on macOS, through coremltools. On a phone an app does (docs/coreml.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsvexport.backends.coreml import BACKEND, package
from gsvexport.backends.coreml.recipe import Recipe, read_recipe
from gsvexport.backends.coreml.runtime import missing
from gsvexport.errors import ArtifactError, BackendError, EnvironmentProblem
from gsvexport.npu.windows import AGAIN, WindowSession
from gsvexport.untrusted import reading

Array = NDArray[Any]


def open_session(path: Path, *, threads: int | None = None) -> WindowSession:
    """Open the package that the recipe `path` names; see `gsvexport.backends.open_session`. Threads are the system's.

    Raises:
        ArtifactError: the recipe or the package is damaged.
        EnvironmentProblem: Core ML or coremltools is not here.
        BackendError: Core ML does not load the package.
    """
    recipe, folder, _ = read_stage(path)
    if problem := missing():
        fix = f"{BACKEND.needs['session'].fix}; gsvexport verify ARTIFACT reads it here"
        raise EnvironmentProblem(f"{recipe.package} cannot be run: {problem}", fix=fix)
    import coremltools

    try:
        model = coremltools.models.MLModel(str(folder))
    except Exception as error:  # Core ML's exceptions share no base class of their own
        raise BackendError(f"Core ML does not load {recipe.package}", problems=[str(error).strip()]) from error

    def window(feeds: dict[str, Array]) -> Array:
        try:
            found = model.predict(feeds)[recipe.output]
        except Exception as error:  # Core ML's exceptions share no base class of their own
            raise BackendError(f"Core ML does not run {recipe.package}", problems=[str(error).strip()]) from error
        return np.asarray(found, np.float32)

    return WindowSession(path, recipe, window)


def read_stage(path: Path) -> tuple[Recipe, Path, package.Program]:
    """The recipe `path`, the package that it names, and what that computes by our own reading.

    Raises:
        ArtifactError: one of them is damaged; names it.
    """
    recipe = read_recipe(path)
    try:
        folder = reading.inside(path.parent, recipe.package)
        return recipe, folder, package.read(folder)
    except (OSError, reading.Refused) as error:
        raise ArtifactError(f"{path}: {recipe.package} {reading.why(error)}", fix=AGAIN) from error
