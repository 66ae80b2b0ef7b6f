"""Files that are either complete or absent, and names that depend on content alone."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsvexport.errors import EnvironmentProblem, InputError
from gsvexport.system import disk
from gsvexport.system.locks import acquire
from gsvexport.system.names import refused_path, too_long

if TYPE_CHECKING:
    from gsvexport.system.locks import Held

TEMPORARY_PREFIX = ".partial-"
_LOCK, _NEW, _OLD = "lock", "new", "old"  # in a temporary folder
_LOCKED_WITHIN = 10.0  # seconds, in which another process notices that a new folder is no leftover
_CHUNK = 1 << 20
_MOST_HASHED = 4096
_hashed: dict[tuple[int, ...], str] = {}  # what `sha256_once` has read
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
    """SHA-256 of a file's content, read once in a process, under whatever names, for as long as the file stays what it
    is: its place, size and the times of its last changes, of which nobody can set one back (but under Windows, which
    has one time alone)."""
    found = os.stat(path)
    identity = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    known = _hashed.get(identity)
    if known is None:
        if len(_hashed) >= _MOST_HASHED:
            _hashed.clear()
        known = _hashed[identity] = sha256_file(path)
    return known


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk, a missing permission or too long a name into an `EnvironmentProblem` that names `path`."""
    try:
        yield
    except OSError as error:
        if disk.WINDOWS and (length := too_long(error.filename or path)):
            raise EnvironmentProblem(
                f"{error.filename or path} cannot be written: its path is too long",
                found=length,
                fix="choose a shorter place with -o or GSVEXPORT_CACHE, or switch on Windows' long paths",
            ) from error
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
    with disk_errors(path), _beside(path) as home:
        work = home / _NEW
        work.mkdir()
        yield work
        work.chmod(0o777 & ~_umask())
        sync_tree(work)
        _replace_directory(work, path)


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
    with disk_errors(path), _beside(path) as home:
        work = home / _NEW
        work.touch()
        yield work
        work.chmod(0o666 & ~_umask())
        disk.sync(work)
        disk.replace(work, path, aside=home / _OLD)
        disk.sync(path.parent)


@contextlib.contextmanager
def temporary_directory(path: Path) -> Iterator[Path]:
    """A directory beside `path` that is gone when the block ends; a killed process's is gone when another one begins.

    Raises:
        EnvironmentProblem: `path` has no folder, and none can be made.
    """
    with _beside(path) as home:
        (home / _NEW).mkdir()
        yield home / _NEW


def remove_dead(folder: Path, prefix: str = TEMPORARY_PREFIX) -> int:
    """Remove what killed processes left in a folder of what this module makes; returns the bytes freed.

    What a living process makes is held by it, so no clock decides. What cannot be removed stays for the next time.
    """
    freed = 0
    for left in folder.glob(f"{prefix}*"):
        with contextlib.suppress(OSError, EnvironmentProblem):
            if left.is_symlink() or not left.is_dir():
                freed += 0 if left.is_symlink() else left.stat().st_size
                left.unlink()
            elif held := acquire(left / _LOCK):
                freed += tree_size(left)
                _discard(left, held)
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


def refuse_others(path: Path, *, own: bool, what: str) -> None:
    """Raise `InputError` when `path` is a folder that holds something and is not our `own`, so not to be replaced."""
    if os.path.isdir(path) and any(path.iterdir()) and not own:
        raise InputError(
            f"{path} is a folder with other things in it; --force replaces only {what}",
            fix="choose another output with -o",
        )


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
    if sys.platform == "win32" or not hasattr(os, "geteuid"):  # the home folder is its owner's alone there
        return
    user = os.geteuid()
    foreign = owners - {0, user}
    if not foreign and found.st_mode & _OTHERS_WRITE and found.st_uid == user and stat.S_ISDIR(found.st_mode):
        with contextlib.suppress(OSError):
            os.chmod(folder, stat.S_IMODE(found.st_mode) & ~_OTHERS_WRITE)
            found = os.stat(folder)
    if foreign or found.st_mode & _OTHERS_WRITE:
        owner = f"user {sorted(foreign)[0]}" if foreign else f"mode {stat.S_IMODE(found.st_mode):o}"
        raise EnvironmentProblem(
            f"{folder} belongs to another user, or others can write to it, so what lies there is not believed",
            found=owner,
            limit=f"a folder of user {user}, or of root, that nobody else can write to",
            fix="set GSVEXPORT_CACHE to a folder of your own",
        )


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A new folder beside `path`, which is gone when the block ends; a lock in it is held as long.

    The system lets go of the lock when a process dies. So what nobody holds was left by one that was killed, and is
    removed by the next that writes the same `path`.
    """
    if disk.WINDOWS and (why := refused_path(path)):
        raise InputError(f"{path} cannot be written: {why}", fix="choose another name")
    prefix = f"{TEMPORARY_PREFIX}{sha256_bytes(os.fsencode(path.name))[:12]}-"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_dead(path.parent, prefix)
        home, held = _held(prefix, path.parent)
    except (FileNotFoundError, FileExistsError, NotADirectoryError) as error:  # a file in the way, or such as /proc
        if disk.WINDOWS and too_long(error.filename or path):
            raise  # `disk_errors` tells
        raise _unwritable(path, error) from error
    try:
        yield home
    finally:
        _discard(home, held)


def _held(prefix: str, folder: Path) -> tuple[Path, Held | None]:
    """A new folder and its lock; None where the file system knows none, so that nobody can tell whose it is."""
    while True:
        home = Path(tempfile.mkdtemp(prefix=prefix, dir=folder))
        try:
            held = acquire(home / _LOCK, wait=_LOCKED_WITHIN)
        except FileNotFoundError:
            continue  # another process took it for a leftover, before it was held
        except OSError:
            if home.exists():
                return home, None
            continue
        if held and (home / _LOCK).exists():
            return home, held
        if held:
            held.release()


def _discard(home: Path, held: Held | None) -> None:
    """Remove a temporary folder, its lock last: before it is released, or under Windows, which refuses that, after."""
    for path in home.iterdir():
        if path.name != _LOCK:
            _remove(path)
    with contextlib.suppress(OSError):
        (home / _LOCK).unlink()
    if held:
        held.release()
    with contextlib.suppress(OSError):
        home.rmdir()


def _remove(path: Path) -> None:
    """Remove what is there; what another program has open stays, for `remove_dead`."""
    if path.is_dir() and not path.is_symlink():
        disk.remove_tree(path)
    else:
        with contextlib.suppress(EnvironmentProblem):
            disk.remove(path)


def _existing_parent(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def _replace_directory(work: Path, path: Path) -> None:
    """Rename `work` to `path`; an existing `path` is moved aside first, so that no moment shows a mixture."""
    if not path.exists():
        disk.rename(work, path)
    else:
        aside = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=path.parent))
        try:
            disk.rename(path, aside / _OLD)
            try:
                disk.rename(work, path)
            except BaseException:
                disk.rename(aside / _OLD, path)
                raise
        finally:
            disk.remove_tree(aside)
    disk.sync(path.parent)


def sync_tree(root: Path) -> None:
    """Make sure that a folder outlives a loss of power once it is renamed; its files become readable as usual."""
    for folder, _, names in os.walk(root):
        for name in names:
            # Some libraries write files that only their owner may read.
            Path(folder, name).chmod(0o666 & ~_umask())
            disk.sync(Path(folder, name))
        disk.sync(Path(folder))


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
