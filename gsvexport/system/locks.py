"""Locks between processes, which the system frees when a process dies: those of the package filelock, on every system.

Artifacts carry this module to devices that have Python and numpy alone; where filelock is not installed there, POSIX
locks do, as filelock takes them.
"""

from __future__ import annotations

import errno
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsvexport.errors import EnvironmentProblem

if TYPE_CHECKING:
    from typing import IO, Protocol

    class Held(Protocol):
        """A lock that this process has."""

        @property
        def lock_file(self) -> str:
            """The file's name."""

        def release(self) -> object:
            """Let others have it."""


FOREVER = -1.0


def acquire(path: Path, wait: float = 0.0) -> Held | None:
    """The lock of the file `path`, made if absent, within `wait` seconds; None where somebody else keeps it.

    Threads of a process exclude each other, too. The file stays after a release, or goes, as the system likes it.

    Raises:
        OSError: the file cannot be made or opened, or the file system knows no locks.
        EnvironmentProblem: this system has no locks without the package filelock.
    """
    try:
        # By its name: what artifacts carry imports nothing that has to be there.
        filelock: Any = import_module("filelock")
    except ImportError:
        return _plain(path, wait)
    lock: Held = filelock.FileLock(str(path), thread_local=False)
    try:
        lock.acquire(timeout=wait, poll_interval=0.02)  # type: ignore[attr-defined]
    except filelock.Timeout:
        return None
    except NotImplementedError as error:
        raise OSError(errno.ENOLCK, str(error), str(path)) from error
    return lock


def _absent() -> EnvironmentProblem:
    return EnvironmentProblem("locks need the package 'filelock', which is not installed", fix="pip install filelock")


if sys.platform == "win32":

    def _plain(path: Path, wait: float) -> Held | None:
        raise _absent()

else:

    class _Flock:
        def __init__(self, stream: IO[bytes]) -> None:
            self._stream, self.lock_file = stream, stream.name

        def release(self) -> None:
            self._stream.close()

    def _plain(path: Path, wait: float) -> Held | None:
        import time

        try:
            import fcntl
        except ImportError:
            raise _absent() from None
        deadline = time.monotonic() + wait
        while True:
            stream = open(path, "ab")  # noqa: SIM115 - it is the lock
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return _Flock(stream)
            except BlockingIOError:
                stream.close()
            except BaseException:
                stream.close()
                raise
            if wait >= 0 and time.monotonic() >= deadline:
                return None
            time.sleep(0.02)
