"""`gsvexport inspect`."""

from __future__ import annotations

from pathlib import Path

import click

from gsvexport.cli.echo import echo
from gsvexport.cli.progress import shows_progress
from gsvexport.progress import Progress

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("artifact", type=_PATH)
@click.option("--json", "as_json", is_flag=True, help="The manifest as JSON.")
@click.option(
    "--html", type=_PATH, metavar="OUT", help="Write a page with pictures and sound, made by running it here."
)
@click.option("--source", type=_PATH, help="For --html: this ONNX source says the same sentences.")
@click.option("--heard", type=_PATH, metavar="SCORES", help="What people heard: listen --results -o wrote it.")
@click.option("--force", is_flag=True, help="Replace a page that exists.")
@shows_progress
def inspect(
    artifact: Path,
    as_json: bool,
    html: Path | None,
    source: Path | None,
    heard: Path | None,
    force: bool,
    progress: Progress,
) -> None:
    """Show what is in ARTIFACT.

    Its target, stages, precisions, sizes, and the outcome of its verification when it was built. With --html also what
    it sounds like, in one file that needs no network: verdict, every check, spectrograms and players of source,
    artifact and difference, errors, sensitivity, sizes.

    \b
    Examples:
      gsvexport inspect dist/demo-x86-64.gsv
      gsvexport inspect dist/demo-x86-64.gsv --html demo.html --source source/
    """
    from gsvexport.cli import reports

    if html is not None:
        echo(reports.write_html(artifact, html, source, force=force, progress=progress, heard=heard))
        return
    reports.needs_html(source, force=force)
    reports.show_artifact(artifact, as_json=as_json, heard=heard)
