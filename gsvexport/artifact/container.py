"""The `.gsv` container: a zip of stored members, manifest first, whose bytes follow from the manifest and the members.

    manifest.json, then every member in the order of names, then perhaps signature.json

Reading trusts nothing: the manifest's size is bounded before it is read; from it follows where every other member lies,
and the file has to be exactly that, header by header, with nothing between, before or behind. A member's size and
SHA-256 are checked whenever it is read. Reading needs the standard library, and Brotli where members are compressed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, BinaryIO

from gsvexport.artifact.encoding import FIX, decoded
from gsvexport.artifact.kept import kept
from gsvexport.artifact.layout import LONGEST_HEADER, Entry, directory, local_header, read_header
from gsvexport.artifact.manifest import (
    LARGEST_MANIFEST,
    LARGEST_SIGNATURE,
    MANIFEST,
    README,
    REPORT,
    SIGNATURE,
    Manifest,
    Member,
)
from gsvexport.errors import ArtifactError, EnvironmentProblem
from gsvexport.files import atomic_file, canonical_json, disk_errors, free_space, sha256_bytes, sha256_file, sha256_once
from gsvexport.untrusted.reading import inside, opened, read_bytes, safe_name, why

SUFFIX = ".gsv"
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Payload:
    """A member's bytes as they are stored: `size` bytes from byte `offset` of the container on, and their SHA-256."""

    name: str
    offset: int
    size: int
    sha256: str


def with_members(manifest: Manifest, folder: Path) -> Manifest:
    """The manifest with the files of `folder` as its members, plain; `report.json`, if there, becomes its report.

    Raises:
        ArtifactError: a file has a name that a member cannot have.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and (name := path.relative_to(folder).as_posix()) != MANIFEST:
            if path.is_symlink() or not safe_name(name):
                raise ArtifactError(f"{path} cannot be a member of an artifact")
            found[name] = Member(path.stat().st_size, sha256_file(path))
    return replace(manifest, report=found.pop(REPORT, None), members=found, compression=None)


def write(manifest: Manifest, folder: Path, path: Path, *, force: bool = False) -> None:
    """Pack the files of `folder`, whose plain members `manifest` lists, into `path`.

    Raises: as `assemble`.
    """
    assemble(manifest, lambda name: folder / name, path, force=force)


def assemble(
    manifest: Manifest,
    payload: Callable[[str], Path | BinaryIO],
    path: Path,
    *,
    signature: bytes | None = None,
    force: bool = False,
) -> None:
    """Write a container of stored bytes; it appears complete or not at all, and equal arguments give equal bytes.

    `payload(name)` is a file that holds exactly a member's stored bytes, or a stream that stands at them; such a stream
    is left open, and what follows in it is not read.

    Raises:
        InputError: `path` exists and `force` is false.
        ArtifactError: stored bytes are not what the manifest says, or it lists what cannot be.
        EnvironmentProblem: the disk is full or not writable.
    """
    with atomic_file(path, force=force) as work:
        _assemble(manifest, payload, work, signature)


def _assemble(
    manifest: Manifest, payload: Callable[[str], Path | BinaryIO], path: Path, signature: bytes | None
) -> None:
    text = canonical_json(manifest.to_json()).encode()
    Manifest.from_bytes(text, str(path))
    if signature is not None and len(signature) > LARGEST_SIGNATURE:
        raise ArtifactError("the signature is too large", found=len(signature), limit=LARGEST_SIGNATURE)
    with open(path, "wb") as out:
        entries = [_append(out, MANIFEST, [text], len(text))]
        for name, member in sorted(manifest.files.items()):
            found = payload(name)
            if isinstance(found, Path):
                if found.stat().st_size != member.payload_size:
                    raise ArtifactError(f"{found} is damaged: its size is not what the manifest says", fix=FIX)
                with open(found, "rb") as stream:
                    entries.append(_append_payload(out, name, stream, member, str(found)))
            else:
                entries.append(_append_payload(out, name, found, member, name))
        if signature is not None:
            entries.append(_append(out, SIGNATURE, [signature], len(signature)))
        out.write(directory(entries))


def read_manifest(path: Path) -> Manifest:
    """The manifest of a container, or of a folder that one was unpacked to.

    Raises:
        ArtifactError: no artifact, damaged, or of an unknown schema.
    """
    return Manifest.from_bytes(manifest_bytes(path), str(path))


def manifest_bytes(path: Path) -> bytes:
    """The exact bytes of the manifest, which are what a signature signs; their SHA-256 covers all members.

    Raises: as `read_manifest`.
    """
    if path.is_dir():
        try:
            data = read_bytes(inside(path, MANIFEST), LARGEST_MANIFEST)
        except (OSError, ValueError) as error:
            what = f"{path} is not an unpacked artifact: {MANIFEST} {why(error)}"
            raise ArtifactError(what, fix="pass a .gsv file") from error
        Manifest.from_bytes(data, str(path))
        return data
    with _opened(path) as found:
        return found.text


def signature(path: Path) -> bytes | None:
    """The bytes of `signature.json`, of a container or an unpacked folder; None where there is none.

    They are as they were found: whether they sign anything is for `gsvexport.artifact.signature` to say.

    Raises: as `read_manifest`.
    """
    if path.is_dir():
        try:
            return read_bytes(inside(path, SIGNATURE), LARGEST_SIGNATURE)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{path / SIGNATURE} {why(error)}", fix=FIX) from error
    with _opened(path) as found:
        return found.signature


def signed(path: Path) -> tuple[bytes, bytes | None]:
    """The exact bytes of the manifest and those of `signature.json`, or None, read at once; see `manifest_bytes`.

    Raises: as `read_manifest`.
    """
    if path.is_dir():
        return manifest_bytes(path), signature(path)
    with _opened(path) as found:
        return found.text, found.signature


def with_signature(path: Path, data: bytes | None, out: Path, *, force: bool = False) -> None:
    """Write to `out` the container `path` with another signature, or with None; `out` may be `path` with `force`.

    Raises: as `assemble`, and as `read_manifest`.
    """
    with _opened(path):
        pass  # no artifact: that is told before anything is made
    with atomic_file(out, force=force) as work, _opened(path) as found:  # closed before it is replaced

        def payload(name: str) -> BinaryIO:
            found.stream.seek(found.entries[name].offset)
            return found.stream

        _assemble(found.manifest, payload, work, data)


def payloads(path: Path) -> list[Payload]:
    """Where the stored bytes of every member lie in a container, the report included; they are not read.

    Raises: as `read_manifest`.
    """
    with _opened(path) as found:
        files = found.manifest.files
        return [
            Payload(name, entry.offset, entry.size, files[name].payload_sha256) for name, entry in found.entries.items()
        ]


def read_member(path: Path, name: str) -> bytes:
    """One member's plain bytes from a container, checked against the manifest.

    Raises:
        ArtifactError: no artifact, damaged, or without such a member.
    """
    with _opened(path) as found:
        if name not in found.entries:
            raise ArtifactError(f"{path} holds no {name}", fix="gsvexport inspect shows what it holds")
        return b"".join(found.read(name))


def unpack(path: Path, folder: Path, text: bytes | None = None) -> Manifest:
    """Unpack a container into the empty folder `folder`, checking the size and SHA-256 of every member; with `text`
    also that its manifest is those bytes.

    Raises:
        ArtifactError: the container is hostile, damaged or of an unknown schema; names the member. It was replaced
            since `text` was read.
        EnvironmentProblem: the disk is full or not writable.
    """
    with disk_errors(folder), _opened(path) as found:
        if text not in (None, found.text):
            raise ArtifactError(f"{path} was replaced while it was read", fix="try again")
        needed = sum(member.size for member in found.manifest.files.values())
        if (free := free_space(folder)) < needed:
            raise EnvironmentProblem(
                f"{path} does not fit on the disk of {folder}",
                found=f"{free / 1e6:.1f} MB free",
                limit=f"{needed / 1e6:.1f} MB are needed",
                fix="free some space, gsvexport cache --prune, or choose another place with -o or GSVEXPORT_CACHE",
            )
        folder.mkdir(parents=True, exist_ok=True)
        for name in found.entries:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(target, "xb") as out:
                for piece in found.read(name):
                    out.write(piece)
        (folder / MANIFEST).write_bytes(found.text)
        return found.manifest


def unpacked(path: Path, text: bytes | None = None) -> Path:
    """The folder that a container is unpacked to, once, in the user's cache; it is named by SHA-256 of the manifest,
    whose bytes are `text` where it was read and checked before.

    Unpacking checks every hash. A folder that is there already is checked in every byte, too, once in a process, and
    unpacked again when it differs. It is held (see `held`) until the process ends, or `release` is called.

    Raises: as `unpack`.
    """
    text = manifest_bytes(path) if text is None else text
    pinned, manifest = text, Manifest.from_bytes(text, str(path))
    return kept(
        sha256_bytes(text),
        lambda folder: not differences(folder, manifest, hashes=sha256_once, text=pinned),
        lambda new: unpack(path, new, pinned),
    )


def differences(
    folder: Path,
    manifest: Manifest,
    *,
    hashes: Callable[[Path], str] | bool | None = None,
    text: bytes | None = None,
) -> list[str]:
    """What in an unpacked folder is not as its manifest says: files and sizes; with `hashes` every byte, as that
    function reads them (True: all, now). `text` are the manifest's own bytes, where they are known."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if not _plain_folder(path)}
    sha256 = sha256_file if hashes is True else hashes or None
    wanted = {**manifest.files, MANIFEST: None}
    problems = [f"{name} is missing" for name in wanted if name not in found]
    problems += [f"{name} does not belong to it" for name in found if name not in (*wanted, SIGNATURE, README)]
    text = canonical_json(manifest.to_json()).encode() if text is None else text
    if MANIFEST in found and not _same(found[MANIFEST], text):
        problems.append(f"{MANIFEST} is another one")
    for name, member in manifest.files.items():
        if (path := found.get(name)) is None:
            continue
        if path.is_symlink() or not path.is_file() or path.stat().st_size != member.size:
            problems.append(f"{name} has another size")
        elif sha256 is not None and sha256(path) != member.sha256:
            problems.append(f"{name} has changed (SHA-256 differs)")
    return problems


def _plain_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _same(path: Path, data: bytes) -> bool:
    try:
        return not path.is_symlink() and read_bytes(path, LARGEST_MANIFEST) == data
    except (OSError, ValueError):
        return False


def damage(path: Path) -> list[str]:
    """Which members of a container are not, byte for byte, what its manifest says; reads all of it.

    Raises:
        ArtifactError: the container is hostile, or damaged outside of its members.
    """
    wrong = []
    with _opened(path) as found:
        for name in found.entries:
            try:
                for _ in found.read(name):
                    pass
            except ArtifactError:
                wrong.append(f"{name} has changed (SHA-256 differs)")
    return wrong


@dataclass(frozen=True, eq=False)
class _Opened:
    """A container whose every byte outside of the members is as it has to be. `text` is the manifest's."""

    path: Path
    stream: BinaryIO
    text: bytes
    manifest: Manifest
    entries: dict[str, Entry]
    signature: bytes | None

    def read(self, name: str) -> Iterator[bytes]:
        """A member's plain bytes in pieces, checked."""
        entry = self.entries[name]
        self.stream.seek(entry.offset)
        return decoded(self.stream, self.manifest.files[name], f"{self.path}: {name}", crc=entry.crc)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[_Opened]:
    """The container, checked up to the members' own bytes."""
    try:
        stream = opened(path)
    except FileNotFoundError as error:
        raise ArtifactError(f"{path} does not exist") from error
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} {why(error)}") from error
    with stream:
        yield _checked(stream, path)


def _checked(stream: BinaryIO, path: Path) -> _Opened:
    size = os.fstat(stream.fileno()).st_size
    first = _header(stream, 0)
    if first is None or first.name != MANIFEST:
        raise ArtifactError(f"{path} is not a .gsv artifact: {MANIFEST} is not its first member", fix=FIX)
    if first.size > LARGEST_MANIFEST:
        raise ArtifactError(f"{path}: too large a manifest", found=first.size, limit=LARGEST_MANIFEST)
    text = _whole(stream, first, path)
    manifest = Manifest.from_bytes(text, str(path))
    entries, place = {}, first.end
    for name, member in sorted(manifest.files.items()):
        found = _header(stream, place)
        if found is None or (found.name, found.size) != (name, member.payload_size) or found.end > size:
            cut = f"; it ends at byte {size}, inside of it" if found is None or found.end > size else ""
            what = f"no {name} of {member.payload_size} bytes at byte {place}{cut if place < size else ''}"
            raise ArtifactError(f"{path} does not hold what its manifest lists: {what}", fix=FIX)
        entries[name], place = found, found.end
    last = _header(stream, place)
    signed = None
    if last is not None and last.name == SIGNATURE:
        if last.size > LARGEST_SIGNATURE:
            raise ArtifactError(f"{path}: too large a signature", found=last.size, limit=LARGEST_SIGNATURE)
        signed, place = _whole(stream, last, path), last.end
    end = directory([first, *entries.values(), *([last] if last is not None and signed is not None else [])])
    stream.seek(place)
    if stream.read(len(end) + 1) != end:
        raise ArtifactError(f"{path} holds more, or less, than its manifest lists, or is damaged at its end", fix=FIX)
    return _Opened(path, stream, text, manifest, entries, signed)


def _header(stream: BinaryIO, start: int) -> Entry | None:
    stream.seek(start)
    return read_header(stream.read(LONGEST_HEADER), start)


def _whole(stream: BinaryIO, entry: Entry, path: Path) -> bytes:
    """A small member that the manifest does not list; its CRC is all that there is to check."""
    stream.seek(entry.offset)
    data = stream.read(entry.size)
    if len(data) != entry.size or zlib.crc32(data) != entry.crc:
        raise ArtifactError(f"{path} is damaged: {entry.name} is not whole", fix=FIX)
    return data


def _append(out: IO[bytes], name: str, chunks: Iterator[bytes] | list[bytes], size: int) -> Entry:
    """Write a member at the end; its header once more when its CRC is known."""
    entry = Entry(name, out.tell(), size, 0)
    out.write(local_header(entry))
    crc = 0
    for chunk in chunks:
        crc = zlib.crc32(chunk, crc)
        out.write(chunk)
    entry = replace(entry, crc=crc)
    out.seek(entry.start)
    out.write(local_header(entry))
    out.seek(entry.end)
    return entry


def _append_payload(out: IO[bytes], name: str, stream: IO[bytes], member: Member, where: str) -> Entry:
    digest = hashlib.sha256()

    def chunks() -> Iterator[bytes]:
        left = member.payload_size
        while left and (chunk := stream.read(min(_CHUNK, left))):
            left -= len(chunk)
            digest.update(chunk)
            yield chunk

    entry = _append(out, name, chunks(), member.payload_size)
    if digest.hexdigest() != member.payload_sha256:
        raise ArtifactError(f"{where} is damaged: its size or SHA-256 is not what the manifest says", fix=FIX)
    return entry
