"""Folders of the cache that are in use: `gsvexport cache --prune` in another process leaves them alone.

Whoever uses a folder holds a lock of its own, which the system frees when the process ends; whoever removes it looks
whether anybody holds one, and keeps others from beginning meanwhile:

    LOCKS/FOLDER.gate         held for a moment by who begins to use FOLDER, and while it is removed
    LOCKS/FOLDER-XXXX.user    held as long as a process uses it

LOCKS is CACHE/locks. Where a file system knows no locks, or cannot be written, nothing is held and nothing is refused.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from gsvexport.errors import EnvironmentProblem
from gsvexport.files import cache_directory, sha256_bytes
from gsvexport.system.locks import acquire

if TYPE_CHECKING:
    from gsvexport.system.locks import Held

_GATE, _USER = ".gate", ".user"
_PATIENCE = 60.0  # seconds, for a large folder to be removed
_lock = threading.Lock()
# The one state of the process here: what it uses. A lock lives as long as it is not released.
_open: dict[Path, tuple[Held | None, int]] = {}  # folder → its lock, if there are any, and how often it is held


def hold(folder: Path, locks: Path | None = None) -> bool:
    """Hold a folder until as many calls of `release`, or until the process ends; false where it is gone."""
    with _lock:
        held, count = _open.get(folder, (None, 0))
        if not count:
            with contextlib.suppress(OSError):
                place, name = _place(folder, locks)
                gate = acquire(place / f"{name}{_GATE}", _PATIENCE)
                try:
                    if folder.is_dir():
                        _unused(place, name)  # what dead processes left goes
                        held = acquire(place / f"{name}-{secrets.token_hex(8)}{_USER}")
                finally:
                    if gate:
                        gate.release()
        if not folder.is_dir():
            if held and not count:
                _give_back(held)
            return False
        _open[folder] = held, count + 1
        return True


def release(folder: Path) -> None:
    """Undo one `hold`."""
    with _lock:
        held, count = _open.get(folder, (None, 0))
        if count > 1:
            _open[folder] = held, count - 1
        elif count:
            del _open[folder]
            if held:
                _give_back(held)


def _give_back(held: Held) -> None:
    """Release a user's lock; its file goes before, or under Windows, which refuses that, after."""
    with contextlib.suppress(OSError):
        os.unlink(held.lock_file)
    held.release()


@contextlib.contextmanager
def alone(folder: Path, locks: Path | None = None) -> Iterator[bool]:
    """Whether nobody holds a folder, nor a link to one; while the block runs nobody can begin to."""
    if folder.is_symlink() or not folder.is_dir() or folder in _open:
        yield False
        return
    try:
        place, name = _place(folder, locks)
        gate = acquire(place / f"{name}{_GATE}")
    except OSError:
        yield True
        return
    if gate is None:  # somebody begins to use it
        yield False
        return
    try:
        yield _unused(place, name)
    finally:
        if folder.exists():
            gate.release()
        else:
            _give_back(gate)


def _place(folder: Path, locks: Path | None) -> tuple[Path, str]:
    """Where the locks of a folder are, and how their names begin, however the folder is spelt."""
    place = cache_directory("locks") if locks is None else locks
    if not place.is_dir():
        place.mkdir(parents=True, exist_ok=True)
    real = os.path.normcase(os.path.realpath(folder))
    return place, sha256_bytes(os.fsencode(real))[:32]


def _unused(place: Path, name: str) -> bool:
    """Whether no living process uses the folder of these locks; removes those of dead ones. The gate is held."""
    unused = True
    for path in place.glob(f"{name}-*{_USER}"):
        try:
            left = acquire(path)
        except (OSError, EnvironmentProblem):
            left = None
        if left is None:
            unused = False
            continue
        _give_back(left)
    return unused
