"""What stands in where Core ML is not: our own reading of the file. It can refuse an artifact, and proves none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsvexport import backends
from gsvexport.backends.declaration import Opener, Session
from gsvexport.errors import ArtifactError
from gsvexport.untrusted.reading import Refused, inside

if TYPE_CHECKING:
    from numpy.typing import NDArray

MODES = {"Core ML, by our own reading of its file": "its file is read and computed by us, in numpy"}
REMAINS = "built, not run: Core ML has not seen it. On a Mac: gsvexport verify ARTIFACT --any-machine"
UNPROVEN = "Core ML has not run it; by our own reading of its file this limit is kept"
_AGAIN = "get the artifact again, or build it again"


def opener(mode: str) -> Opener:
    """Opens this backend's stages as they are read here, all others as ever."""
    from gsvexport.backends.coreml import compute
    from gsvexport.backends.coreml.session import read_stage
    from gsvexport.npu.windows import WindowSession, remembered

    assert mode in MODES

    def opens(backend: str, folder: Path, file: str, *, threads: int | None = None) -> Session:
        if backend != "coreml":
            return backends.open_session(backend, folder, file, threads=threads)
        try:
            path = inside(folder, file)
        except Refused as error:
            raise ArtifactError(f"{folder} {error}", fix=_AGAIN) from error
        recipe, _, program = read_stage(path)

        def window(feeds: dict[str, NDArray[Any]]) -> NDArray[Any]:
            try:
                return compute.run(program, feeds)
            except Refused as error:
                raise ArtifactError(f"{path}: {recipe.package} {error}", fix=_AGAIN) from error

        return WindowSession(path, recipe, remembered(window))

    return opens
