"""Files that are either complete or absent, and names that depend on content alone."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gsvexport.errors import EnvironmentProblem, InputError

TEMPORARY_PREFIX = ".partial-"
_CHUNK = 1 << 20
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


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


def sha256_once(path: Path) -> str:
    """SHA-256 of a file's content, read once in a process for as long as the file stays what it is: its place, size and
    the times of its last changes, of which nobody can set one back."""
    found = os.stat(path)
    return _sha256_of(path, (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns))


@functools.lru_cache(maxsize=4096)
def _sha256_of(path: Path, identity: tuple[int, ...]) -> str:
    return sha256_file(path)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk, a missing permission or too long a name into an `EnvironmentProblem` that names `path`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _disk_full(path) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ENOTDIR):
            raise _unwritable(path, error) from error
        raise
    except Exception as error:
        # A library that does its own writing (safetensors) raises its own exception with the system's text in it.
        if os.strerror(errno.ENOSPC) in str(error):
            raise _disk_full(path) from error
        raise


def _disk_full(path: Path) -> EnvironmentProblem:
    free = free_space(path)
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

    On an exception (Ctrl-C included) nothing is left behind and an existing `path` is untouched. What a killed process
    left of the same `path` is removed.

    Raises:
        InputError: `path` exists and `force` is false, or it is a file.
        EnvironmentProblem: the disk is full or not writable.
    """
    refuse_existing(path, force=force)
    if os.path.exists(path) and not os.path.isdir(path):
        raise InputError(f"{path} is a file; a folder is to be written", fix="choose another output with -o")
    with disk_errors(path):
        work, held = _beside(path, lambda prefix, folder: tempfile.mkdtemp(prefix=prefix, dir=folder))
        try:
            yield work
            work.chmod(0o777 & ~_umask())
            sync_tree(work)
            _replace_directory(work, path)
        finally:
            _remove(work)
            os.close(held)


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
    if os.path.exists(path) and not os.path.isfile(path):
        raise InputError(f"{path} is a device or a pipe, and is not replaced", fix="choose another output with -o")
    with disk_errors(path):
        work, held = _beside(path, _empty_file)
        try:
            yield work
            work.chmod(0o666 & ~_umask())
            _sync(work)
            os.replace(work, path)
            _sync(path.parent)
        finally:
            work.unlink(missing_ok=True)
            os.close(held)


@contextlib.contextmanager
def temporary_directory(path: Path) -> Iterator[Path]:
    """A directory beside `path` that is gone when the block ends; a killed process's is gone when another one begins.

    Raises:
        EnvironmentProblem: `path` has no folder, and none can be made.
    """
    work, held = _beside(path, lambda prefix, folder: tempfile.mkdtemp(prefix=prefix, dir=folder))
    try:
        yield work
    finally:
        _remove(work)
        os.close(held)


def remove_dead(folder: Path, prefix: str = TEMPORARY_PREFIX) -> int:
    """Remove what killed processes left in a folder of what this module makes; returns the bytes freed.

    What a living process makes is held by it, so no clock decides.
    """
    freed = 0
    for left in folder.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):
            if left.is_symlink():
                left.unlink()
                continue
            held = os.open(left, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
            try:
                if _hold(held):
                    freed += tree_size(left) if left.is_dir() else left.stat().st_size
                    _remove(left)
            finally:
                os.close(held)
    return freed


def tree_size(folder: Path) -> int:
    """Bytes of the plain files below a folder; links count for nothing."""
    found = (os.lstat(Path(place, name)) for place, _, names in os.walk(folder) for name in names)
    return sum(one.st_size for one in found if stat.S_ISREG(one.st_mode))


def free_space(path: Path) -> int:
    """Bytes that may still be written where `path` is, or would be."""
    return shutil.disk_usage(_existing_parent(path)).free


def refuse_existing(path: Path, *, force: bool) -> None:
    """Raise `InputError` when `path` exists, unless `force` is set."""
    if os.path.exists(path) and not force:  # unlike Path's, false for a name that no file system takes
        raise InputError(f"{path} exists already", fix="choose another output with -o, or replace it with --force")


def cache_directory(*names: str) -> Path:
    """Where derived files live: `GSVEXPORT_CACHE`, else `XDG_CACHE_HOME/gsvexport`, else `~/.cache/gsvexport`; or what
    is called so below it.

    What lies there is believed later, so it has to be this user's, or root's, and nobody else may write to it.

    Raises:
        EnvironmentProblem: another user made the folder; or there is no home, and none of the variables is set.
    """
    folder = home_directory("GSVEXPORT_CACHE", "XDG_CACHE_HOME", ".cache")
    _refuse_foreign(folder)
    for name in names:
        folder = folder / name
        _refuse_foreign(folder)
    return folder


def home_directory(variable: str, base: str, hidden: str) -> Path:
    """The folder that `variable` names, else `gsvexport` in the one that `base` names or in `~/`hidden.

    Raises:
        EnvironmentProblem: there is no home.
    """
    if chosen := os.environ.get(variable):
        return Path(chosen)
    if given := os.environ.get(base):
        return Path(given) / "gsvexport"
    try:
        return Path.home() / hidden / "gsvexport"
    except (RuntimeError, KeyError):
        raise EnvironmentProblem(
            "this user has no home folder, so there is no place to keep anything", fix=f"set {variable} to a folder"
        ) from None


def _refuse_foreign(folder: Path) -> None:
    """Raise where somebody else could put something into a folder; one of one's own is closed to others."""
    try:
        found = os.lstat(folder)
        if stat.S_ISLNK(found.st_mode):  # one's own may lie on another disk
            linked, found = found, os.stat(folder)
            owners = {linked.st_uid, found.st_uid}
        else:
            owners = {found.st_uid}
    except (OSError, ValueError):
        return  # not there yet, or no name at all: whoever makes it tells
    if os.name != "posix":
        return
    foreign = owners - {0, os.geteuid()}
    if not foreign and found.st_mode & _OTHERS_WRITE and found.st_uid == os.geteuid() and stat.S_ISDIR(found.st_mode):
        with contextlib.suppress(OSError):
            os.chmod(folder, stat.S_IMODE(found.st_mode) & ~_OTHERS_WRITE)
            found = os.stat(folder)
    if foreign or found.st_mode & _OTHERS_WRITE:
        owner = f"user {sorted(foreign)[0]}" if foreign else f"mode {stat.S_IMODE(found.st_mode):o}"
        raise EnvironmentProblem(
            f"{folder} belongs to another user, or others can write to it, so what lies there is not believed",
            found=owner,
            limit=f"a folder of user {os.geteuid()}, or of root, that nobody else can write to",
            fix="set GSVEXPORT_CACHE to a folder of your own",
        )


def _beside(path: Path, make: Callable[[str, Path], str]) -> tuple[Path, int]:
    """What `make(prefix, folder)` makes beside `path`, and a descriptor that holds it as long as it is open.

    The system lets go of it when a process dies. So what nobody holds was left by one that was killed, and is removed.
    """
    prefix = f"{TEMPORARY_PREFIX}{sha256_bytes(os.fsencode(path.name))[:12]}-"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_dead(path.parent, prefix)
        while True:
            work = Path(make(prefix, path.parent))
            with contextlib.suppress(FileNotFoundError):
                held = os.open(work, os.O_RDONLY)
                _hold(held, wait=True)
                if work.exists():  # else another process took it for a leftover, before it was held
                    return work, held
                os.close(held)
    except (FileNotFoundError, FileExistsError, NotADirectoryError) as error:  # a file in the way, or such as /proc
        raise _unwritable(path, error) from error


def _hold(handle: int, *, wait: bool = False) -> bool:
    """Lock an open file or folder, unless somebody else has; false as well where a file system knows no locks."""
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def _empty_file(prefix: str, folder: Path) -> str:
    handle, name = tempfile.mkstemp(prefix=prefix, dir=folder)
    os.close(handle)
    return name


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


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


def sync_tree(root: Path) -> None:
    """Make sure that a folder outlives a loss of power once it is renamed; its files become readable as usual."""
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


def link(source: Path, target: Path) -> None:
    """The same file under another name where the file system can, else a copy; neither is written to afterwards."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
