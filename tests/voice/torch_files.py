"""Torch files made by hand: valid ones in every storage type, and broken or hostile ones. Nothing here needs torch."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

STORAGES = {
    "f2": "HalfStorage",
    "f4": "FloatStorage",
    "i8": "LongStorage",
    "b1": "BoolStorage",
    "u2": "BFloat16Storage",
}


@dataclass(frozen=True, eq=False)
class Name:
    """A global that the pickle names; dumping it imports nothing."""

    name: str

    def __call__(self, *_: Any) -> None:
        raise AssertionError("never called")


@dataclass(frozen=True, eq=False)
class Storage:
    """A storage reference with whatever claims a test wants it to make."""

    kind: str
    key: Any
    count: Any


@dataclass(frozen=True, eq=False)
class Call:
    """`function(*arguments)` at load time."""

    function: Name
    arguments: tuple[Any, ...]

    def __reduce__(self) -> Any:
        return self.function, self.arguments


class HParams(dict[str, Any]):
    """Pickled as an instance of `utils.HParams`."""


@dataclass
class _Writer:
    protocol: int = 2
    data: list[bytes] = field(default_factory=list)

    def dumps(self, value: Any) -> bytes:
        stream = io.BytesIO()
        _Pickler(stream, self).dump(value)
        return stream.getvalue()

    def tensor(self, array: np.ndarray) -> Call:
        """A whole array as a contiguous tensor with a storage of its own."""
        array = np.ascontiguousarray(array)
        self.data.append(array.tobytes())
        storage = Storage(STORAGES[array.dtype.str[1:]], str(len(self.data) - 1), array.size)
        return view(storage, 0, array.shape, tuple(step // array.itemsize for step in array.strides))


def view(storage: Any, offset: Any, shape: Any, stride: Any) -> Call:
    """A tensor of a storage, as torch's pickles describe it."""
    return Call(Name("torch._utils._rebuild_tensor_v2"), (storage, offset, shape, stride, False, OrderedDict()))


_PythonPickler: Any = pickle._Pickler  # its dispatch table can be extended


class _Pickler(_PythonPickler):  # type: ignore[misc]
    dispatch: ClassVar[dict[Any, Any]] = dict(_PythonPickler.dispatch)

    def __init__(self, stream: io.BytesIO, writer: _Writer) -> None:
        super().__init__(stream, writer.protocol)
        self.writer = writer

    def persistent_id(self, obj: Any) -> Any:
        if isinstance(obj, Storage):
            return ("storage", Name(f"torch.{obj.kind}"), obj.key, "cpu", obj.count)
        return None

    def save_name(self, obj: Name) -> None:
        module, _, name = obj.name.rpartition(".")
        if self.writer.protocol >= 4:
            self.save(module)
            self.save(name)
            self.write(pickle.STACK_GLOBAL)
        else:
            self.write(pickle.GLOBAL + f"{module}\n{name}\n".encode())

    def save_hparams(self, obj: HParams) -> None:
        self.save(Name("utils.HParams"))
        self.write(pickle.EMPTY_TUPLE + pickle.NEWOBJ)
        self.memoize(obj)
        self.save(dict(obj))
        self.write(pickle.BUILD)

    def save_array(self, obj: np.ndarray) -> None:
        self.save(self.writer.tensor(obj))

    dispatch[Name] = save_name
    dispatch[HParams] = save_hparams
    dispatch[np.ndarray] = save_array


def content(weight: Mapping[str, Any], config: Any = None, **more: Any) -> OrderedDict[str, Any]:
    """The top level of a voice file."""
    return OrderedDict(weight=OrderedDict(weight), config={} if config is None else config, info="GPT-e1", **more)


def write(
    path: Path,
    value: Any,
    *,
    header: bytes = b"PK",
    root: str = "1795357.123",
    compression: int = zipfile.ZIP_STORED,
    protocol: int = 2,
    extra: Sequence[tuple[str, bytes]] = (),
    data: Sequence[bytes] = (),
    zip64: bool = False,
) -> Path:
    """Write `value` as a torch zip file. `data` are storages beyond those of the arrays, `extra` further members.

    `value` may also be the bytes of a ready pickle.
    """
    writer = _Writer(protocol, list(data))
    dumped = value if isinstance(value, bytes) else writer.dumps(value)
    members = [("data.pkl", dumped), ("byteorder", b"little"), ("version", b"3\n")]
    members += [(f"data/{key}", blob) for key, blob in enumerate(writer.data)]
    with zipfile.ZipFile(path, "w") as archive:
        for name, blob in [*((f"{root}/{name}", blob) for name, blob in members), *extra]:
            info = zipfile.ZipInfo(name)
            info.compress_type = compression
            with archive.open(info, "w", force_zip64=zip64) as entry:
                entry.write(blob)
    with open(path, "r+b") as file:
        file.write(header)
    return path
