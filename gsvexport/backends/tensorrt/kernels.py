"""What TensorRT for RTX compiled of an engine for this GPU, kept for the next time that it is opened.

The file is SHA-256 of the rest, and the rest: a library that is given half of a cache may do anything.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

from gsvexport.files import atomic_file

LARGEST = 256 << 20  # bytes
_DIGEST = 32


def load(path: Path) -> bytes:
    """What was kept; nothing where there is none. What is too large, cut short or changed is removed."""
    with contextlib.suppress(OSError):
        if path.stat().st_size <= LARGEST + _DIGEST:
            data = path.read_bytes()
            if hashlib.sha256(data[_DIGEST:]).digest() == data[:_DIGEST]:
                return data[_DIGEST:]
        forget(path)
    return b""


def keep(path: Path, blob: bytes) -> bool:
    """Keep it, unless it is too large or the disk is full; whether it was kept."""
    if len(blob) > LARGEST:
        forget(path)
        return False
    with contextlib.suppress(OSError), atomic_file(path, force=True) as work:
        work.write_bytes(hashlib.sha256(blob).digest() + blob)
        return True
    return False


def forget(path: Path) -> None:
    """Remove it, if it is there."""
    with contextlib.suppress(OSError):
        path.unlink()
