"""How a command says on standard error what it is doing."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable


def progress(quiet: bool) -> Callable[[str], None]:
    """One line for each thing that is done, with the time since the start."""
    start = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - start:7.1f} s  {text}", file=sys.stderr, flush=True)  # noqa: T201

    return (lambda _: None) if quiet else say
