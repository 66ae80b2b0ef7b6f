"""Deliver a finished artifact: its members compressed, in threads, each content once for all voices and targets."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event, Lock
from typing import BinaryIO

from gsvexport.artifact import container
from gsvexport.artifact.encoding import QUALITIES, compress, compression
from gsvexport.artifact.manifest import REPORT, Member
from gsvexport.compiler.store import Store
from gsvexport.files import canonical_json, sha256_bytes, temporary_directory
from gsvexport.progress import Progress, Step

_KEPT = 1 << 20  # bytes from which on a stream is kept in the store; smaller ones are made anew in a second or two
_STREAM, _MEMBER = "stream", "member.json"
_SECONDS, _OFTEN = 10.0, 0.2  # between two words about one member, and between two about all
PHASE = "compressing"


def shrink(plain: Path, path: Path, how: str, store: Store, *, force: bool = False, progress: Progress) -> None:
    """Write the plain container `plain` to `path`, with members compressed where that pays; `how` is of `QUALITIES`.

    The same content gives the same bytes, in however many threads. What was compressed when the process was killed is
    taken from the store the next time.

    Raises:
        InputError: `path` exists and `force` is false.
        ArtifactError: `plain` is damaged.
        EnvironmentProblem: the disk is full or not writable, or the package `brotli` is missing.
    """
    manifest = container.read_manifest(plain)
    with temporary_directory(path) as work, open(plain, "rb") as source:
        places = {place.name: place.offset for place in container.payloads(plain)}
        streams: dict[str, Path] = {}
        if (quality := QUALITIES[how]) is not None:
            words = compression(quality)
            total = sum(member.size for member in manifest.files.values())
            progress(Step(f"compressing {len(places)} members ({words})", PHASE, 0, total, unit="B"))
            files = dict(manifest.files)
            for name, (member, stream) in _compressed(plain, files, places, quality, work, store, progress).items():
                files[name], streams[name] = member, stream
            report = files.pop(REPORT, None)
            manifest = replace(manifest, members=files, report=report, compression=words if streams else None)

        def payload(name: str) -> Path | BinaryIO:
            source.seek(places[name])
            return streams.get(name, source)

        container.assemble(manifest, payload, path, force=force)


def _compressed(
    plain: Path,
    files: Mapping[str, Member],
    places: Mapping[str, int],
    quality: int,
    work: Path,
    store: Store,
    progress: Progress,
) -> dict[str, tuple[Member, Path]]:
    """What each member that is worth it becomes, and the file of its stream; the largest are begun first."""
    told = _Told(progress, {name: member.size for name, member in files.items()})

    def one(name: str) -> tuple[Member, Path] | None:
        member, tell = files[name], partial(told, name)

        def make(folder: Path) -> None:
            with open(plain, "rb") as stream:
                stream.seek(places[name])
                found = compress(stream, member, folder / _STREAM, quality, tell)
            if found is None:
                (folder / _STREAM).unlink()
            (folder / _MEMBER).write_bytes(canonical_json(found and found.to_json()).encode())

        if member.size >= _KEPT:
            words = compression(quality)
            key = sha256_bytes(canonical_json([member.to_json(), words]).encode())
            folder = store.obtain(key, make, f"{name}, {words}")
        else:
            folder = work / sha256_bytes(name.encode())
            folder.mkdir()
            make(folder)
        told(name, 1.0)
        value = json.loads((folder / _MEMBER).read_text(encoding="utf-8"))
        return (Member(**value), folder / _STREAM) if value else None

    names = sorted(files, key=lambda name: -files[name].size)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            found = dict(zip(names, pool.map(one, names), strict=True))
        except BaseException:
            told.stopped.set()
            pool.shutdown(cancel_futures=True)
            raise
    return {name: made for name, made in found.items() if made}


class _Stopped(Exception):
    """Another member failed, or the user interrupted."""


class _Told:
    """Tells the bytes of all members that are done often, and the share of each that is long now and then."""

    def __init__(self, progress: Progress, sizes: Mapping[str, int]) -> None:
        self.stopped = Event()
        self._progress, self._sizes = progress, sizes
        self._done, self._lock = dict.fromkeys(sizes, 0.0), Lock()
        began = time.monotonic()
        self._next, self._next_of = began + _OFTEN, dict.fromkeys(sizes, began + _SECONDS)

    def __call__(self, name: str, share: float) -> None:
        """`share` of the member `name` is done; called in the thread that compresses it."""
        if self.stopped.is_set():
            raise _Stopped
        with self._lock:
            now = time.monotonic()
            self._done[name] = share * self._sizes[name]
            long = now >= self._next_of[name] and share < 1
            if not long and now < self._next:
                return
            self._next = now + _OFTEN
            if long:
                self._next_of[name] = now + _SECONDS
            done = sum(self._done.values())
        words = f"compressing {name}: {share:.0%}" if long else ""
        self._progress(Step(words, PHASE, done, sum(self._sizes.values()), unit="B"))
