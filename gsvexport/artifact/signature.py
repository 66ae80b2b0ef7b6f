"""Ed25519 signatures of artifacts: what is signed, how signatures are stored, and whether one is right.

Signed are the exact bytes of the manifest behind a line that says what they are, so that no signature made for another
purpose fits. The manifest lists size and SHA-256 of every member, hence a signature covers every byte of an artifact.
With a `Claim` the signer also says which version it is and since when: that is signed in front of the manifest.

A wrong signature counts for nothing, and takes nothing from a right one beside it: anybody can add one.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gsvexport.artifact import container
from gsvexport.artifact.manifest import LARGEST_SIGNATURE
from gsvexport.errors import ArtifactError, EnvironmentProblem, GsvError, InputError
from gsvexport.files import canonical_json, sha256_bytes
from gsvexport.untrusted.reading import parse_json

MOST = 32  # signatures of one artifact
_SCHEMA = 1
_DOMAIN = b"gsvexport signature 1: the manifest of an artifact\n"
_CLAIMING = b"gsvexport signature 2: what an artifact is, and its manifest\n"
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_VERSION = re.compile(r"(0|[1-9][0-9]{0,8})(\.(0|[1-9][0-9]{0,8})){0,3}")
_FIELD = (1 << 255) - 19
# y of the eight points of small order, by which anything is signed (RFC 8032, 5.1; the last two are y and -y of those
# of order 8). y is compared modulo the field's prime, so their other spellings are found, too.
_SMALL = {0, 1, _FIELD - 1, (_Y := 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7), _FIELD - _Y}
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
        """Rebuild from base64, or raise `ValueError`; also for a key that anything is signed by."""
        key = cls(_decoded(text, _KEY_BYTES))
        if key.weak:
            raise ValueError("a key of small order, by which anything is signed")
        return key

    @property
    def weak(self) -> bool:
        """Whether its point is of small order: signatures by it can be made by anybody."""
        return (int.from_bytes(self.raw, "little") & (1 << 255) - 1) % _FIELD in _SMALL


@dataclass(frozen=True, order=True)
class Claim:
    """What a signer says of an artifact: the voice's name, its version, and when it was signed (UTC, RFC 3339)."""

    name: str
    version: str
    time: str

    def __post_init__(self) -> None:
        texts = (self.name, self.version, self.time)
        known = all(isinstance(text, str) for text in texts) and len(self.name) <= 200
        if not known or not _VERSION.fullmatch(self.version) or not _TIME.fullmatch(self.time):
            raise ValueError("not the name, version and time of an artifact")


@dataclass(frozen=True)
class Signature:
    """One signature, 64 bytes, the key that it is checked with, and what is claimed besides."""

    key: PublicKey
    value: bytes
    claim: Claim | None = None


def sign(private: bytes, manifest: bytes, claim: Claim | None = None) -> Signature:
    """Sign the exact bytes of a manifest with a private key of 32 bytes. Equal arguments give equal signatures."""
    key = _ed25519().Ed25519PrivateKey.from_private_bytes(private)
    return Signature(PublicKey(key.public_key().public_bytes_raw()), key.sign(_signed(manifest, claim)), claim)


def right(signature: Signature, manifest: bytes) -> bool:
    """Whether a signature is one of these bytes by its key, and its key one that only its owner can sign with."""
    ed25519 = _ed25519()
    from cryptography.exceptions import InvalidSignature

    if signature.key.weak:
        return False
    try:
        data = _signed(manifest, signature.claim)
        ed25519.Ed25519PublicKey.from_public_bytes(signature.key.raw).verify(signature.value, data)
    except (InvalidSignature, ValueError):
        return False
    return True


def to_bytes(signatures: Iterable[Signature]) -> bytes:
    """The content of `signature.json`: at most one signature of each key, in the order of the keys.

    Raises:
        InputError: there are too many.
    """
    found = {signature.key: signature for signature in signatures}
    rows = [found[key] for key in sorted(found)]
    if len(rows) > MOST:
        raise InputError("too many signatures on one artifact", found=len(rows), limit=MOST)
    table = [
        {
            "key": row.key.text,
            "signature": base64.b64encode(row.value).decode(),
            **({"claim": asdict(row.claim)} if row.claim else {}),
        }
        for row in rows
    ]
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
        value: Any = parse_json(data)
        rows = [_row(row) for row in value["ed25519"]]
        if not rows or len(rows) > MOST or to_bytes(rows) != data:
            raise ValueError("not in canonical form")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"{where}: its signatures cannot be read: {error}", fix="get the artifact again") from error
    return tuple(rows)


def checked(data: bytes | None, manifest: bytes, where: str) -> tuple[PublicKey, ...]:
    """Who signed: the keys of the signatures in `data` that are right; empty without signatures.

    Raises: as `valid`.
    """
    return tuple(signature.key for signature in valid(data, manifest, where))


def valid(data: bytes | None, manifest: bytes, where: str) -> tuple[Signature, ...]:
    """The signatures in `data` that are right; empty without signatures.

    Raises:
        ArtifactError: they cannot be read, or none of them is one of this manifest.
        EnvironmentProblem: the package that checks signatures is not installed.
    """
    if data is None:
        return ()
    signatures = from_bytes(data, where)
    found = tuple(signature for signature in signatures if right(signature, manifest))
    if not found:
        raise ArtifactError(
            f"{where} is wrongly signed: it was changed after it was signed, or its signature was",
            problems=[f"key {one.key.id} did not sign this manifest" for one in signatures],
            fix="get the artifact again",
        )
    return found


def signers(path: Path) -> tuple[PublicKey, ...]:
    """Who signed an artifact, or one that was unpacked. Of it only manifest and signatures are read.

    Raises: as `checked`, and what reading the container raises.
    """
    manifest, data = container.signed(path)
    return checked(data, manifest, str(path))


def add_signature(path: Path, make: Callable[[bytes], Signature]) -> PublicKey:
    """Sign an artifact in place with `make(manifest bytes)`; right signatures of other keys stay. Returns the key.

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
    added = make(manifest)
    before = [one for one in valid(data, manifest, str(path)) if one.key != added.key]
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


def _row(row: dict[str, Any]) -> Signature:
    claim = Claim(**row["claim"]) if "claim" in row else None
    return Signature(PublicKey(_decoded(row["key"], _KEY_BYTES)), _decoded(row["signature"], _SIGNATURE_BYTES), claim)


def _signed(manifest: bytes, claim: Claim | None) -> bytes:
    if claim is None:
        return _DOMAIN + manifest
    return _CLAIMING + canonical_json(asdict(claim)).encode() + manifest  # the JSON says where it ends


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
