"""Upstream's checkpoint container, written without torch: a stored zip archive around a pickle.

The layout is what `torch.save` writes: `<root>/data.pkl`, one 64-byte-aligned member for each tensor's bytes, and a few
small ones that name the format. Nothing depends on the day or the machine, so equal content gives equal bytes.
"""

from __future__ import annotations

import hashlib
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

_ALIGNMENT = 64
_LOCAL_HEADER = 30  # bytes of a zip member's local header before its name
_EXTRA_HEADER = 4
_STORAGES = {np.dtype(np.float16): "HalfStorage", np.dtype(np.float32): "FloatStorage"}
_MEMORY_ROOT = "archive"  # torch's name for the folder inside an archive that was written to memory


class HParams(dict[str, Any]):
    """Stands for upstream's `utils.HParams`: pickled as an instance of that class with these items as its state."""


def write_checkpoint(path: Path, content: Mapping[str, Any], *, root: str | None, header: bytes | None = None) -> None:
    """Write `content` as `torch.save` would: plain values, `HParams`, and float16 or float32 arrays (tensors).

    `root` is the folder inside the archive; upstream's is the time of writing, or torch's own where it is None.
    `header` replaces the first two bytes of the file, "PK".
    """
    writer = _PickleWriter()
    root = root or _MEMORY_ROOT
    digest = hashlib.sha256()

    def add(name: str, data: bytes) -> None:
        digest.update(data)
        info = zipfile.ZipInfo(f"{root}/{name}", date_time=(1980, 0, 0, 0, 0, 0))
        info.create_system = 0  # else the operating system decides
        unpadded = archive.start_dir + _LOCAL_HEADER + len(info.filename) + _EXTRA_HEADER
        padding = -unpadded % _ALIGNMENT
        info.extra = b"FB" + struct.pack("<H", padding) + b"Z" * padding
        archive.writestr(info, data)

    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        add("data.pkl", writer.dumps(content))
        add(".format_version", b"1")
        add(".storage_alignment", str(_ALIGNMENT).encode())
        add("byteorder", b"little")
        for key, array in enumerate(writer.arrays):
            add(f"data/{key}", array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
        add("version", b"3\n")
        add(".data/serialization_id", str(int(digest.hexdigest(), 16))[:40].encode())
    if header is not None:
        with open(path, "r+b") as file:
            file.write(header)


class _PickleWriter:
    """Protocol 2 with the opcodes that upstream's files hold, memo included; nothing it names has to be importable."""

    def __init__(self) -> None:
        self.arrays: list[np.ndarray] = []  # tensors in the order of their storage keys
        self._out = bytearray()
        self._memo: dict[str | tuple[str, str], int] = {}
        self._memoized = 0

    def dumps(self, content: Mapping[str, Any]) -> bytes:
        self._out += pickle.PROTO + b"\x02"
        self._write(OrderedDict(content))
        return bytes(self._out + pickle.STOP)

    def _write(self, value: Any) -> None:
        match value:
            case None:
                self._out += pickle.NONE
            case bool():
                self._out += pickle.NEWTRUE if value else pickle.NEWFALSE
            case int():
                self._out += pickle.BININT + struct.pack("<i", value)
            case float():
                self._out += pickle.BINFLOAT + struct.pack(">d", value)
            case str():
                if not self._recall(value):
                    data = value.encode()
                    self._out += pickle.BINUNICODE + struct.pack("<I", len(data)) + data
                    self._memoize(value)
            case list():
                self._out += pickle.EMPTY_LIST
                self._memoize()
                self._out += pickle.MARK
                self._items(value, pickle.APPENDS)
            case tuple():
                self._out += pickle.MARK
                self._items(value, pickle.TUPLE)
                self._memoize()
            case HParams():
                self._global("utils", "HParams")
                self._out += pickle.EMPTY_TUPLE + pickle.NEWOBJ
                self._memoize()
                self._write(dict(value))
                self._out += pickle.BUILD
            case OrderedDict():
                self._call("collections", "OrderedDict", ())
                self._pairs(value)
            case dict():
                self._out += pickle.EMPTY_DICT
                self._memoize()
                self._pairs(value)
            case np.ndarray() if value.dtype in _STORAGES:
                self._tensor(np.ascontiguousarray(value))
            case _:
                raise TypeError(f"upstream's checkpoints hold no {type(value).__name__}")

    def _tensor(self, array: np.ndarray) -> None:
        self._global("torch._utils", "_rebuild_tensor_v2")
        self._out += pickle.MARK + pickle.MARK
        self._write("storage")
        self._global("torch", _STORAGES[array.dtype])
        self._items((str(len(self.arrays)), "cpu", array.size), pickle.TUPLE)
        self._memoize()
        self._out += pickle.BINPERSID
        strides = tuple(step // array.itemsize for step in array.strides)
        self._items((0, array.shape, strides, False, OrderedDict()), pickle.TUPLE + pickle.REDUCE)
        self._memoize()
        self.arrays.append(array)

    def _global(self, module: str, name: str) -> None:
        if not self._recall((module, name)):
            self._out += pickle.GLOBAL + f"{module}\n{name}\n".encode()
            self._memoize((module, name))

    def _call(self, module: str, name: str, arguments: tuple[Any, ...]) -> None:
        self._global(module, name)
        self._write(arguments)
        self._out += pickle.REDUCE
        self._memoize()

    def _items(self, values: Iterable[Any], end: bytes) -> None:
        """Values onto the stack above a mark, and what takes them."""
        for value in values:
            self._write(value)
        self._out += end

    def _pairs(self, values: Mapping[str, Any]) -> None:
        self._out += pickle.MARK
        self._items((part for pair in values.items() for part in pair), pickle.SETITEMS)

    def _memoize(self, key: str | tuple[str, str] | None = None) -> None:
        self._out += pickle.LONG_BINPUT + struct.pack("<I", self._memoized)
        if key is not None:
            self._memo[key] = self._memoized
        self._memoized += 1

    def _recall(self, key: str | tuple[str, str]) -> bool:
        if key in self._memo:
            self._out += pickle.LONG_BINGET + struct.pack("<I", self._memo[key])
        return key in self._memo
