"""What the commands print: all of it goes through here, and nothing in it can steer a terminal."""

from __future__ import annotations

import re

import click

from gsvexport.cli.display import make_room
from gsvexport.errors import printable

_COLOUR = re.compile("(\x1b\\[[0-9;]*m)")


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
