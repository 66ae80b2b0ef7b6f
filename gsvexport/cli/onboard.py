"""`gsvexport onboard`."""

from __future__ import annotations

import re
from pathlib import Path

import click

from gsvexport.cli.echo import echo
from gsvexport.cli.progress import shows_progress
from gsvexport.progress import Progress

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("recording", type=_PATH)
@click.option("--base", type=_PATH, required=True, metavar="VOICE|SOURCE", help="Whose weights speak.")
@click.option("-t", "--target", "targets", multiple=True, required=True, metavar="NAME", help="Several allowed.")
@click.option("--publish", "repository", required=True, metavar="REPOSITORY", help="A folder, s3://BUCKET/FOLDER …")
@click.option("--name", help="What the voice is called. [default: as RECORDING's file]")
@click.option("--text", help="What is said in RECORDING, all of it; without it the recogniser writes what it hears.")
@click.option("--language", help="That text's language, where it is not the voice's.")
@click.option("--key", metavar="NAME", help="The private key that signs. [default: the only one]")
@click.option("--recogniser", type=_PATH, metavar="DIR", help="Another Whisper; see verify.")
@click.option("-o", "--out", type=_PATH, default=Path(), help="Folder that keeps the artifacts. [default: this one]")
@click.option("--force", is_flag=True, help="Replace artifacts that exist.")
@shows_progress
def onboard(
    recording: Path,
    base: Path,
    targets: tuple[str, ...],
    repository: str,
    name: str | None,
    text: str | None,
    language: str | None,
    key: str | None,
    recogniser: Path | None,
    out: Path,
    force: bool,
    progress: Progress,
) -> None:
    """Make a published voice of RECORDING: up to ten minutes of somebody who speaks, in any format that is read here.

    Finds the best 3 to 10 s (level, noise, clipping, whole sentences), bakes them into VOICE's or SOURCE's artifact
    for each target, verifies, signs and publishes it. A server that watches REPOSITORY has the voice seconds later.
    Each phase is told of in a line, with its time. The base is built the first time only.

    \b
    Example:
      gsvexport onboard carol.wav --base voices/alice --target x86-64-int8 --publish /srv/voices

    Have the speaker's consent.
    """
    from gsvexport.registry.places import open_place
    from gsvexport.release.onboard import Phase, Wanted
    from gsvexport.release.onboard import onboard as run

    called = name or re.sub(r"[^A-Za-z0-9_.-]+", "-", recording.stem).strip(".-") or "voice"
    place = open_place(repository)
    wanted = Wanted(recording, base, targets, called, place, text, language, key, recogniser, out, force)
    total = 0.0

    def told(phase: Phase) -> None:
        nonlocal total
        total += phase.seconds
        echo(f"{phase.name:<8}{phase.seconds:7.1f} s  {phase.words}")

    done = run(wanted, told, progress)
    echo(f"{'live':<8}{total:7.1f} s  {', '.join(one.entry.title for one in done)} in {place.name}")
