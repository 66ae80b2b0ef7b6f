"""`gsvexport unpack`: plain files for programs that link them."""

from __future__ import annotations

from pathlib import Path

import click

from gsvexport.cli.echo import echo
from gsvexport.cli.progress import shows_progress
from gsvexport.progress import Progress


@click.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@click.option("--force", is_flag=True, help="Replace an unpacked artifact that is there.")
@click.option("--key", metavar="KEY", help="This key must have signed it: a trusted one's name, a file, or base64.")
@click.option("--allow-unsigned", is_flag=True, help="Also code that no trusted key signed.")
@shows_progress
def unpack(artifact: Path, out: Path, force: bool, key: str | None, allow_unsigned: bool, progress: Progress) -> None:
    """Write ARTIFACT as plain files, for C++, Android, or a device without gsvexport.

    Every byte is checked. README.txt lists the stages with their files and ports. The other commands take the folder
    as they take ARTIFACT.

    What is made for NVIDIA devices carries code for them, which has to be this release's own, byte for byte. It is
    unpacked where a trusted key signed it, or with --allow-unsigned.

    \b
    Example:
      gsvexport unpack dist/alice-jetson-orin.gsv -o alice/ && scp -r alice/ jetson:
    """
    from gsvexport.device.unpack import unpack_to

    manifest = unpack_to(artifact, out, force=force, key=key, allow_unsigned=allow_unsigned, progress=progress)
    size = sum(member.size for member in manifest.files.values())
    echo(f"{out}  {len(manifest.files) + 1} files, {size / 1e6:.1f} MB")
