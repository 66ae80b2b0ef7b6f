"""This process's resident memory, measured; and giving back what was freed."""

from __future__ import annotations

import ctypes
import mmap
import sys
from pathlib import Path

from gsvexport import backends
from gsvexport.errors import EnvironmentProblem

_STATM = Path("/proc/self/statm")


def resident() -> int:
    """Bytes of memory that this process holds now, mapped files included.

    Raises:
        EnvironmentProblem: the system does not say (this is read from Linux' /proc).
    """
    try:
        return int(_STATM.read_text(encoding="ascii").split()[1]) * mmap.PAGESIZE
    except (OSError, ValueError) as error:
        what = "a memory budget needs to measure resident memory, which this system does not tell"
        raise EnvironmentProblem(what, fix="serve under Linux") from error


def give_back() -> None:
    """Let the system have what was freed: runtimes keep what a long sentence took for the next one, and glibc the pages
    of closed graphs. Both would count as the voices' that are open."""
    backends.give_back()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)
