"""What is read of an artifact before anything of it is believed: its manifest, once, and who signed exactly that.

Everything that follows is held to those bytes: `container.unpacked` takes them, so what was checked is what is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gsvexport.artifact import container
from gsvexport.artifact.keys import TrustedKey, public_key, trusted_keys
from gsvexport.artifact.manifest import Manifest
from gsvexport.artifact.signature import PublicKey, Signature, valid
from gsvexport.errors import ArtifactError, EnvironmentProblem
from gsvexport.files import sha256_bytes

Key = str | Path | PublicKey | TrustedKey


@dataclass(frozen=True)
class Proven:
    """The manifest of an artifact as it was read, and the signatures of it that are right.

    `unchecked` says why none could be looked at; it is empty where they were, or where there are none.
    """

    path: Path
    text: bytes
    manifest: Manifest
    signatures: tuple[Signature, ...]
    unchecked: str = ""

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest's bytes, which cover every byte of every member."""
        return sha256_bytes(self.text)

    @property
    def keys(self) -> tuple[PublicKey, ...]:
        """Who signed."""
        return tuple(one.key for one in self.signatures)

    @property
    def trusted(self) -> TrustedKey | None:
        """The first trusted key that signed."""
        return next((one for one in trusted_keys() if one.key in self.keys), None)


def prove(path: Path, key: Key | None = None) -> Proven:
    """Read the manifest of an artifact, or of an unpacked one, and check its signatures; with `key`, that this one
    signed it.

    Raises:
        ArtifactError: no artifact; none of its signatures is right; or `key` did not sign it.
        InputError: `key` is no key.
        EnvironmentProblem: the package that checks signatures is not installed, and `key` was given.
    """
    text, data = container.signed(path)
    manifest = Manifest.from_bytes(text, str(path))
    wanted = None if key is None else public_key(key)
    try:
        proven = Proven(path, text, manifest, valid(data, text, str(path)))
    except EnvironmentProblem as error:
        if wanted is not None:
            raise
        return Proven(path, text, manifest, (), f"signed, and not checked: {error}")
    if wanted is not None and wanted.key not in proven.keys:
        raise ArtifactError(
            f"{path} is not signed by {wanted.name} (key {wanted.key.id})",
            found=names(proven.keys),
            fix="get it from its maker",
        )
    return proven


def names(found: tuple[PublicKey, ...], trusted: tuple[TrustedKey, ...] | None = None) -> str:
    """Who signed, in words."""
    known = {one.key: one.name for one in (trusted_keys() if trusted is None else trusted)}
    said = [f"{known[one]} (key {one.id})" if one in known else f"key {one.id}, not trusted here" for one in found]
    return f"signed by {'; '.join(said)}" if said else "not signed"
