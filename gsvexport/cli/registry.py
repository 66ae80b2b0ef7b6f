"""`gsvexport publish`, `withdraw`, `pull` and `gc`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gsvexport.cli.echo import echo
from gsvexport.cli.numbers import Finite
from gsvexport.cli.progress import shows_progress
from gsvexport.progress import Progress, note

if TYPE_CHECKING:
    from gsvexport.errors import ArtifactError
    from gsvexport.registry.index import Listed

_PATH = click.Path(path_type=Path)
_AUTO = "auto"
_MOST_BAD = 10


@click.command()
@click.argument("artifacts", type=_PATH, nargs=-1, required=True)
@click.argument("repository")
@click.option("--version", metavar="NUMBERS", help="Such as 3 or 1.2.0; without it the next whole number.")
@shows_progress
def publish(artifacts: tuple[Path, ...], repository: str, version: str | None, progress: Progress) -> None:
    """Publish ARTIFACTS in REPOSITORY: a folder, s3://BUCKET/FOLDER, or another URL that fsspec knows.

    An artifact is visible when all of it is there. Any number of publishers may work at once. A version never changes;
    publishing the same artifact again does nothing. A folder or bucket can be served by any web server, to pull from.

    \b
    Examples:
      gsvexport publish dist/*.gsv /srv/voices --version 1.2.0
      gsvexport publish dist/alice-raspberry-pi-5.gsv s3://voices/team        needs the extra s3
    """
    from gsvexport.registry.places import open_place
    from gsvexport.registry.publish import publish as run

    for done in run(artifacts, open_place(repository), version=version, progress=progress):
        echo(f"{done.entry.title}  {'published' if done.new else 'was there'}  {done.sent / 1e6:.1f} MB sent")


@click.command()
@click.argument("repository")
@click.argument("name", metavar="NAME@VERSION")
@click.option("-t", "--target", metavar="NAME", help="Only for this one.")
def withdraw(repository: str, name: str, target: str | None) -> None:
    """Take back NAME@VERSION in REPOSITORY (@latest, too): nobody finds it there any more.

    Servers that watch the repository stop to serve it. The version before it is the latest then; who pulled the later
    one takes that only with --allow-older. What was pulled stays where it is; `gsvexport gc` removes the bytes.
    """
    from gsvexport.registry import index
    from gsvexport.registry.places import open_place
    from gsvexport.registry.withdraw import withdraw as run

    voice, sign, version = name.partition("@")
    if not sign or not version:
        raise click.UsageError(f"which version of {voice}? NAME@VERSION or NAME@latest")
    index.check_name(voice, "voice")
    wanted = None if version == "latest" else version
    if wanted is not None:
        index.version_order(wanted)
    for item in run(open_place(repository), voice, wanted, target):
        echo(f"{item.entry.title}  withdrawn")


@click.command()
@click.argument("repository")
@click.argument("name", required=False, metavar="[NAME[@VERSION]]")
@click.option(
    "-t", "--target", default=_AUTO, show_default=True, metavar="NAME", help="auto looks what this device is."
)
@click.option("-o", "--out", type=_PATH, show_default="NAME-TARGET.gsv", help="File to write, or a folder for it.")
@click.option("--key", "keys", multiple=True, metavar="KEY", help="Only what this key signed; several allowed.")
@click.option("--allow-unsigned", is_flag=True, help="Also what no trusted key signed.")
@click.option("--allow-older", is_flag=True, help="Also an older one than was pulled before; so does NAME@VERSION.")
@click.option("--force", is_flag=True, help="Replace another file.")
@shows_progress
def pull(
    repository: str,
    name: str | None,
    target: str,
    out: Path | None,
    keys: tuple[str, ...],
    allow_unsigned: bool,
    allow_older: bool,
    force: bool,
    progress: Progress,
) -> None:
    """Get the voice NAME from REPOSITORY (a folder, http(s)://, s3:// …), or list what is there.

    Takes the latest version for this device, says why it is that one, and checks signature and every byte. What is here
    already is not transferred again: neither what another voice brought, nor what came before an interruption.

    \b
    Examples:
      gsvexport pull https://voices.example.com                    lists
      gsvexport pull https://voices.example.com alice && gsvexport say alice-raspberry-pi-5.gsv "Hello!" -o hello.wav
      gsvexport pull /mnt/voices alice@1.2.0 --target jetson-orin -o /opt/voice.gsv

    Version and time are the repository's word, unless the maker signed them (`gsvexport sign --version`). One that is
    older than what was pulled from there before, or than what the same key signed, is refused.

    Exit code 6 when it is not signed by a trusted key, damaged, older, or for no such device as this one.
    """
    from gsvexport.artifact.keys import public_key, trusted_keys
    from gsvexport.artifact.trust import names
    from gsvexport.registry import index
    from gsvexport.registry.places import open_place
    from gsvexport.registry.pull import pull as run

    place = open_place(repository)
    if name is None:
        bad: dict[str, ArtifactError] = {}
        index.refuse_none(place)
        echo(_page(index.published(place, bad=bad)), nl=False)
        _tell(bad)
        return
    trusted = tuple(map(public_key, keys)) or trusted_keys()
    voice, _, version = name.partition("@")
    index.check_name(voice, "voice")
    wanted = None if version in ("", "latest") else version
    if wanted is not None:
        index.version_order(wanted)
    bad = {}
    listed = index.published(place, voice, bad)
    _tell(bad)
    if not listed:
        index.refuse_none(place)
    items = index.choose(listed, voice, wanted, None if target == _AUTO else target)
    item, reasons = _best(items, voice) if target == _AUTO else (items[0], [])
    for line in reasons:
        progress(note(line))
    path = out or Path()
    if out is None or path.is_dir():
        path /= f"{item.entry.name}-{item.entry.target}.gsv"
    done = run(
        place,
        item,
        path,
        trusted,
        allow_unsigned=allow_unsigned,
        allow_older=allow_older or wanted is not None,
        force=force,
        progress=progress,
    )
    progress(note(done.word))
    progress(note(f"{done.received / 1e6:.1f} MB received, {done.reused / 1e6:.1f} MB were here"))
    echo(f"{path}  {item.entry.title}  {path.stat().st_size / 1e6:.1f} MB  {names(done.keys, trusted)}")
    on_device = done.manifest.target.get("portability") == "build_on_device"
    progress(note(f"next: gsvexport {'finalize' if on_device else 'verify'} {path}"))


@click.command()
@click.argument("repository")
@click.option(
    "--keep", type=click.IntRange(1), metavar="N", help="Of each voice and target only the N latest versions."
)
@click.option(
    "--grace",
    type=Finite(0, 36_500),
    default=1.0,
    show_default=True,
    metavar="DAYS",
    help="What a publisher began so long ago was given up.",
)
@click.option("--remove-bad", is_flag=True, help="Also entries that cannot be read.")
@click.option("--take-over", is_flag=True, help="Although another collection is said to run: it was killed.")
@shows_progress
def gc(repository: str, keep: int | None, grace: float, take_over: bool, remove_bad: bool, progress: Progress) -> None:
    """Remove from REPOSITORY what no published version needs.

    Safe while others publish and pull; but whoever pulls a version that --keep takes out is told that it is gone.
    """
    from gsvexport.registry.collect import collect
    from gsvexport.registry.places import open_place

    done = collect(
        open_place(repository),
        keep=keep,
        grace_days=grace,
        take_over=take_over,
        remove_bad=remove_bad,
        progress=progress,
    )
    echo(f"{done.versions} versions and {done.files} files removed, {done.size / 1e6:.1f} MB")


def _tell(bad: dict[str, ArtifactError]) -> None:
    """Name entries that were passed over."""
    for path, error in list(bad.items())[:_MOST_BAD]:
        echo(f"passed over {path}: {' '.join(str(error).split())}", err=True)
    if len(bad) > _MOST_BAD:
        echo(f"passed over {len(bad) - _MOST_BAD} more; gsvexport gc --remove-bad takes them out", err=True)


def _best(items: list[Listed], voice: str) -> tuple[Listed, list[str]]:
    """What fits this device best, and why, in lines.

    Raises:
        ArtifactError: nothing fits; says why of each.
    """
    from gsvexport.errors import ArtifactError
    from gsvexport.target.detect import Candidate, probe, rank

    seen = probe()
    verdicts = rank(seen, [Candidate(item.entry.target, item.entry.device, item.entry.size) for item in items])
    this = ", ".join([seen.arch, seen.system, *seen.cores, *seen.names[:1], *(gpu.name for gpu in seen.gpus)])
    if verdicts[0].against:
        raise ArtifactError(
            f"nothing of {voice} is for this device ({this})",
            problems=[verdict.line for verdict in verdicts],
            fix=f"build it for this device; to get one all the same: --target {verdicts[0].candidate.target}",
        )
    lines = [f"this device: {this}", f"chosen: {verdicts[0].line}", *(f"not {one.line}" for one in verdicts[1:])]
    return next(item for item in items if item.entry.target == verdicts[0].candidate.target), lines


def _page(listed: list[Listed]) -> str:
    """Everything in a repository."""
    from gsvexport.cli.show import table

    if not listed:
        return "nothing is published here\n"
    rows = [("VOICE", "VERSION", "TARGET", "MB", "CHECKS", "SIGNED BY", "DIGEST")]
    for item in listed:
        entry = item.entry
        gates = f"{entry.gates.get('pass', 0)} pass, {entry.gates.get('not_run', 0)} not run" if entry.gates else "none"
        signed = ", ".join(item.signed) or "nobody"
        row = (entry.version, entry.target, f"{entry.size / 1e6:.1f}", gates, signed, entry.digest[:12])
        rows.append((f"{entry.name}", *row))
    return table(rows)
