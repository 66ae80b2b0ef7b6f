"""Questions on a terminal. Where there is none, nothing is ever asked."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import click

from gsvexport.errors import printable


def terminal() -> bool:
    """Whether somebody can be asked: what is read and what is written is a terminal."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))


def ask(question: str, wrong: Callable[[str], str | None] = lambda _: None) -> str | None:
    """A line, asked for again as long as `wrong` has something to say against it; None for an empty one."""
    while True:
        line = str(click.prompt(printable(question), default="", show_default=False, err=True)).strip()
        if not line:
            return None
        if (problem := wrong(line)) is None:
            return line
        click.echo(printable(problem), err=True)


def choose(question: str, options: Sequence[str]) -> int:
    """The number (0-based) of one of several; an empty line is the first."""
    for number, option in enumerate(options, 1):
        click.echo(printable(f"  {number}  {option}").replace("\n", " "), err=True)
    last = len(options)

    def wrong(line: str) -> str | None:
        return None if line.isascii() and line.isdigit() and 1 <= int(line) <= last else f"a number from 1 to {last}"

    return int(ask(f"{question} [1]", wrong) or 1) - 1
