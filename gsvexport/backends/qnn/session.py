"""Runs a compiled stage with Qualcomm's provider, in windows: on a Snapdragon's NPU, or in the emulation on x86-64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from gsvexport.backends.qnn import plugin
from gsvexport.backends.qnn.chips import ABOUT
from gsvexport.backends.qnn.recipe import read_recipe
from gsvexport.errors import ArtifactError, BackendError
from gsvexport.npu.windows import AGAIN, WindowSession, remembered
from gsvexport.untrusted import external, reading

Array = NDArray[Any]


def open_session(path: Path, *, threads: int | None = None) -> WindowSession:
    """Open the context that the recipe `path` names; see `gsvexport.backends.open_session`. Threads are the chip's.

    Raises:
        ArtifactError: the recipe is damaged, or the context is for another chip than it says.
    """
    recipe = read_recipe(path)
    try:
        context = reading.inside(path.parent, recipe.context)
        external.check_external_once(context)
    except (OSError, reading.Refused) as error:
        raise ArtifactError(f"{path}: {recipe.context} {reading.why(error)}", fix=AGAIN) from error
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
        raise ArtifactError(f"{recipe.context} is a context for another chip: {problem}", fix=AGAIN)

    def window(feeds: dict[str, Array]) -> Array:
        try:
            found: Array = session.run([recipe.output], feeds)[0]
        except Exception as error:  # the runtime's exceptions share no base class of their own
            raise BackendError(
                f"{recipe.context} does not run on {recipe.chip.name}", problems=[str(error).strip()]
            ) from error
        return found

    return WindowSession(path, recipe, remembered(window) if plugin.emulates() else window)
