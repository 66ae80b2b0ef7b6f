"""`gsvexport bake`: another reference on the same weights; and the options that give one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gsvexport.cli.echo import echo
from gsvexport.cli.progress import shows_progress
from gsvexport.progress import Progress

if TYPE_CHECKING:
    from gsvexport.voice.profile import ReferenceTable

_PATH = click.Path(path_type=Path)


def reference_options(*, required: bool) -> Callable[[Any], Any]:
    """--reference, --reference-text and --language."""
    options = (
        click.option(
            "--reference",
            multiple=True,
            type=_PATH,
            required=required,
            metavar="FILE",
            help="A recording to speak like; several are averaged." + ("" if required else " Replaces VOICE's."),
        ),
        click.option("--reference-text", metavar="TEXT", help="What is said in it (the first); 3 to 10 s then."),
        click.option("--language", help="That text's language, where it is not the voice's."),
    )

    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def given_by(audio: Sequence[Path], text: str | None, language: str | None) -> ReferenceTable | None:
    """The reference that the options give, if they give one."""
    if not audio and text is None and language is None:
        return None
    from gsvexport.voice.profile import given_reference

    return given_reference(audio, text, language)


@click.command()
@click.argument("what", metavar="ARTIFACT_OR_SOURCE", type=_PATH)
@reference_options(required=True)
@click.option("-o", "--out", type=_PATH, required=True, help="Artifact, or folder of a source, to write.")
@click.option("--source", type=_PATH, help="ARTIFACT's source, or its voice [default: the one in the cache].")
@click.option("--force", is_flag=True, help="Replace an artifact that exists.")
@shows_progress
def bake(
    what: Path,
    reference: tuple[Path, ...],
    reference_text: str | None,
    language: str | None,
    out: Path,
    source: Path | None,
    force: bool,
    progress: Progress,
) -> None:
    """Give ARTIFACT, or a source, another reference, without compiling it again.

    The prompt and the speaker's conditioning are made anew, and so are the golden vectors; graphs and weights stay. The
    result is verified as a build is. Its voice needs [pretrained] networks for what --reference does not give.

    \b
    Example:
      gsvexport bake dist/alice-x86-64.gsv --reference sad.wav --reference-text "Oh no." -o dist/alice-sad.gsv
    """
    from gsvexport.compiler.rebake import rebake_artifact, rebake_source

    given = given_by(reference, reference_text, language)
    assert given is not None
    if (what / "source.json").is_file():
        made = rebake_source(what, given, out, progress=progress)
        echo(f"{made.path}  digest {made.digest}")
        return
    path = rebake_artifact(what, given, out, source=source, force=force, progress=progress)
    echo(f"{path}  {path.stat().st_size / 1e6:.1f} MB")
