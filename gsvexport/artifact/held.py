"""Folders of the cache that are in use: `gsvexport cache --prune` in another process leaves them alone.

Whoever uses one holds a shared lock of it, which the system frees when the process ends; whoever removes one needs the
lock for itself. Where a file system or a system knows no such locks, nothing is held and nothing is refused.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

_lock = threading.Lock()
# The one state of the process here: what it has open. A lock lives as long as its descriptor.
_open: dict[Path, tuple[int, int]] = {}  # folder → descriptor and how often it is held


def hold(folder: Path) -> bool:
    """Hold a folder until as many calls of `release`, or until the process ends; false where it is gone."""
    with _lock:
        handle, count = _open.get(folder, (-1, 0))
        if not count or not _is(handle, folder):  # a damaged one was replaced by another
            try:
                new = os.open(folder, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
            except OSError:
                return False
            _flock(new, shared=True)
            if not _is(new, folder):  # removed since it was opened
                os.close(new)
                return False
            if count:
                os.close(handle)
            handle = new
        _open[folder] = handle, count + 1
        return True


def release(folder: Path) -> None:
    """Undo one `hold`."""
    with _lock:
        handle, count = _open.get(folder, (-1, 0))
        if count > 1:
            _open[folder] = handle, count - 1
        elif count:
            os.close(_open.pop(folder)[0])


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[bool]:
    """Whether nobody holds a folder; while the block runs nobody can begin to."""
    try:
        handle = os.open(folder, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        yield False
        return
    try:
        yield _flock(handle, shared=False)
    finally:
        os.close(handle)


def _is(handle: int, folder: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(folder))
    except OSError:
        return False


def _flock(handle: int, *, shared: bool) -> bool:
    """Wait for a shared lock, or try for one of one's own; true as well where there are no locks."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
