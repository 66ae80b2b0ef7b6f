"""Keys and signatures: `gsvexport key …`, `gsvexport sign`, and what `verify` and `inspect` say of who signed."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path

import click

from gsvexport.cli.echo import echo

_PATH = click.Path(path_type=Path)


@click.group()
def key() -> None:
    """Make, show and trust the keys that artifacts are signed with (ed25519).

    A private key stays in the folder of your settings and is never shown. Who pulls what you sign has to trust the
    public one, and to get it on a way that they trust.

    \b
    Examples:
      gsvexport key new release               on the machine that signs; prints the public key
      gsvexport key trust 'PUBLIC KEY' --name alice-inc        on a device
    """


@key.command("new")
@click.argument("name")
def new(name: str) -> None:
    """Make a private key, and trust its public one, which is printed."""
    from gsvexport.artifact.keys import new_key, private_file

    made = new_key(name)
    echo(f"{private_file(name)} is yours alone: keep a copy in a safe place", err=True)
    echo(made.line)


@key.command("list")
def list_keys() -> None:
    """Show the trusted keys, and which of them can sign here."""
    from gsvexport.artifact.keys import private_names, trusted_file, trusted_keys
    from gsvexport.cli.show import table

    own = private_names()
    rows = [(one.name, one.key.id, one.key.text, "signs" if one.name in own else "") for one in trusted_keys()]
    echo(table([("NAME", "KEY ID", "PUBLIC KEY", ""), *rows]) if rows else "no trusted keys\n", nl=False)
    for name in sorted({*own} - {row[0] for row in rows}):
        echo(f"{name}: signs here, is not trusted")
    echo(f"\n{trusted_file()}")


@key.command("trust")
@click.argument("public", metavar="FILE|BASE64")
@click.option("--name", help="What you call the key; needed for one in base64.")
def trust(public: str, name: str | None) -> None:
    """Trust a public key: one or more lines `ed25519 BASE64 NAME` in a file, such a line, or the base64 alone."""
    from gsvexport.artifact import keys

    if os.path.isfile(public):
        found = list(keys.trusted_keys(Path(public)))
    else:
        words = public.split()
        found = [keys.public_key(words[1] if len(words) == 3 else public)]
        name = name or (words[2] if len(words) == 3 else None)
    if name is None and any(one.name == one.key.id for one in found):
        raise click.UsageError("a key in base64 needs --name")
    if name is not None and len(found) > 1:
        raise click.UsageError(f"{public} holds {len(found)} keys, so --name cannot name them")
    for one in found:
        one = keys.TrustedKey(name or one.name, one.key)
        keys.trust(one)
        echo(f"trusted from now on: {one.name} (key {one.key.id})")


@key.command("remove")
@click.argument("name")
def remove(name: str) -> None:
    """Trust a key no more. A private key of that name stays where it is."""
    from gsvexport.artifact.keys import distrust, private_file, private_names

    gone = distrust(name)
    echo(f"not trusted any more: {gone.name} (key {gone.key.id})")
    if gone.name in private_names():
        echo(f"its private key stays in {private_file(gone.name)}", err=True)


@click.command()
@click.argument("artifact", type=_PATH)
@click.option("--key", "name", required=True, metavar="NAME", help="The private key, by the name it was made with.")
@click.option("--version", metavar="NUMBERS", help="Also sign that it is this version, and the time; publish takes it.")
def sign(artifact: Path, name: str, version: str | None) -> None:
    """Sign ARTIFACT, in place; signatures of other keys stay.

    A signature covers the manifest, byte for byte, and with it every member. With --version it also covers the voice's
    name, that version, and the time: `pull` then needs no repository's word for them.

    \b
    Example:
      gsvexport sign dist/alice-x86-64.gsv --key release --version 1.2.0
    """
    from functools import partial

    from gsvexport.artifact.container import read_manifest
    from gsvexport.artifact.keys import sign_with
    from gsvexport.artifact.signature import Claim, add_signature
    from gsvexport.errors import InputError

    claim = None
    if version is not None:
        now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        try:
            claim = Claim(read_manifest(artifact).name, version, now)
        except ValueError:
            raise InputError(f"{version[:80]!a} is no version", limit="one to four numbers with dots") from None
    made = add_signature(artifact, partial(sign_with, name, claim=claim))
    echo(f"{artifact}  signed by {name} (key {made.id})")


def signed_by(artifact: Path, wanted: str | None = None) -> str:
    """Who signed an artifact, in a line; every signature is checked.

    Raises:
        ArtifactError: a signature is wrong; or the key that is `wanted` did not sign.
        InputError: `wanted` is no key.
        EnvironmentProblem: signatures cannot be checked here, and one was asked for.
    """
    from gsvexport.artifact.trust import names, prove

    found = prove(artifact, wanted)
    claims = [
        f"{one.key.id} says: {one.claim.name} {one.claim.version}, {one.claim.time}"
        for one in found.signatures
        if one.claim
    ]
    return found.unchecked or "; ".join([names(found.keys), *claims])
