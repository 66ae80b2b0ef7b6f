"""The options -q, -v and --json-progress of every command that takes long, and what they choose."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

from gsvexport.cli import live
from gsvexport.cli.display import KEY, Display, Lines, Nothing, Objects, Shown, is_live
from gsvexport.cli.durations import Durations

F = TypeVar("F", bound=Callable[..., Any])
_NO_RECORD = ("out", "force", "text", "phones")  # what says nothing about how long it takes


def shows_progress(command: F) -> F:
    """Give a command -q, -v and --json-progress, and in their place one argument `progress`."""

    @functools.wraps(command)
    def run(*args: Any, quiet: bool, verbose: bool, json_progress: bool, **options: Any) -> Any:
        if quiet + verbose + json_progress > 1:
            raise click.UsageError("-q, -v and --json-progress exclude one another")
        context = click.get_current_context()
        how = "quiet" if quiet else "lines" if verbose else "json" if json_progress else ""
        with Display(_chosen(how, _subject(context))) as display:
            context.meta[KEY] = display
            return command(*args, progress=display, **options)

    for option in (
        click.option("--json-progress", is_flag=True, help="Progress as one JSON object a line, for other programs."),
        click.option("-v", "--verbose", is_flag=True, help="A line for each thing that is done."),
        click.option("-q", "--quiet", is_flag=True, help="No progress on standard error."),
    ):
        run = option(run)
    return run  # type: ignore[return-value]


def _chosen(how: str, subject: Iterable[str]) -> Shown:
    stream = sys.stderr
    if how == "quiet" or stream is None:
        return Nothing()
    if how == "json":
        return Objects(stream)
    if how == "lines" or not is_live(stream):
        return Lines(stream, every=how == "lines")
    return live.shown(stream, Durations(subject))


def _subject(context: click.Context) -> list[str]:
    """What has to be the same for a command to take as long as the last time."""
    given = {name: value for name, value in context.params.items() if name not in _NO_RECORD}
    words = (f"{name}={value.absolute() if isinstance(value, Path) else value}" for name, value in given.items())
    return [context.command.name or "", *sorted(words)]
