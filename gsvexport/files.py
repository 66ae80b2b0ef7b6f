"""Files that are either complete or absent, and names that depend on content alone."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from gsvexport.errors import EnvironmentProblem, InputError

TEMPORARY_PREFIX = ".partial-"
_CHUNK = 1 << 20
_MadeT = TypeVar("_MadeT")


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, two-space indent and a final newline; NaN and infinities are refused.

    Equal values give equal bytes, so the text can be hashed.
    """
    return json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def sha256_bytes(data: bytes) -> str:
    """SHA-256 as 64 lower-case hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's content, read in chunks."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk, a missing permission or too long a name into an `EnvironmentProblem` that names `path`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _disk_full(path) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG):
            raise _unwritable(path, error) from error
        raise
    except Exception as error:
        # A library that does its own writing (safetensors) raises its own exception with the system's text in it.
        if os.strerror(errno.ENOSPC) in str(error):
            raise _disk_full(path) from error
        raise


def _disk_full(path: Path) -> EnvironmentProblem:
    free = shutil.disk_usage(_existing_parent(path)).free
    return EnvironmentProblem(
        f"the disk is full while writing {path}",
        found=f"{free / 1e6:.0f} MB free without what was being written",
        fix="free some space, or choose another place with -o or GSVEXPORT_CACHE",
    )


def _unwritable(path: Path, error: OSError) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"{path} cannot be written: {error.strerror}", fix="choose another place with -o or GSVEXPORT_CACHE"
    )


@contextlib.contextmanager
def atomic_directory(path: Path, *, force: bool = False) -> Iterator[Path]:
    """Yield a temporary directory beside `path` that becomes `path` when the block ends without an exception.

    On an exception (Ctrl-C included) nothing is left behind and an existing `path` is untouched.

    Raises:
        InputError: `path` exists and `force` is false, or it is a file.
        EnvironmentProblem: the disk is full or not writable.
    """
    refuse_existing(path, force=force)
    if os.path.isfile(path):
        raise InputError(f"{path} is a file; a folder is to be written", fix="choose another output with -o")
    with disk_errors(path):
        work = Path(_beside(path, tempfile.mkdtemp))
        try:
            yield work
            work.chmod(0o777 & ~_umask())
            _sync_tree(work)
            _replace_directory(work, path)
        finally:
            shutil.rmtree(work, ignore_errors=True)


@contextlib.contextmanager
def atomic_file(path: Path, *, force: bool = False) -> Iterator[Path]:
    """Yield a temporary file name beside `path` that becomes `path` when the block ends without an exception.

    Raises:
        InputError: `path` exists and `force` is false, or it is a folder.
        EnvironmentProblem: the disk is full or not writable.
    """
    refuse_existing(path, force=force)
    if os.path.isdir(path):
        raise InputError(f"{path} is a folder; a file is to be written", fix="choose another output with -o")
    with disk_errors(path):
        handle, name = _beside(path, tempfile.mkstemp)
        os.close(handle)
        work = Path(name)
        try:
            yield work
            work.chmod(0o666 & ~_umask())
            _sync(work)
            os.replace(work, path)
            _sync(path.parent)
        finally:
            work.unlink(missing_ok=True)


def refuse_existing(path: Path, *, force: bool) -> None:
    """Raise `InputError` when `path` exists, unless `force` is set."""
    if os.path.exists(path) and not force:  # unlike Path's, false for a name that no file system takes
        raise InputError(f"{path} exists already", fix="choose another output with -o, or replace it with --force")


def cache_directory() -> Path:
    """Where derived files live: `GSVEXPORT_CACHE`, else `XDG_CACHE_HOME/gsvexport`, else `~/.cache/gsvexport`."""
    if chosen := os.environ.get("GSVEXPORT_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "gsvexport"


def _beside(path: Path, make: Callable[..., _MadeT]) -> _MadeT:
    """What `make` (`mkdtemp` or `mkstemp`) makes in the folder of `path`; the folder is made first."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return make(prefix=TEMPORARY_PREFIX, dir=path.parent)
    except (FileNotFoundError, FileExistsError, NotADirectoryError) as error:  # a file in the way, or such as /proc
        raise _unwritable(path, error) from error


def _existing_parent(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def _replace_directory(work: Path, path: Path) -> None:
    """Rename `work` to `path`; an existing `path` is moved aside first, so that no moment shows a mixture."""
    if not path.exists():
        os.rename(work, path)
    else:
        aside = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=path.parent))
        os.rename(path, aside / "old")
        try:
            os.rename(work, path)
        except BaseException:
            os.rename(aside / "old", path)
            raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    _sync(path.parent)


def _sync_tree(root: Path) -> None:
    for folder, _, names in os.walk(root):
        for name in names:
            # Some libraries write files that only their owner may read.
            Path(folder, name).chmod(0o666 & ~_umask())
            _sync(Path(folder, name))
        _sync(Path(folder))


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
