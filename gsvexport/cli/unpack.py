"""`gsvexport unpack`: plain files for programs that link them, or for a page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gsvexport.cli.echo import echo
from gsvexport.cli.progress import shows_progress
from gsvexport.errors import EnvironmentProblem, InputError
from gsvexport.progress import Progress

if TYPE_CHECKING:
    from gsvexport.model import Model

_SHOWN = 8  # sentences of the voice's language that a page offers without a pack


@click.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@click.option("--force", is_flag=True, help="Replace an unpacked artifact that is there.")
@click.option("--key", metavar="KEY", help="This key must have signed it: a trusted one's name, a file, or base64.")
@click.option("--allow-unsigned", is_flag=True, help="Also code that no trusted key signed.")
@click.option("--web", is_flag=True, help="With a page that speaks it in a browser, for any server of static files.")
@click.option("--ort", type=click.Path(path_type=Path), help="--web: a folder with onnxruntime-web (default: npm's).")
@click.option("--phrases", "pack", type=click.Path(path_type=Path), help="--web: a phrase pack for the page to say.")
@shows_progress
def unpack(
    artifact: Path,
    out: Path,
    force: bool,
    key: str | None,
    allow_unsigned: bool,
    web: bool,
    ort: Path | None,
    pack: Path | None,
    progress: Progress,
) -> None:
    """Write ARTIFACT as plain files, for C++, Android, or a device without gsvexport.

    Every byte is checked. README.txt lists the stages with their files and ports. The other commands take the folder
    as they take ARTIFACT.

    What is made for NVIDIA devices carries code for them, which has to be this release's own, byte for byte. It is
    unpacked where a trusted key signed it, or with --allow-unsigned.

    With --web the folder holds a page, onnxruntime-web (npm fetches it once) and the voice; see docs/web.md.

    \b
    Example:
      gsvexport unpack dist/alice-jetson-orin.gsv -o alice/ && scp -r alice/ jetson:
      gsvexport unpack dist/alice-browser.gsv --web -o site/ && python -m http.server -d site/
    """
    if not web and (ort or pack):
        raise InputError("--ort and --phrases are for --web", fix="gsvexport unpack ARTIFACT --web -o DIR")
    if web:
        from gsvexport.device.web import unpack_web

        manifest, size = unpack_web(
            artifact,
            out,
            lambda model: _phrases(model, pack),
            ort=ort,
            force=force,
            key=key,
            allow_unsigned=allow_unsigned,
            progress=progress,
        )
        echo(f"{out}  a page for {manifest.name}, {size / 1e6:.1f} MB; README.txt says how to serve it")
        return
    from gsvexport.device.unpack import unpack_to

    manifest = unpack_to(artifact, out, force=force, key=key, allow_unsigned=allow_unsigned, progress=progress)
    size = sum(member.size for member in manifest.files.values())
    echo(f"{out}  {len(manifest.files) + 1} files, {size / 1e6:.1f} MB")


def _phrases(model: Model, pack: Path | None) -> Mapping[str, Any]:
    """What the page offers to say: the phrases of a pack, or sentences of the voice's language that are read here."""
    from gsvexport.phrases.pack import Phrase, as_json, read_pack
    from gsvexport.text.symbols import symbols
    from gsvexport.verify.heldout import sentences

    if pack is not None:
        found = read_pack(pack)
        if found.symbols != model.symbols:
            limit = f"phone table {model.symbols}"
            raise InputError(f"{pack} is for another voice", found=f"phone table {found.symbols}", limit=limit)
        return {name: as_json(phrase) for name, phrase in found.phrases.items()}
    try:
        known = sentences(model)[:_SHOWN]
    except (InputError, EnvironmentProblem):  # no front end for the language, or not here
        return {}
    table = symbols(model.symbols)
    spoken = {one.text: tuple(table[phone] for phone in one.phones) for one in known}
    return {f"{at:02}": as_json(Phrase(text, pieces=(phones,))) for at, (text, phones) in enumerate(spoken.items())}
