"""Where an ONNX graph wants bytes from, and how to make it want them from elsewhere.

ONNX Runtime maps whatever file a tensor names, wherever it lies (up to 1.23.2, the last for Python 3.10, also outside
of the graph's folder), so every name is looked at before it gets a graph.

The graph is walked as protobuf's wire format and not built: of 3 GB of weights inside a graph not a byte is read.
Format: onnx.proto of ONNX 1.19
"""

from __future__ import annotations

import functools
import mmap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gsvexport.untrusted import protobuf
from gsvexport.untrusted.reading import Refused, inside, opened, regular

MOST_FIELDS = 5_000_000  # a full-size decoder has 60,000
_MOST_DEPTH = 64
# Message → number of a field → the message in it. What is not here holds no tensor.
_MESSAGES = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
# Fields of ModelProto, GraphProto and TensorProto.
_GRAPH, _PROPERTY, _INITIALIZER, _NAME, _EXTERNAL = 7, 14, 5, 8, 13


@dataclass(frozen=True)
class Place:
    """Where the bytes of a weight lie: a file beside the graph, and which of its bytes."""

    file: str
    start: int
    length: int


class NoGraph(Refused):
    """It cannot be walked: damaged, or no graph at all."""


def check_external(path: Path) -> None:
    """Look at every tensor of the graph in `path` whose bytes lie in another file.

    Raises:
        NoGraph: no ONNX graph.
        Refused: it wants bytes of a file that is not beside it, is a link, or is too short.
        OSError: it cannot be read.
    """
    _held_to(path, _wanted(path))


def places(path: Path) -> dict[str, Place]:
    """Where the initializers of the graph in `path`, not of those inside of it, lie outside of it; by name.

    Raises:
        NoGraph: no ONNX graph.
        Refused: a place that cannot be.
        OSError: it cannot be read.
    """
    found: dict[str, Place] = {}

    def look(name: str, place: Place) -> Place:
        found[name] = place
        return place

    moved(path.read_bytes(), look)
    return found


def moved(data: bytes, to: Callable[[str, Place], Place]) -> bytes:
    """A graph whose initializers lie where `to` puts each that lies outside of it: a name and a place → a place.

    Raises:
        NoGraph: `data` is no ONNX graph.
        Refused: a place that cannot be.
    """

    def tensor(data: bytes) -> bytes:
        parts = list(_Walk(data).parts())
        if not any(number == _EXTERNAL for number, _, _ in parts):
            return data
        name = next((_text(inner) for number, inner, _ in parts if number == _NAME), "")
        told: dict[str, str] = {}
        for number, inner, _ in parts:
            if number == _EXTERNAL:
                entry = {key: value for key, value, _ in _Walk(inner).parts()}
                told[_text(entry.get(1, b""))] = _text(entry.get(2, b""))
        place = to(name, Place(told.get("location", ""), _number(told, "offset"), _number(told, "length")))
        entries = {"location": place.file, "offset": str(place.start), "length": str(place.length)}
        kept = b"".join(whole for number, _, whole in parts if number != _EXTERNAL)
        return kept + b"".join(
            _field(_EXTERNAL, _field(1, key.encode()) + _field(2, value.encode())) for key, value in entries.items()
        )

    def changed(data: bytes, which: int, change: Callable[[bytes], bytes]) -> bytes:
        return b"".join(
            _field(which, change(inner)) if number == which else whole for number, inner, whole in _Walk(data).parts()
        )

    return changed(data, _GRAPH, lambda graph: changed(graph, _INITIALIZER, tensor))


def check_external_once(path: Path) -> None:
    """`check_external`, for which a graph is walked once in a process as long as it stays what it is, as
    `gsvexport.files.sha256_once` reads a file once; the files that it wants bytes of are looked at each time.

    Raises: as `check_external`.
    """
    found = path.stat()
    _held_to(
        path, _wanted_once(path, (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns))
    )


def properties_once(path: Path) -> dict[str, str]:
    """What the graph in `path` says of itself (`metadata_props`), walked as in `check_external_once`.

    Raises: as `check_external`.
    """
    found = path.stat()
    return _properties_once(path, (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns))


@functools.lru_cache(maxsize=256)
def _properties_once(path: Path, identity: tuple[int, ...]) -> dict[str, str]:
    with _mapped(path) as data:
        return _Walk(data).properties()


def _held_to(path: Path, wanted: dict[str, tuple[int, int]]) -> None:
    for name, (start, end) in wanted.items():
        if not regular(place := inside(path.parent, name)):
            raise Refused(f"wants bytes of {name}, which is not there")
        if end > (size := place.stat().st_size):
            raise Refused(f"wants bytes {start} to {end} of {name}, which has {size}")


def _wanted(path: Path) -> dict[str, tuple[int, int]]:
    """The last bytes, from and to, that a graph wants of each file."""
    with _mapped(path) as data:
        found = _Walk(data).tensors()
    wanted: dict[str, tuple[int, int]] = {}
    for told in found:
        name, start, length = told.get("location", ""), _number(told, "offset"), _number(told, "length")
        if name not in wanted or start + length > wanted[name][1]:
            wanted[name] = start, start + length
    return wanted


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap]:
    with opened(path) as stream:
        try:
            data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:
            raise NoGraph("is empty") from None
        with data:
            yield data


@functools.lru_cache(maxsize=256)
def _wanted_once(path: Path, identity: tuple[int, ...]) -> dict[str, tuple[int, int]]:
    return _wanted(path)


def _number(told: dict[str, str], key: str) -> int:
    text = told.get(key, "0")
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise Refused(f"has a tensor whose {key} is {text[:40]!a}")
    return int(text)


class _Walk:
    """One walk over a graph's fields."""

    def __init__(self, data: mmap.mmap | bytes) -> None:
        self._data, self._left = data, MOST_FIELDS

    def parts(self) -> Iterator[tuple[int, bytes, bytes]]:
        """(number, content, all bytes) of every field of a message; a number that stands in one has no content."""
        for number, begin, first, last, kind in self._every(0, len(self._data)):
            yield number, self._data[first:last] if kind == protobuf.BYTES else b"", self._data[begin:last]

    def tensors(self) -> list[dict[str, str]]:
        """`external_data` of every tensor that has some."""
        found: list[dict[str, str]] = []
        pending = [("model", 0, len(self._data), 0)]
        while pending:
            message, start, end, depth = pending.pop()
            told: dict[str, str] = {}
            for number, first, last in self._fields(start, end):
                inner = _MESSAGES[message].get(number)
                if inner == "entry":
                    entry = {number: self._data[a:b] for number, a, b in self._fields(first, last)}
                    told[_text(entry.get(1, b""))] = _text(entry.get(2, b""))
                elif inner is not None:
                    if depth == _MOST_DEPTH:
                        raise NoGraph(f"is no ONNX graph: deeper than {_MOST_DEPTH}")
                    pending.append((inner, first, last, depth + 1))
            if told:
                found.append(told)
        return found

    def properties(self) -> dict[str, str]:
        """`metadata_props` of the model; of two with one name, the last."""
        found: dict[str, str] = {}
        for number, first, last in self._fields(0, len(self._data)):
            if number == _PROPERTY:
                entry = {number: self._data[a:b] for number, a, b in self._fields(first, last)}
                found[_text(entry.get(1, b""))] = _text(entry.get(2, b""))
        return found

    def _fields(self, start: int, end: int) -> list[tuple[int, int, int]]:
        """(number, first byte, end) of every field of bytes in a message."""
        return [
            (number, first, last) for number, _, first, last, kind in self._every(start, end) if kind == protobuf.BYTES
        ]

    def _every(self, start: int, end: int) -> list[tuple[int, int, int, int, int]]:
        """(number, first byte of all, first byte of the content, end, kind) of every field."""
        found = []
        try:
            for one in protobuf.fields(self._data, start, end):
                self._left -= 1
                if self._left < 0:
                    raise NoGraph(f"is no ONNX graph: it has more than {MOST_FIELDS} fields")
                found.append(one)
        except protobuf.Malformed as error:
            raise NoGraph(f"is no ONNX graph: it {error}") from None
        return found


def _field(number: int, content: bytes) -> bytes:
    """A field of bytes."""
    return _written(number << 3 | protobuf.BYTES) + _written(len(content)) + content


def _written(value: int) -> bytes:
    """A number as a varint."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")
