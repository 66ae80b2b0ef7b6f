"""What stands in where onnxruntime-web cannot run: native ONNX Runtime, on the very same graphs."""

from __future__ import annotations

from pathlib import Path

from gsvexport import backends
from gsvexport.backends.declaration import Opener, Session

NATIVE = "onnxruntime"
MODES = {"native ONNX Runtime": "the same graphs with native ONNX Runtime, whose kernels are others"}
REMAINS = (
    "not run here: onnxruntime-web has not seen it. Install node and npm, then: gsvexport verify ARTIFACT --any-machine"
)


def opener(mode: str) -> Opener:
    """Opens stages natively."""
    assert mode in MODES

    def opens(backend: str, folder: Path, file: str, *, threads: int | None = None) -> Session:
        return backends.open_session(NATIVE if backend == "web" else backend, folder, file, threads=threads)

    return opens
