"""`gsvexport release`: what a release Makefile calls."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from gsvexport.cli.echo import echo
from gsvexport.cli.progress import shows_progress
from gsvexport.progress import Progress


@click.command()
@click.option(
    "-t", "--target", "targets", multiple=True, required=True, metavar="NAME", help="A device's name, or a TOML file."
)
@click.argument("voices", nargs=-1, type=click.Path())
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="The release's folder.")
@click.option("-j", "--jobs", type=click.IntRange(1), help="Builds at a time [default: what the machine allows].")
@click.option("--level", type=click.IntRange(2, 3), default=2, show_default=True, help="3 also lets them speak.")
@click.option("--strict", is_flag=True, help="Refuse a calibration set that misses phones or has a single rate.")
@click.option(
    "--compress",
    type=click.Choice(["none", "fast", "release"]),
    default="release",
    show_default=True,
    help="Of the files; release takes minutes for new weights.",
)
@click.option("--bench", "measure", is_flag=True, help="Measure the speed of those that this machine can run.")
@click.option("--ray", is_flag=True, help="Build on the Ray cluster of RAY_ADDRESS, or of this machine.")
@click.option("--meet", metavar="REPOSITORY", help="With --ray: where the artifacts are brought together.")
@shows_progress
def release(
    targets: tuple[str, ...],
    voices: tuple[str, ...],
    out: Path,
    jobs: int | None,
    level: int,
    strict: bool,
    compress: str,
    measure: bool,
    ray: bool,
    meet: str | None,
    progress: Progress,
) -> None:
    """Build each of VOICES for each target into one folder, with sums, an index and an overview.

    Without VOICES, the built-in demo voice. What is unchanged since the last time is not made again. The folder changes
    only when every artifact was built and has passed; overview.html also says what failed.

    \b
    Examples:
      gsvexport release voices/alice voices/bob -t raspberry-pi-5 -t jetson-orin -o dist/release
      cd dist/release && sha256sum --check SHA256SUMS

    With --ray each build runs where the cluster has room, and --meet names a repository that all of its machines reach
    (a folder, s3://…). Keep it apart from those that devices pull from: it holds what is not signed, and no
    release yet. The folders of VOICES have to be there on every machine.

    Exit code 5 when an artifact missed a limit and nothing else went wrong; another failure's own code comes first.
    """
    from gsvexport.release.run import OVERVIEW
    from gsvexport.release.run import release as make

    builder = None
    if ray or meet:
        if not (ray and meet):
            raise click.UsageError("--ray and --meet REPOSITORY are given together")
        from gsvexport.release import cluster
        from gsvexport.system.cluster import join

        builder = partial(cluster.build, ray=join(), meet=meet)
    for row in make(
        voices,
        targets,
        out,
        jobs=jobs,
        level=level,
        strict=strict,
        compress=compress,
        measure=measure,
        progress=progress,
        builder=builder,
    ):
        echo(f"{out / row.file}  {row.bytes / 1e6:.1f} MB  {row.verdict}")
    echo(out / OVERVIEW)
