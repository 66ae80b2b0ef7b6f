"""What a lowering here depends on beside this folder: the code that lowers for native ONNX Runtime."""

from __future__ import annotations

from gsvexport import backends
from gsvexport.backends.web.stand_in import NATIVE
from gsvexport.files import sha256_bytes


def programs() -> dict[str, str]:
    """See `gsvexport.backends.declaration.Programs`."""
    files = sorted(backends.folder_of(NATIVE).rglob("*.py"))
    return {f"backend {NATIVE}": sha256_bytes(b"".join(path.read_bytes() for path in files))}
