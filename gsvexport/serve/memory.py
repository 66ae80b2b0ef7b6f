"""This process's resident memory, measured; and giving back what was freed."""

from __future__ import annotations

import ctypes
import mmap
import sys
from pathlib import Path

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
    """Let the system have what was freed: glibc keeps pages of closed graphs, which would count as theirs."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)
