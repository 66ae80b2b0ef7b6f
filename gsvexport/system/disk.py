"""Renaming, replacing and removing where a file may be open: POSIX lets one do all that, Windows refuses it.

A virus scanner or an indexer has a new file open for a moment, so what Windows refuses is tried again for some seconds.
Artifacts carry this module: it runs on Python 3.8.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from gsvexport.errors import EnvironmentProblem

if TYPE_CHECKING:
    from collections.abc import Callable

WINDOWS = os.name == "nt"
PATIENCE = 5.0  # seconds


def replace(source: Path, target: Path, aside: Path | None = None) -> None:
    """Rename a file over another one. A `target` that is mapped cannot be replaced under Windows, but moved to `aside`,
    an absent name on the same disk.

    Raises:
        EnvironmentProblem: another program has the target open, for longer than `PATIENCE`.
        OSError: anything else.
    """
    try:
        _patiently(lambda: os.replace(source, target), target)
    except EnvironmentProblem:
        if aside is None or not _moved(target, aside):
            raise
        try:
            os.replace(source, target)
        except BaseException:
            os.rename(aside, target)
            raise


def rename(source: Path, target: Path) -> None:
    """Rename a file or a folder to a name that is free.

    Raises: as `replace`; what is there already raises `OSError`, but for an empty folder under POSIX.
    """
    _patiently(lambda: os.rename(source, target), source)


def remove(path: Path) -> None:
    """Remove a file, if it is there.

    Raises: as `replace`.
    """
    with contextlib.suppress(FileNotFoundError):
        _patiently(lambda: os.unlink(path), path)


def remove_tree(path: Path) -> bool:
    """Remove a folder, or as much of it as can be; whether it is gone."""
    deadline = time.monotonic() + PATIENCE
    pause = 0.01
    while True:
        shutil.rmtree(path, ignore_errors=True)
        if not os.path.lexists(path):
            return True
        if not WINDOWS or time.monotonic() > deadline:
            return False
        time.sleep(pause)
        pause = min(2 * pause, 0.25)


def sync(path: Path) -> None:
    """Make sure that a file, or the names in a folder, outlive a loss of power. Windows does that to folders itself."""
    folder = os.path.isdir(path)
    if folder and WINDOWS:
        return
    try:  # Windows writes out what is open for writing alone
        handle = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
    except PermissionError:
        if WINDOWS:
            return
        handle = os.open(path, os.O_RDONLY)  # a file that is for reading alone
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _moved(path: Path, aside: Path) -> bool:
    try:
        os.rename(path, aside)
    except OSError:
        return False
    return True


def _patiently(act: Callable[[], None], path: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    pause = 0.01
    while True:
        try:
            return act()
        except PermissionError as error:
            if not WINDOWS:
                raise
            if time.monotonic() > deadline:
                raise EnvironmentProblem(
                    f"{path} cannot be replaced or removed: another program has it open, or may not be disturbed",
                    found=error.strerror,
                    limit=f"tried for {PATIENCE:.0f} s",
                    fix="close what uses it (a player, an editor, another gsvexport), then try again",
                ) from error
        time.sleep(pause)
        pause = min(2 * pause, 0.25)
