"""`gsvexport listen`."""

from __future__ import annotations

from pathlib import Path

import click

from gsvexport.cli.echo import echo
from gsvexport.cli.progress import shows_progress
from gsvexport.progress import Progress

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("files", nargs=-1, required=True, type=_PATH, metavar="A.gsv B.gsv …")
@click.option("-o", "--out", type=_PATH, help="Page to write; with --results, scores for --heard.")
@click.option("--reference", type=_PATH, metavar="SOURCE_OR_ARTIFACT", help="What the artifacts are rated against.")
@click.option("--count", type=click.IntRange(1, 40), default=8, show_default=True, help="Sentences.")
@click.option("--texts", type=_PATH, metavar="FILE", help="Say these, one a line, not the built-in ones.")
@click.option(
    "--test",
    "parts",
    multiple=True,
    type=click.Choice(["mushra", "mos", "abx"]),
    help="Kinds of questions.  [default: all]",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Decides sentences and order.")
@click.option(
    "--codec", type=click.Choice(["flac", "opus", "wav"]), default="flac", show_default=True, help="Of the sounds."
)
@click.option("--most-mb", type=click.IntRange(1, 500), default=40, show_default=True, help="The page may be so large.")
@click.option("--results", is_flag=True, help="The files are what raters sent back: judge.")
@click.option(
    "--key", "key_file", type=_PATH, metavar="FILE", help="With --results: the page's key, if not beside them."
)
@click.option("--json", "as_json", is_flag=True, help="With --results: the scores as JSON.")
@click.option("--force", is_flag=True, help="Replace outputs that exist.")
@shows_progress
def listen(
    files: tuple[Path, ...],
    out: Path | None,
    reference: Path | None,
    count: int,
    texts: Path | None,
    parts: tuple[str, ...],
    seed: int,
    codec: str,
    most_mb: int,
    results: bool,
    key_file: Path | None,
    as_json: bool,
    force: bool,
    progress: Progress,
) -> int:
    """Let people listen, blindly: make a test page of artifacts, or judge what came back.

    The page is one file with all of its sounds. It asks in random order how close each recording is to the reference
    (MUSHRA), how good it is (MOS), and which of two X is (ABX). The reference is hidden among them, and so are two that
    are known to be bad. Its key, PAGE.key.json, says what is what: keep it, and give away the page alone.

    With --results raters who do not recognise the reference are left out, and an artifact fails whose MOS fell by more
    than 0.3. It takes 12 raters who count; with fewer, objective scores decide as before.

    \b
    Examples:
      gsvexport listen dist/alice-*.gsv --reference alice-source/ -o page.html
      gsvexport listen --results answers/*.json --key page.html.key.json -o scores.json
      gsvexport inspect dist/alice-x86-64-int8.gsv --heard scores.json

    Exit code 5 when people hear that an artifact is worse.
    """
    from gsvexport.errors import GateFailed, InputError
    from gsvexport.report.panel.key import PARTS
    from gsvexport.report.panel.page import key_of, write_test

    if results:
        from gsvexport.files import atomic_file, canonical_json, refuse_existing
        from gsvexport.report.panel.results import collect
        from gsvexport.report.panel.scores import score
        from gsvexport.report.panel.table import scores_page

        if out is not None:
            refuse_existing(out, force=force)
        key, answers, unused = collect(files, key_file)
        found = score(key, answers)
        for reason in unused:
            echo(f"warning: {reason}", err=True)
        text = canonical_json(found.to_json())
        if out is not None:
            with atomic_file(out, force=force) as work:
                work.write_bytes(text.encode())
        echo(text if as_json else scores_page(found), nl=False)
        return 0 if found.passed else GateFailed.exit_code
    if key_file is not None or as_json:
        raise InputError("--key and --json are for what came back", fix="add --results")
    if out is None:
        raise InputError("no page was named", fix="add -o page.html")
    if reference is None:
        raise InputError(
            "the artifacts need something to be rated against", fix="add --reference SOURCE or an artifact"
        )
    made = write_test(
        files,
        out,
        reference=reference,
        count=count,
        seed=seed,
        parts=parts or PARTS,
        codec=codec,
        most_mb=most_mb,
        texts=texts,
        force=force,
        progress=progress,
    )
    questions = len(made.mushra) + len(made.mos) + len(made.abx)
    echo(f"{out}  {out.stat().st_size / 1e6:.1f} MB  {questions} questions  test {made.test[:12]}")
    echo(f"{key_of(out)}  says what is what: keep it, and send the page alone")
    return 0
