"""A content-addressed store of build steps: each result is made once, appears complete or not at all, and is checked.

    ROOT/KEY/content/…      what a step made
    ROOT/KEY/index.json     label, size and SHA-256 of every file in content/
    ROOT/KEY.partial/       a step being made; whoever holds the lock of KEY may remove it
    ROOT/locks/KEY.lock     held while KEY is made or checked; the system frees it when a process dies

An entry's file list and sizes are checked every time it is opened, its hashes the first time that a `Store` opens it;
what this process has read already and nobody has touched since is not read again (`sha256_once`).
An entry that fails the check is made again.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsvexport.artifact.held import alone, hold, release
from gsvexport.errors import EnvironmentProblem, GsvError
from gsvexport.files import cache_directory, canonical_json, disk_errors, sha256_once
from gsvexport.progress import note
from gsvexport.system import disk
from gsvexport.system.locks import FOREVER, acquire
from gsvexport.untrusted import reading

_SCHEMA = 1
_KEY = re.compile(r"[0-9a-f]{16,64}")
_PARTIAL = ".partial"


@dataclass(frozen=True)
class Entry:
    """One stored result. `size` is in bytes, `used` the time of its last use in seconds since the epoch."""

    key: str
    label: str
    size: int
    used: float


class Store:
    """The store below `root`; any number of processes may use it at once."""

    def __init__(self, root: Path | None = None, note: Callable[[str], None] | None = None) -> None:
        self.root = root or cache_directory("store")
        self._note = note or (lambda _: None)
        self._hashed: set[str] = set()
        self._passing: set[str] = set()

    def obtain(self, key: str, make: Callable[[Path], object], label: str = "") -> Path:
        """The folder of `key`, made by `make(empty folder)` if the store does not hold it whole.

        `key` is a hexadecimal digest of everything that the result depends on. When `make` raises, or the process dies,
        no entry is left. What it returns True for is used by this `Store` alone: another one makes it again.

        Raises:
            EnvironmentProblem: the disk is full or the store cannot be written.
            Whatever `make` raises.
        """
        if not _KEY.fullmatch(key):
            raise ValueError(f"not a store key: {key!r}")
        with disk_errors(self.root), self.locked(key):
            self._sweep(besides=key)
            entry = self.root / key
            if entry.exists():
                if (damage := self._damage(key)) is None:
                    os.utime(entry / "index.json")
                    self._hold(entry)
                    return entry / "content"
                self._note(note(f"the stored result {label or key[:12]} is damaged ({damage}): making it again"))
                self._drop(key)
            self._make(key, make, label)
            self._hashed.add(key)
            self._hold(entry)
            return entry / "content"

    def _hold(self, entry: Path) -> None:
        """Keep a result from being pruned for as long as this store lives."""
        if hold(entry, self._locks):
            weakref.finalize(self, release, entry)

    def entries(self) -> list[Entry]:
        """Everything that is stored, the most recently used first."""
        found = []
        for path in self.root.glob("*/index.json") if self.root.is_dir() else ():
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                index = reading.read_json(path)
                size = sum(file["size"] for file in index["files"].values())
                found.append(Entry(path.parent.name, index["label"], size, path.stat().st_mtime))
        return sorted(found, key=lambda item: -item.used)

    def prune(self, older_than_days: float = 0) -> int:
        """Remove what has not been used for that long, and what dead processes left; returns the bytes freed.

        An entry that a process is making, checking or using at this moment stays. A time of use in the future, from a
        clock that was set back, counts as now.
        """
        if not self.root.is_dir():
            return 0
        freed = 0
        now = time.time()
        with disk_errors(self.root):
            freed += self._sweep()
            for entry in self.entries():
                if max(now - entry.used, 0) >= older_than_days * 86400:
                    folder = self.root / entry.key
                    with (
                        contextlib.suppress(_Busy),
                        self.locked(entry.key, wait=False),
                        alone(folder, self._locks) as unused,
                    ):
                        if unused and self._drop(entry.key):
                            freed += entry.size
        return freed

    @contextlib.contextmanager
    def locked(self, key: str, *, wait: bool = True) -> Iterator[None]:
        """Hold a key's lock; another process's is waited for, or with `wait=False` raises."""
        if not self._locks.is_dir():
            self._locks.mkdir(parents=True, exist_ok=True)
        path = self._locks / f"{key}.lock"
        if not (lock := acquire(path)):
            if not wait:
                raise _Busy(key)
            self._note("waiting for another gsvexport that makes the same thing")
            lock = acquire(path, FOREVER)
            assert lock is not None
        try:
            yield
        finally:
            lock.release()

    @property
    def _locks(self) -> Path:
        return self.root / "locks"

    def _drop(self, key: str) -> bool:
        """Remove an entry, whole before it is gone and never half of it; false where a program has it open.

        The lock of `key` is held.
        """
        work = self.root / f"{key}{_PARTIAL}"
        disk.remove_tree(work)
        try:
            disk.rename(self.root / key, work)
        except EnvironmentProblem:
            return False
        disk.remove_tree(work)
        return True

    def holds(self, key: str) -> bool:
        """Whether a result of this key is there; `obtain` may still find it damaged."""
        return (self.root / key).is_dir()

    def passing(self, key: str) -> bool:
        """Whether a result is this `Store`'s alone, because something that has nothing to do with its key failed."""
        return key in self._passing

    def _make(self, key: str, make: Callable[[Path], object], label: str) -> None:
        work = self.root / f"{key}{_PARTIAL}"
        disk.remove_tree(work)
        try:
            content = work / "content"
            content.mkdir(parents=True)
            passing = make(content) is True
            index: dict[str, Any] = {"schema": _SCHEMA, "label": label, "files": _inventory(content)}
            if passing:
                index["passing"] = True
                self._passing.add(key)
            (work / "index.json").write_bytes(canonical_json(index).encode())
            for path in (*_files(work), work, content):
                disk.sync(path)
            disk.rename(work, self.root / key)
            disk.sync(self.root)
        finally:
            disk.remove_tree(work)

    def _damage(self, key: str) -> str | None:
        """What is wrong with an entry, or None."""
        content = self.root / key / "content"
        try:
            index = reading.read_json(self.root / key / "index.json")
            if index.get("passing") and key not in self._passing:
                return "a tool failed when it was made"
            listed: dict[str, Any] = index["files"] if index["schema"] == _SCHEMA else {}
            present = {path.relative_to(content).as_posix(): path for path in _files(content)}
            if listed.keys() != present.keys() or not listed:
                return "files are missing or unknown"
            for name, path in present.items():
                if path.stat().st_size != listed[name]["size"]:
                    return f"{name} has another size"
                if key not in self._hashed and sha256_once(path) != listed[name]["sha256"]:
                    return f"{name} has changed"
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            return f"its index cannot be read: {type(error).__name__}"
        self._hashed.add(key)
        return None

    def _sweep(self, besides: str = "") -> int:
        """Remove results that nobody is making any more; returns the bytes freed. The lock of `besides` is held."""
        freed = 0
        for work in self.root.glob(f"*{_PARTIAL}"):
            if work.name == besides + _PARTIAL:
                continue
            with contextlib.suppress(_Busy), self.locked(work.name.removesuffix(_PARTIAL), wait=False):
                size = sum(path.stat().st_size for path in _files(work))
                freed += size if disk.remove_tree(work) else 0
        return freed


class _Busy(GsvError):
    """Another process holds the lock."""


def _files(folder: Path) -> list[Path]:
    """All files below a folder, sorted; a link or anything else that is not a plain file is refused."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise EnvironmentProblem(f"{path} is not a plain file", fix="gsvexport cache --prune")
        if path.is_file():
            found.append(path)
    return found


def _inventory(content: Path) -> dict[str, dict[str, Any]]:
    return {
        path.relative_to(content).as_posix(): {"size": path.stat().st_size, "sha256": sha256_once(path)}
        for path in _files(content)
    }
