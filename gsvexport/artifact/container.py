"""The `.gsv` container: a zip of stored members, manifest first, with fixed times: equal contents give equal bytes.

Reading trusts nothing: the manifest's size is bounded before it is read, every other member must be listed there with
exactly its size and SHA-256, and nothing else may be in the file. Reading needs the standard library alone.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO

from gsvexport.artifact.manifest import LARGEST_MANIFEST, MANIFEST, MOST_MEMBERS, REPORT, Manifest, Member, safe_name
from gsvexport.errors import ArtifactError
from gsvexport.files import (
    TEMPORARY_PREFIX,
    atomic_file,
    cache_directory,
    canonical_json,
    disk_errors,
    sha256_bytes,
    sha256_file,
)

SUFFIX = ".gsv"
_CHUNK = 1 << 20
_ZIP64 = (1 << 31) - 1
_EPOCH = (1980, 1, 1, 0, 0, 0)
_STALE_SECONDS = 86400  # an unpacking that has not ended after a day belongs to a dead process
_FIX = "get the artifact again, or build it again"


def with_members(manifest: Manifest, folder: Path) -> Manifest:
    """The manifest with the files of `folder` as its members; `report.json`, if there, becomes its report.

    Raises:
        ArtifactError: a file has a name that a member cannot have.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and (name := path.relative_to(folder).as_posix()) != MANIFEST:
            if path.is_symlink() or not safe_name(name):
                raise ArtifactError(f"{path} cannot be a member of an artifact")
            found[name] = Member(path.stat().st_size, sha256_file(path))
    return replace(manifest, report=found.pop(REPORT, None), members=found)


def write(manifest: Manifest, folder: Path, path: Path, *, force: bool = False) -> None:
    """Pack the files of `folder` that `manifest` lists into `path`, which appears complete or not at all.

    Raises:
        InputError: `path` exists and `force` is false.
        ArtifactError: a file is not what the manifest says.
        EnvironmentProblem: the disk is full or not writable.
    """
    text = canonical_json(manifest.to_json()).encode()
    with atomic_file(path, force=force) as work, zipfile.ZipFile(work, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(_info(MANIFEST), text)
        for name, member in sorted(manifest.files.items()):
            large = member.size > _ZIP64
            with open(folder / name, "rb") as stream, archive.open(_info(name), "w", force_zip64=large) as out:
                _copy(stream, out, member, f"{folder / name}")


def read_manifest(path: Path) -> Manifest:
    """The manifest of a container, or of a folder that one was unpacked to.

    Raises:
        ArtifactError: no artifact, damaged, or of an unknown schema.
    """
    if path.is_dir():
        file = path / MANIFEST
        if not file.is_file() or file.stat().st_size > LARGEST_MANIFEST:
            raise ArtifactError(f"{path} is not an unpacked artifact", fix="pass a .gsv file")
        return Manifest.from_bytes(file.read_bytes(), str(path))
    with _opened(path) as archive:
        return _checked(archive, path)


def read_member(path: Path, name: str) -> bytes:
    """One member's bytes from a container, checked against the manifest.

    Raises:
        ArtifactError: no artifact, damaged, or without such a member.
    """
    with _opened(path) as archive:
        manifest = _checked(archive, path)
        if name not in manifest.files:
            raise ArtifactError(f"{path} holds no {name}", fix="gsvexport inspect shows what it holds")
        data = archive.read(name)
        if sha256_bytes(data) != manifest.files[name].sha256:
            raise ArtifactError(f"{path}: {name} is damaged (SHA-256 differs)", fix=_FIX)
        return data


def unpack(path: Path, folder: Path) -> Manifest:
    """Unpack a container into the empty folder `folder`, checking the size and SHA-256 of every member.

    Raises:
        ArtifactError: the container is hostile, damaged or of an unknown schema; names the member.
        EnvironmentProblem: the disk is full or not writable.
    """
    with disk_errors(folder), _opened(path) as archive:
        manifest = _checked(archive, path)
        folder.mkdir(parents=True, exist_ok=True)
        for name, member in manifest.files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(name) as stream, open(target, "wb") as out:
                _copy(stream, out, member, f"{path}: {name}")
        (folder / MANIFEST).write_bytes(canonical_json(manifest.to_json()).encode())
    return manifest


def unpacked(path: Path) -> Path:
    """The folder that a container is unpacked to, once, in the user's cache; it is named by SHA-256 of the manifest.

    Unpacking checks every hash. A folder that is there already has its file list and sizes checked, which takes no
    time, and is unpacked again when they differ; `differences` with `hashes=True` checks every byte.

    Raises: as `unpack`.
    """
    manifest = read_manifest(path)
    root = cache_directory() / "unpacked"
    folder = root / sha256_bytes(canonical_json(manifest.to_json()).encode())
    if not differences(folder, manifest):
        with contextlib.suppress(OSError):
            os.utime(folder)  # pruning goes by the last use
        return folder
    with disk_errors(root):
        root.mkdir(parents=True, exist_ok=True)
        sweep(root)
        work = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=root))
        try:
            unpack(path, work / "new")
            _put(work, folder, manifest)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return folder


def differences(folder: Path, manifest: Manifest, *, hashes: bool = False) -> list[str]:
    """What in an unpacked folder is not as its manifest says: files and sizes; with `hashes` every byte."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if not path.is_dir()}
    wanted = {**manifest.files, MANIFEST: None}
    problems = [f"{name} is missing" for name in wanted if name not in found]
    problems += [f"{name} does not belong to it" for name in found if name not in wanted]
    for name, member in manifest.files.items():
        if (path := found.get(name)) is None:
            continue
        if path.is_symlink() or path.stat().st_size != member.size:
            problems.append(f"{name} has another size")
        elif hashes and sha256_file(path) != member.sha256:
            problems.append(f"{name} has changed (SHA-256 differs)")
    return problems


def damage(path: Path) -> list[str]:
    """Which members of a container are not, byte for byte, what its manifest says; reads all of it.

    Raises:
        ArtifactError: the container is hostile, or so damaged that its table of contents cannot be used.
    """
    found = []
    with _opened(path) as archive:
        for name, member in _checked(archive, path).files.items():
            try:
                with archive.open(name) as stream, open(os.devnull, "wb") as nowhere:
                    _copy(stream, nowhere, member, name)
            except (ArtifactError, zipfile.BadZipFile):
                found.append(f"{name} has changed (SHA-256 differs)")
    return found


def sweep(root: Path) -> None:
    """Remove what unpackings that were killed left in the cache more than a day ago."""
    for path in root.glob(f"{TEMPORARY_PREFIX}*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(path, ignore_errors=True)


def _put(work: Path, folder: Path, manifest: Manifest) -> None:
    """Move `work/new` to `folder`, unless another process has put it there meanwhile; a damaged folder goes aside."""
    while differences(folder, manifest):
        with contextlib.suppress(FileNotFoundError):
            os.rename(folder, Path(tempfile.mkdtemp(dir=work)) / "damaged")
        try:
            os.rename(work / "new", folder)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The container as a zip; whatever the zip reader stumbles over becomes an `ArtifactError` that names `path`."""
    try:
        stream = open(path, "rb")  # noqa: SIM115 - closed below; its errors are told apart from the zip's
    except FileNotFoundError as error:
        raise ArtifactError(f"{path} does not exist") from error
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror}") from error
    try:
        with stream, zipfile.ZipFile(stream) as archive:
            yield archive
    except (zipfile.BadZipFile, EOFError, NotImplementedError, UnicodeDecodeError, ValueError) as error:
        raise ArtifactError(f"{path} is not a whole .gsv artifact: {error}", fix=_FIX) from error


def _checked(archive: zipfile.ZipFile, path: Path) -> Manifest:
    """The manifest, once the table of contents is known to be exactly what it lists."""
    infos = archive.infolist()
    if not infos or infos[0].filename != MANIFEST or infos[0].header_offset != 0:
        raise ArtifactError(f"{path} is not a .gsv artifact: {MANIFEST} is not its first member", fix=_FIX)
    if len(infos) > MOST_MEMBERS + 2 or infos[0].file_size > LARGEST_MANIFEST:
        raise ArtifactError(
            f"{path}: too many members, or too large a manifest",
            found=f"{len(infos)} members, {infos[0].file_size} bytes of manifest",
            limit=f"{MOST_MEMBERS} members, {LARGEST_MANIFEST} bytes",
        )
    problems = [f"{info.filename!r} is not stored plainly" for info in infos if not _plain(info)]
    names = [info.filename for info in infos]
    problems += [f"{name!r} is there {names.count(name)} times" for name in sorted({*names}) if names.count(name) > 1]
    if sum(info.file_size for info in infos) > path.stat().st_size:
        problems.append("its members claim more bytes than the file has")
    if problems:
        raise ArtifactError(f"{path} is not a .gsv artifact as gsvexport writes them", problems=problems, fix=_FIX)
    manifest = Manifest.from_bytes(archive.read(MANIFEST), str(path))
    sizes = {info.filename: info.file_size for info in infos[1:]}
    problems = [f"{name} is missing" for name in manifest.files if name not in sizes]
    problems += [f"{name!r} is not in the manifest" for name in sizes if name not in manifest.files]
    problems += [
        f"{name} has {sizes[name]} bytes, the manifest says {member.size}"
        for name, member in manifest.files.items()
        if name in sizes and sizes[name] != member.size
    ]
    if problems:
        raise ArtifactError(f"{path} does not hold what its manifest lists", problems=problems, fix=_FIX)
    return manifest


def _plain(info: zipfile.ZipInfo) -> bool:
    encrypted = info.flag_bits & 0x1
    return info.compress_type == zipfile.ZIP_STORED and info.file_size == info.compress_size and not encrypted


def _info(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.create_system = 3  # the same on every system
    info.external_attr = 0o100644 << 16
    return info


def _copy(stream: IO[bytes], out: IO[bytes], member: Member, where: str) -> None:
    """Copy exactly one member's bytes; anything else is an error before it is complete."""
    digest = hashlib.sha256()
    left = member.size
    while chunk := stream.read(min(_CHUNK, left + 1)):
        left -= len(chunk)
        if left < 0:
            break
        digest.update(chunk)
        out.write(chunk)
    if left or digest.hexdigest() != member.sha256:
        raise ArtifactError(f"{where} is damaged: its size or SHA-256 is not what the manifest says", fix=_FIX)
