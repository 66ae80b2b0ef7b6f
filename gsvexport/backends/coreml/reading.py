"""What stands in where Core ML is not: our own reading of the file. It can refuse an artifact, and proves none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from gsvexport import backends
from gsvexport.backends.coreml import compute
from gsvexport.backends.coreml.session import read_stage
from gsvexport.backends.declaration import Opener, Session
from gsvexport.errors import ArtifactError
from gsvexport.npu.windows import AGAIN, WindowSession, remembered
from gsvexport.untrusted.reading import Refused, inside

Array = NDArray[Any]
MODES = {"Core ML, by our own reading of its file": "its file is read and computed by us, in numpy"}
REMAINS = "built, not run: Core ML has not seen it. On a Mac: gsvexport verify ARTIFACT --any-machine"
UNPROVEN = "Core ML has not run it; by our own reading of its file this limit is kept"


def opener(mode: str) -> Opener:
    """Opens this backend's stages as they are read here, all others as ever."""
    assert mode in MODES

    def opens(backend: str, folder: Path, file: str, *, threads: int | None = None) -> Session:
        if backend != "coreml":
            return backends.open_session(backend, folder, file, threads=threads)
        try:
            path = inside(folder, file)
        except Refused as error:
            raise ArtifactError(f"{folder} {error}", fix=AGAIN) from error
        recipe, _, program = read_stage(path)

        def window(feeds: dict[str, Array]) -> Array:
            try:
                return compute.run(program, feeds)
            except Refused as error:
                raise ArtifactError(f"{path}: {recipe.package} {error}", fix=AGAIN) from error

        return WindowSession(path, recipe, remembered(window))

    return opens
