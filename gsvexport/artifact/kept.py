"""Folders that are made once in the user's cache and only read from then on, by any number of processes."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from gsvexport.artifact.held import alone, hold, release
from gsvexport.errors import EnvironmentProblem
from gsvexport.files import cache_directory, disk_errors, remove_dead, sync_tree, temporary_directory, tree_size
from gsvexport.system import disk

_UNPACKED = "unpacked"
_TRIES = 20


def unpacked_root() -> Path:
    """Where artifacts are unpacked to."""
    return cache_directory(_UNPACKED)


def kept(key: str, whole: Callable[[Path], bool], make: Callable[[Path], object]) -> Path:
    """The folder called `key`, made by `make(empty folder)` unless it is there and `whole(folder)`.

    It appears complete or not at all. A damaged one is replaced; what others have open of it stays readable to them.
    It is held, so that nobody prunes it, until `held.release(folder)` or the end of the process.
    What is there already needs no writing, so the cache may lie on a read-only file system.

    Raises:
        EnvironmentProblem: the disk is full, or the cache cannot be written.
        Whatever `make` raises.
    """
    root = unpacked_root()
    folder = root / key
    complete = partial(_whole, whole)
    for _ in range(_TRIES):
        cache_directory(_UNPACKED, key)  # not somebody else's
        if hold(folder):
            if complete(folder):
                remove_dead(root)
                with contextlib.suppress(OSError):
                    os.utime(folder)  # pruning goes by the last use
                return folder
            release(folder)
        with disk_errors(root), temporary_directory(folder) as work:
            remove_dead(root)
            make(work / "new")
            sync_tree(work / "new")
            _put(work, folder, complete)
    raise EnvironmentProblem(f"{folder} was changed or removed {_TRIES} times while it was unpacked", fix="try again")


def _whole(whole: Callable[[Path], bool], folder: Path) -> bool:
    """Whether a folder is whole; not while another process replaces it."""
    try:
        return whole(folder)
    except OSError:
        return False


def prune_unpacked(older_than_days: float) -> int:
    """Remove what has not been used for that long, and what dead processes left; returns the bytes freed.

    A time of use in the future, from a clock that was set back, counts as now. What is being unpacked, and what some
    process uses, stays; a link goes, and not what it points to.
    """
    root = unpacked_root()
    freed = 0
    with disk_errors(root):
        freed += remove_dead(root)
        for folder in root.glob("[!.]*"):
            with contextlib.suppress(FileNotFoundError):
                if folder.is_symlink() or not folder.is_dir():
                    disk.remove(folder)
                elif max(time.time() - folder.stat().st_mtime, 0) >= older_than_days * 86400:
                    with alone(folder) as unused:
                        if unused:
                            freed += _drop(folder)
    return freed


def _drop(folder: Path) -> int:
    """Remove a folder, never half of it; returns the bytes freed: none where a program has something in it open."""
    size = tree_size(folder)
    try:
        with temporary_directory(folder) as work:
            disk.rename(folder, work / "old")
    except EnvironmentProblem:
        return 0
    return size


def _put(work: Path, folder: Path, whole: Callable[[Path], bool]) -> None:
    """Move `work/new` to `folder`, unless another process has put it there meanwhile; a damaged folder goes aside."""
    while not whole(folder):
        with contextlib.suppress(FileNotFoundError):
            disk.rename(folder, Path(tempfile.mkdtemp(dir=work)) / "damaged")
        try:
            disk.rename(work / "new", folder)
        except OSError as error:
            if not (work / "new").exists():
                return  # it was put there, and another process, which had looked before that, took it for a damaged one
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
