"""Ed25519 signatures of artifacts: what is signed, how signatures are stored, and whether one is right.

Signed are the exact bytes of the manifest behind a line that says what they are, so that no signature made for another
purpose fits. The manifest lists size and SHA-256 of every member, hence a signature covers every byte of an artifact.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsvexport.artifact import container
from gsvexport.artifact.manifest import LARGEST_SIGNATURE
from gsvexport.errors import ArtifactError, EnvironmentProblem, GsvError, InputError
from gsvexport.files import canonical_json, sha256_bytes

MOST = 32  # signatures of one artifact
_SCHEMA = 1
_DOMAIN = b"gsvexport signature 1: the manifest of an artifact\n"
_KEY_BYTES, _SIGNATURE_BYTES = 32, 64


@dataclass(frozen=True, order=True)
class PublicKey:
    """An ed25519 public key, 32 bytes (RFC 8032)."""

    raw: bytes

    @property
    def id(self) -> str:
        """What it is called in messages: the first 16 hexadecimal digits of SHA-256 of the key."""
        return sha256_bytes(self.raw)[:16]

    @property
    def text(self) -> str:
        """The key in base64."""
        return base64.b64encode(self.raw).decode()

    @classmethod
    def from_text(cls, text: str) -> PublicKey:
        """Rebuild from base64, or raise `ValueError`."""
        return cls(_decoded(text, _KEY_BYTES))


@dataclass(frozen=True, order=True)
class Signature:
    """One signature, 64 bytes, and the key that it is checked with."""

    key: PublicKey
    value: bytes


def sign(private: bytes, manifest: bytes) -> Signature:
    """Sign the exact bytes of a manifest with a private key of 32 bytes. Equal arguments give equal signatures."""
    key = _ed25519().Ed25519PrivateKey.from_private_bytes(private)
    return Signature(PublicKey(key.public_key().public_bytes_raw()), key.sign(_DOMAIN + manifest))


def right(signature: Signature, manifest: bytes) -> bool:
    """Whether a signature is one of these bytes by its key."""
    ed25519 = _ed25519()
    from cryptography.exceptions import InvalidSignature

    try:
        ed25519.Ed25519PublicKey.from_public_bytes(signature.key.raw).verify(signature.value, _DOMAIN + manifest)
    except (InvalidSignature, ValueError):
        return False
    return True


def to_bytes(signatures: Iterable[Signature]) -> bytes:
    """The content of `signature.json`: at most one signature of each key, in the order of the keys.

    Raises:
        InputError: there are too many.
    """
    rows = sorted({signature.key: signature for signature in signatures}.values())
    if len(rows) > MOST:
        raise InputError("too many signatures on one artifact", found=len(rows), limit=MOST)
    table = [{"key": row.key.text, "signature": base64.b64encode(row.value).decode()} for row in rows]
    return canonical_json({"schema": _SCHEMA, "ed25519": table}).encode()


def from_bytes(data: bytes, where: str) -> tuple[Signature, ...]:
    """The signatures in the content of a `signature.json`; none of them is checked yet. `where` is for errors.

    Raises:
        ArtifactError: too large, or not exactly what `to_bytes` writes.
    """
    if len(data) > LARGEST_SIGNATURE:
        raise ArtifactError(
            f"{where}: its signatures are too large", found=len(data), limit=f"{LARGEST_SIGNATURE} bytes"
        )
    try:
        value: Any = json.loads(data)
        rows = [_row(row) for row in value["ed25519"]]
        if not rows or len(rows) > MOST or to_bytes(rows) != data:
            raise ValueError("not in canonical form")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"{where}: its signatures cannot be read: {error}", fix="get the artifact again") from error
    return tuple(rows)


def checked(data: bytes | None, manifest: bytes, where: str) -> tuple[PublicKey, ...]:
    """Who signed: the keys of all signatures in `data`, each of which is right; empty without signatures.

    Raises:
        ArtifactError: a signature cannot be read, or is none of this manifest.
        EnvironmentProblem: the package that checks signatures is not installed.
    """
    if data is None:
        return ()
    signatures = from_bytes(data, where)
    if wrong := [signature.key.id for signature in signatures if not right(signature, manifest)]:
        raise ArtifactError(
            f"{where} is wrongly signed: it was changed after it was signed, or its signature was",
            problems=[f"key {key} did not sign this manifest" for key in wrong],
            fix="get the artifact again",
        )
    return tuple(signature.key for signature in signatures)


def signers(path: Path) -> tuple[PublicKey, ...]:
    """Who signed an artifact, or one that was unpacked. Of it only manifest and signatures are read.

    Raises: as `checked`, and what reading the container raises.
    """
    return checked(container.signature(path), container.manifest_bytes(path), str(path))


def add_signature(path: Path, make: Callable[[bytes], Signature]) -> PublicKey:
    """Sign an artifact in place with `make(manifest bytes)`; signatures of other keys stay. Returns the key.

    The file is replaced at once, when the new one is complete.

    Raises:
        ArtifactError: the artifact is damaged, or has a signature that is wrong.
        EnvironmentProblem: the disk is full or not writable.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder; the .gsv file is signed")
    if problems := container.damage(path):
        raise ArtifactError(f"{path} is damaged, so it is not signed", problems=problems, fix="build it again")
    manifest, data = container.manifest_bytes(path), container.signature(path)
    checked(data, manifest, str(path))
    added = make(manifest)
    before = from_bytes(data, str(path)) if data is not None else ()
    container.with_signature(path, to_bytes([*before, added]), path, force=True)
    return added.key


def refusal(where: str, keys: Iterable[PublicKey], trusted: Path) -> GsvError:
    """The error for an artifact that no trusted key signed; `keys` are those that did sign."""
    keys = list(keys)
    if not keys:
        return ArtifactError(
            f"{where} is not signed",
            limit=f"a signature by a key in {trusted}",
            fix="ask who published it to sign it (gsvexport sign); to take it as it is: --allow-unsigned",
        )
    return ArtifactError(
        f"{where} is signed, but by nobody whom you trust",
        problems=[f"signed with key {key.id}: {key.text}" for key in keys],
        limit=f"a signature by a key in {trusted}",
        fix=f"if you know that key to be its maker's: gsvexport key trust {keys[0].text} --name MAKER; "
        "to take it as it is: --allow-unsigned",
    )


def _row(row: dict[str, str]) -> Signature:
    return Signature(PublicKey.from_text(row["key"]), _decoded(row["signature"], _SIGNATURE_BYTES))


def _decoded(text: str, size: int) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise ValueError(f"not base64: {error}") from error
    if len(data) != size:
        raise ValueError(f"{len(data)} bytes where {size} are wanted")
    return data


def _ed25519() -> Any:
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise EnvironmentProblem(
            "signatures need the package 'cryptography', which is not installed", fix="pip install cryptography"
        ) from None
    return ed25519
