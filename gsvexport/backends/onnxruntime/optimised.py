"""Graphs as ONNX Runtime optimised them here, kept in the cache beside the artifact that they are of.

Making a session is mostly optimising its graph, each time with the same result. So it is written down the first time,
for this release of ONNX Runtime on this processor, and opened as it is from then on: the same kernels on the same
numbers, so the same samples. Weights that came through it unchanged are not written again. They are the files of the
artifact under another name, and what was mapped once stays mapped once.

    unpacked/KEY/graph.onnx     the optimised graph
    unpacked/KEY/own.bin        weights that optimising made: folded, or laid out anew for this processor
    unpacked/KEY/…              the files of the artifact that it reads, linked
    unpacked/KEY/index.json     SHA-256 of all of these

KEY names everything that the result depends on, by content. What is there is checked byte by byte, once in a process,
before it is opened; what is not whole is made again.
"""

from __future__ import annotations

import functools
import mmap
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from gsvexport.artifact.held import release
from gsvexport.artifact.kept import kept, unpacked_root
from gsvexport.errors import EnvironmentProblem
from gsvexport.files import canonical_json, sha256_bytes, sha256_file, sha256_once
from gsvexport.target.machine import processor
from gsvexport.untrusted.external import Place, check_external, moved, places
from gsvexport.untrusted.reading import Refused, read_json

SCHEMA = 1
SWITCH = "GSVEXPORT_OPTIMISED"  # 0: graphs are optimised each time, and nothing is kept
_GRAPH, _OWN, _INDEX, _SAVED = "graph.onnx", "own.bin", "index.json", "saved.onnx"
_WEIGHTS = "saved.bin"
_ALIGNED = 64  # bytes
_LARGEST = 64 << 20  # bytes of a graph without its weights: one that has them inside is optimised each time
_ENTRIES = {
    "session.optimized_model_external_initializers_file_name": _WEIGHTS,
    "session.optimized_model_external_initializers_min_size_in_bytes": "1024",
}


class Make(Protocol):
    """Makes a session of a graph with further entries of its configuration; saves what it optimised to `saved`, or
    with `ready` takes the graph as optimised already."""

    def __call__(
        self, graph: Path, entries: Mapping[str, str] = ..., saved: str | None = ..., *, ready: bool = ...
    ) -> Any:
        """A session."""
        ...


def open_kept(path: Path, make: Make) -> tuple[Any, Path | None] | None:
    """A session of the graph in `path` from what was kept of it, and the folder that it reads, which is held until
    `release`, if there is one.

    None where nothing can be kept: the graph is not of an artifact in the cache, the cache cannot be written, or its
    weights cannot be linked. The first time that it is opened, it is optimised and kept.

    Raises: what `make` raises.
    """
    if os.environ.get(SWITCH) == "0" or not _in_cache(path):
        return None
    made: list[Any] = []

    def new(folder: Path) -> None:
        folder.mkdir()
        try:
            made[:] = [make(path, _ENTRIES, str(folder / _SAVED))]
        except Exception as error:  # whatever it is (no room on the disk), opening it as it is tells
            raise Refused("cannot be saved") from error
        _write(path, folder)

    try:
        folder = kept(_key(path), _whole, new)
    except (OSError, EnvironmentProblem, Refused):
        return (made[0], None) if made else None
    try:
        return (made[0] if made else make(folder / _GRAPH, ready=True)), folder
    except BaseException:
        release(folder)
        raise


def _in_cache(path: Path) -> bool:
    """Whether the graph lies in an artifact that was unpacked to the cache: its bytes were checked in this process."""
    try:
        return path.stat().st_size <= _LARGEST and path.parent.parent.samefile(unpacked_root())
    except (OSError, EnvironmentProblem):
        return False


def _key(path: Path) -> str:
    import onnxruntime

    found = path.stat()
    files = _files(path, (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns))
    value = {
        "what": "optimised graph",
        "schema": SCHEMA,
        "graph": sha256_once(path),
        "weights": {name: sha256_once(path.parent / name) for name in files},
        "runtime": [onnxruntime.__version__, onnxruntime.get_build_info()],
        "processor": processor(),
    }
    return sha256_bytes(canonical_json(value).encode())


@functools.lru_cache(maxsize=256)
def _files(path: Path, identity: tuple[int, ...]) -> tuple[str, ...]:
    return tuple(sorted({one.file for one in places(path).values()}))


def _whole(folder: Path) -> bool:
    try:
        files = read_json(folder / _INDEX)["files"]
        return {one.name for one in folder.iterdir()} == {_INDEX, *files} and all(
            sha256_once(folder / name) == digest for name, digest in files.items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _write(path: Path, folder: Path) -> None:
    """Write what became of a graph to `folder`, where its session was saved."""
    before = places(path)
    with _Bytes(path.parent) as old, _Bytes(folder) as new, open(folder / _OWN, "wb") as own:

        def to(name: str, place: Place) -> Place:
            was = before.get(name)
            if was is not None and was.length == place.length and old.of(was) == new.of(place):
                return was
            own.write(b"\0" * (-own.tell() % _ALIGNED))
            start = own.tell()
            own.write(new.of(place))
            return Place(_OWN, start, place.length)

        if (folder / _SAVED).stat().st_size > _LARGEST:
            raise Refused("holds its weights")
        (folder / _GRAPH).write_bytes(moved((folder / _SAVED).read_bytes(), to))
    for name in (_SAVED, _WEIGHTS):
        (folder / name).unlink(missing_ok=True)
    used = {one.file for one in places(folder / _GRAPH).values()} - {_OWN}
    for name in used:
        os.link(path.parent / name, folder / name)
    check_external(folder / _GRAPH)  # also what is in graphs inside of it has to be there
    files = {one.name: sha256_file(one) for one in sorted(folder.iterdir())}
    (folder / _INDEX).write_bytes(canonical_json({"schema": SCHEMA, "files": files}).encode())


class _Bytes:
    """The bytes of places in a folder, mapped."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._maps: dict[str, mmap.mmap] = {}

    def __enter__(self) -> _Bytes:
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._maps.values():
            one.close()

    def of(self, place: Place) -> bytes:
        if place.file not in self._maps:
            with open(self._folder / place.file, "rb") as stream:
                self._maps[place.file] = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        return self._maps[place.file][place.start : place.start + place.length]
