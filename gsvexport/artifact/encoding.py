"""Members as they are stored: plain, or as one Brotli stream (RFC 7932) where that is smaller.

Reading never writes or holds more than a member's declared size, whatever a stream would expand to.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from gsvexport.artifact.manifest import BROTLI, Member
from gsvexport.errors import ArtifactError, EnvironmentProblem

FIX = "get the artifact again, or build it again"
# Brotli's quality by what an artifact is made for. 5 is the last that keeps up with a disk; 11 is the smallest.
QUALITIES = {"none": None, "fast": 5, "release": 11}
PAYS = 0.97  # of its plain size a stream may have; above, the member stays plain
_WINDOW = 22  # as log2 of bytes: what a device needs of memory to decode; 24 brings nothing on weights
_CHUNK = 1 << 20


def compress(
    source: IO[bytes], member: Member, target: Path, quality: int, progress: Callable[[float], None] | None = None
) -> Member | None:
    """Write the Brotli stream of a plain `member`, at which `source` stands, to the file `target`, and read it back.

    Returns the member it then is, or None where it is not worth it; `target` is then of no use. `progress` is told the
    share that is done. Equal bytes give equal streams with one version of Brotli.

    Raises:
        ArtifactError: `source` is not the member, or the stream does not give it back.
        EnvironmentProblem: the package `brotli` is not installed.
    """
    compressor = _brotli().Compressor(quality=quality, lgwin=_WINDOW)
    digest, done, written = hashlib.sha256(), 0, 0
    with open(target, "wb") as out:
        for chunk in decoded(source, member, str(target)):
            made = compressor.process(chunk)
            digest.update(made)
            written += out.write(made)
            done += len(chunk)
            if progress:
                progress(done / member.size)
        made = compressor.finish()
        digest.update(made)
        written += out.write(made)
    if written > PAYS * member.size:
        return None
    found = replace(member, encoding=BROTLI, stored_size=written, stored_sha256=digest.hexdigest())
    with open(target, "rb") as stream:
        for _ in decoded(stream, found, str(target)):
            pass
    return found


def compression(quality: int) -> str:
    """What writes streams of that quality, in words."""
    return f"brotli {_brotli().__version__}, quality {quality}, window {1 << _WINDOW} bytes"


def compressed_size(path: Path, quality: int = 5) -> int:
    """Bytes of a file's Brotli stream, which is not kept.

    Raises:
        EnvironmentProblem: the package `brotli` is not installed.
    """
    compressor, size = _brotli().Compressor(quality=quality, lgwin=_WINDOW), 0
    with open(path, "rb") as stream:
        while chunk := stream.read(_CHUNK):
            size += len(compressor.process(chunk))
    return size + len(compressor.finish())


def decoded(stream: IO[bytes], member: Member, where: str, *, crc: int | None = None) -> Iterator[bytes]:
    """A member's plain bytes in pieces, from a stream that stands at its stored bytes.

    Raises:
        ArtifactError: size or SHA-256, plain or stored, or the stored bytes' `crc` is not as declared; names `where`.
            The pieces that came before add up to no more than the declared size.
    """
    digest, left = hashlib.sha256(), member.size
    for piece in _expanded(_stored(stream, member, where, crc), member, where):
        left -= len(piece)
        if left < 0:
            raise ArtifactError(f"{where} holds more than the {member.size} bytes that it declares", fix=FIX)
        digest.update(piece)
        yield piece
    if left or digest.hexdigest() != member.sha256:
        raise _damaged(where)


def _stored(stream: IO[bytes], member: Member, where: str, crc: int | None) -> Iterator[bytes]:
    """Exactly the stored bytes, checked."""
    digest, found, left = hashlib.sha256(), 0, member.payload_size
    while left and (chunk := stream.read(min(_CHUNK, left))):
        left -= len(chunk)
        digest.update(chunk)
        found = zlib.crc32(chunk, found)
        yield chunk
    if left or digest.hexdigest() != member.payload_sha256 or crc not in (None, found):
        raise _damaged(where)


def _expanded(chunks: Iterator[bytes], member: Member, where: str) -> Iterator[bytes]:
    if member.encoding is None:
        yield from chunks
        return
    brotli = _brotli()
    decoder = brotli.Decompressor()
    try:
        for chunk in chunks:
            piece = decoder.process(chunk, output_buffer_limit=_CHUNK)
            while piece or not decoder.can_accept_more_data():
                yield piece
                piece = decoder.process(b"", output_buffer_limit=_CHUNK)
    except brotli.error as error:
        raise ArtifactError(f"{where} is damaged: it is no Brotli stream", fix=FIX) from error
    if not decoder.is_finished():
        raise _damaged(where)


def _damaged(where: str) -> ArtifactError:
    return ArtifactError(f"{where} is damaged: its size or SHA-256 is not what the manifest says", fix=FIX)


def _brotli() -> Any:
    try:
        import brotli
    except ImportError:
        raise EnvironmentProblem(
            "compressed artifacts need the package 'brotli', which is not installed", fix="pip install 'brotli>=1.2'"
        ) from None
    return brotli
