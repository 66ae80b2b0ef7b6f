"""What the commands print: all of it goes through here, and nothing in it can steer a terminal."""

from __future__ import annotations

import codecs
import contextlib
import re
import sys

import click

from gsvexport.cli.display import make_room
from gsvexport.errors import printable

_COLOUR = re.compile("(\x1b\\[[0-9;]*m)")


# What the messages here are set in, for a stream whose encoding lacks it: a pipe under Windows, a terminal in C.
_PLAIN = {
    **{"→": "->", "←": "<-", "↔": "<->", "≥": ">=", "≤": "<=", "≠": "!=", "≈": "~", "×": "x", "·": "*", "−": "-"},
    **{"…": "...", "–": "-", "—": "-", "‘": "'", "’": "'", "“": '"', "”": '"', "•": "*", "✓": "ok", "✗": "x"},
    **{"µ": "u", "μ": "u", "°": " degrees", "±": "+-", "²": "^2", "³": "^3", "½": "1/2", "∞": "inf", "\u00a0": " "},
    **{"─": "-", "━": "-", "│": "|", "█": "#", "░": "."},
}


def _spelt(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = error.object[error.start : error.end]
    said = "".join(_PLAIN.get(one) or one.encode("ascii", "backslashreplace").decode() for one in found)
    return said, error.end


codecs.register_error("gsvexport.spelt", _spelt)


def readable() -> None:
    """Let standard output and error spell what their encoding lacks, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.reconfigure(errors="gsvexport.spelt")  # type: ignore[union-attr]


def echo(text: object, *, err: bool = False, nl: bool = True, color: bool | None = None) -> None:
    """Print a text; with `color` the colours that this package paints it with stay, and every other escape goes."""
    said = str(text)
    if color:
        parts = _COLOUR.split(said)
        said = "".join(part if index % 2 else printable(part) for index, part in enumerate(parts))
    else:
        said = printable(said)
    make_room()
    click.echo(said, err=err, nl=nl, color=color)
