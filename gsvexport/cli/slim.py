"""`gsvexport slim`: a smaller voice from a teacher."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gsvexport.cli.echo import echo
from gsvexport.cli.numbers import Finite
from gsvexport.cli.progress import shows_progress
from gsvexport.cli.show import table
from gsvexport.errors import InputError, missing_package
from gsvexport.progress import Progress

if TYPE_CHECKING:
    from gsvexport.slim.recipe import Recipe
    from gsvexport.slim.run import Slimmed

_PATH = click.Path(path_type=Path)
_LARGEST_TEXTS = 16 << 20  # bytes


@click.command()
@click.argument("voice", type=_PATH)
@click.option("--recipe", required=True, metavar="NAME|FILE", help="A built-in recipe, or a TOML file.")
@click.option("-o", "--out", required=True, type=_PATH, metavar="NEWVOICE", help="The folder of the smaller voice.")
@click.option("--seed", type=click.IntRange(0, 1 << 62), default=0, show_default=True, help="Of all that is random.")
@click.option("--texts", type=_PATH, metavar="FILE", help="Texts that the teacher is to say, too, one a line.")
@click.option(
    "--recordings",
    type=_PATH,
    metavar="LIST",
    help="Recordings to learn from, too, as upstream lists them: PATH|SPEAKER|LANGUAGE|TEXT. Takes a HuBERT.",
)
@click.option(
    "--scale", type=Finite(1e-6, 1000), default=1.0, show_default=True, help="Of the recipe's steps and texts."
)
@click.option("--work", type=_PATH, metavar="DIR", help="Where data and checkpoints are kept. [default: the cache]")
@click.option("--force", is_flag=True, help="Replace NEWVOICE if it exists.")
@click.option(
    "--config-only",
    is_flag=True,
    help="Write only upstream's training configurations, at these sizes, to NEWVOICE.",
)
@click.option(
    "-t", "--target", "targets", multiple=True, metavar="NAME", help="With --config-only: what it will cost there."
)
@shows_progress
def slim(
    voice: Path,
    recipe: str,
    out: Path,
    seed: int,
    texts: Path | None,
    recordings: Path | None,
    scale: float,
    work: Path | None,
    force: bool,
    config_only: bool,
    targets: tuple[str, ...],
    progress: Progress,
) -> None:
    """Make a smaller VOICE: prune it, or distil it, by a recipe.

    The teacher, VOICE, says what the student learns from; no recordings are needed. NEWVOICE is a voice in upstream's
    own file formats, with other sizes in its config: every command takes it. What was begun is kept: the same
    command goes on where it was interrupted, and ends with the same numbers.

    \b
    Examples:
      gsvexport slim voices/alice --recipe prune-30 -o voices/alice-30
      gsvexport slim voices/alice --recipe mine.toml --texts said.txt -o voices/alice-mine
      gsvexport slim voices/alice --recipe tiny --config-only -t raspberry-pi-5 -o configs
    """
    from gsvexport.slim.recipe import read_recipe

    asked = read_recipe(recipe).scaled(scale)
    if config_only:
        if (texts, recordings, work) != (None, None, None):
            raise InputError("--config-only trains nothing, so it takes no --texts, --recordings or --work")
        echo(_configs(voice, asked, out, targets, force=force), nl=False)
        return
    if targets:
        raise InputError("--target is for the estimates of --config-only", fix="add --config-only")
    own = _lines(texts) if texts else []
    if find_spec("torch") is None:
        raise missing_package("torch", "gsvexport slim", "slim")
    from gsvexport.slim.recordings import read_list
    from gsvexport.slim.run import slim as make

    listed = read_list(recordings) if recordings else []
    found = make(voice, asked, out, seed=seed, texts=own, recordings=listed, work=work, force=force, progress=progress)
    echo(_page(found), nl=False)


def _configs(path: Path, recipe: Recipe, out: Path, targets: tuple[str, ...], *, force: bool) -> str:
    from gsvexport.compiler.plan import check
    from gsvexport.files import refuse_existing
    from gsvexport.slim import config
    from gsvexport.slim.shape import of, refuse_version, slimmer, top_k
    from gsvexport.target.target import read_targets
    from gsvexport.voice.voice import read_voice

    refuse_existing(out, force=force)
    chosen = read_targets(targets)
    for target in chosen:
        check(target)
    voice = read_voice(path)
    refuse_version(voice)
    before = of(voice)
    after = slimmer(before, recipe)
    costs = config.costs(before, after, chosen)
    written = config.write(after, top_k(voice), out, force=force)
    return "".join(f"{one} is written\n" for one in written) + "\n" + costs


def _lines(path: Path) -> list[str]:
    from gsvexport.untrusted.reading import lines, read_text, why

    try:
        return [line for line in lines(read_text(path, _LARGEST_TEXTS, mark=True)) if line.strip()]
    except (OSError, ValueError) as error:
        raise InputError(f"{path} {why(error)}", fix="give a UTF-8 file with a text on each line") from error


def _page(found: Slimmed) -> str:
    from gsvexport.slim.run import packed

    rows = [("", "teacher", "student", "")]
    for name, one, other in zip(("T2S", "SoVITS"), found.before.parameters, found.after.parameters, strict=True):
        rows.append((name, f"{one:,} weights", f"{other:,}", f"{other / one - 1:+.1%}"))
    for name in sorted({name.partition(".")[2] for name in found.losses}):
        before, after = (
            f"{value:.4f} {when}" if (value := found.losses.get(f"{when}.{name}")) is not None else ""
            for when in ("cut", "recovered")
        )
        rows.append((name, "", before, after))
    lines = [f"{found.folder} is written\n", table(rows), f"\n{packed(found.folder):,} bytes after Brotli\n"]
    if found.zeros:
        lines.append(f"{found.zeros:.1%} of what is sparse are zeros. No runtime here is faster for them.\n")
    return "".join(lines)
