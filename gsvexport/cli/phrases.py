"""`gsvexport phrases`: sentences for devices that read no text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gsvexport.cli.echo import echo
from gsvexport.cli.progress import shows_progress
from gsvexport.progress import Progress

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("file", type=_PATH)
@click.option("--voice", type=_PATH, required=True, metavar="ARTIFACT", help="The voice that will say them.")
@click.option("-o", "--out", type=_PATH, required=True, help="File to write, by custom with the ending .gsvp.")
@click.option("--render", is_flag=True, help="Also speak those without slots now; the device plays them.")
@click.option("--seed", type=int, default=0, show_default=True, help="Decides everything random of --render.")
@click.option("--language", help="The phrases' language, where it is not the voice's: en, ja, ko, yue, zh or auto.")
@click.option("--threads", type=click.IntRange(1, 256), help="Processor cores to use.")
@click.option("--key", metavar="KEY", help="This key must have signed it: a trusted one's name, a file, or base64.")
@click.option("--any-machine", is_flag=True, help="Also what was made for another processor.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@shows_progress
def phrases(file: Path, voice: Path, out: Path, progress: Progress, **options: Any) -> None:
    """Compile the phrases of FILE into a pack that a device speaks from without reading text.

    FILE is TOML: fixed sentences, and templates with slots whose values are numbers or names. Every sentence that a
    template stands for is read as a whole. docs/phrases.md tells all of it.

    \b
    [phrases.turn-left]
    text = "In {metres} metres, turn left."
    slots.metres = { from = 50, to = 1000, step = 50 }

    \b
    Examples:
      gsvexport phrases car.toml --voice dist/alice-raspberry-pi-5.gsv -o car.gsvp
      gsvexport say dist/alice-raspberry-pi-5.gsv --pack car.gsvp --phrase turn-left --slot metres=250 -o left.wav
    """
    from gsvexport.phrases.making import make_pack

    pack = make_pack(file, voice, out, progress=progress, **options)
    templates = sum(bool(phrase.slots) for phrase in pack.phrases.values())
    spoken = sum(phrase.sound is not None for phrase in pack.phrases.values())
    said = f", {spoken} spoken" if spoken else ""
    echo(f"{out}  {len(pack.phrases)} phrases, {templates} with slots{said}, {out.stat().st_size / 1e3:.1f} kB")
