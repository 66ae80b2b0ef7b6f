"""How a command says on standard error what it is doing, and how another process understands that."""

from __future__ import annotations

import contextlib
import re
import sys
import time
from collections.abc import Callable

from gsvexport.errors import printable

_LINE = re.compile(r" *\d+\.\d s  (.*)")


def progress(quiet: bool) -> Callable[[str], None]:
    """One line for each thing that is done, with the time since the start."""
    start = time.monotonic()

    def say(text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # nobody listens any more, and the work goes on
            line = printable(text).replace("\n", " ")
            print(f"{time.monotonic() - start:7.1f} s  {line}", file=sys.stderr, flush=True)  # noqa: T201

    return (lambda _: None) if quiet else say


def heard(line: str) -> str | None:
    """What a line of `progress` says; None for any other line."""
    found = _LINE.fullmatch(line)
    return found[1] if found else None
