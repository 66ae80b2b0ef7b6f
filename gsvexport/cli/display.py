"""How a command shows what it is doing on standard error; `gsvexport.cli.progress` has the options that choose how.

On a terminal one live display that is gone at the end; in a pipe and in CI one line a phase; with `-v` a line for each
thing that is done; with `--json-progress` an object a line for another program; with `-q` nothing. Whatever is shown is
printable and is no markup: names out of files cannot steer a terminal.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from types import TracebackType
from typing import IO, Any, Protocol

import click

from gsvexport.errors import printable
from gsvexport.progress import Step, line, step

KEY = "gsvexport.display"  # of a command's context
_REMINDED = 60.0  # s after which a phase that goes on is told of again, so that nobody takes it for dead


class Shown(Protocol):
    """One way to show progress."""

    def tell(self, one: Step) -> None:
        """Something was said."""
        ...

    def close(self) -> None:
        """Leave the terminal clean: something else is printed now. What is told later opens it again."""
        ...

    def end(self, *, well: bool) -> None:
        """The command is over."""
        ...


class Lines:
    """Each on a line of its own, with the time since the start: all that is said, or the first words of each phase."""

    def __init__(self, stream: IO[str], *, every: bool) -> None:
        self._stream, self._every, self._start = stream, every, time.monotonic()
        self._told: dict[tuple[str, str], float] = {}

    def tell(self, one: Step) -> None:
        """See `Shown`."""
        now, key = time.monotonic(), (one.lane, one.phase)
        if not one or not (self._every or not one.phase or now - self._told.get(key, -_REMINDED) >= _REMINDED):
            return
        self._told[key] = now
        _write(self._stream, f"{now - self._start:7.1f} s  {plain(one)}\n")

    def close(self) -> None:
        """Nothing is open."""

    def end(self, *, well: bool) -> None:
        """Nothing is open."""


class Objects:
    """Each as one JSON object on a line, see `gsvexport.progress.line`."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream, self._start = stream, time.monotonic()

    def tell(self, one: Step) -> None:
        """See `Shown`."""
        _write(self._stream, line(one, time.monotonic() - self._start) + "\n")

    def close(self) -> None:
        """Nothing is open."""

    def end(self, *, well: bool) -> None:
        """Nothing is open."""


class Nothing:
    """For `-q`."""

    def tell(self, one: Step) -> None:
        """See `Shown`."""

    def close(self) -> None:
        """See `Shown`."""

    def end(self, *, well: bool) -> None:
        """See `Shown`."""


class Display:
    """What a command tells its progress to: `display(text)`, from any thread. A context that ends it."""

    def __init__(self, shown: Shown) -> None:
        self._shown, self._lock, self._over = shown, threading.RLock(), False

    def __call__(self, text: str) -> None:
        """Say something, see `gsvexport.progress`."""
        with self._lock:
            if not self._over:  # a thread that was stopped may still say something
                self._shown.tell(step(text))

    def close(self) -> None:
        """Make room for what is printed now."""
        with self._lock:
            self._shown.close()

    def __enter__(self) -> Display:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._over = True
            self._shown.end(well=kind is None)


def make_room() -> None:
    """Take the live display away before something is printed, if there is one."""
    context = click.get_current_context(silent=True)
    if context is not None and isinstance(display := context.meta.get(KEY), Display):
        display.close()


def plain(text: str) -> str:
    """Words on one line that steer nothing."""
    return printable(text).replace("\n", " ")


def is_live(stream: Any) -> bool:
    """Whether somebody watches: a terminal that can take a line back, and no CI."""
    try:
        terminal = bool(stream.isatty())
    except (AttributeError, ValueError):  # no standard error, or a closed one
        return False
    return terminal and os.environ.get("TERM") != "dumb" and os.environ.get("CI", "") in ("", "0", "false")


def _write(stream: IO[str], text: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # nobody listens any more, and the work goes on
        stream.write(text)
        stream.flush()
