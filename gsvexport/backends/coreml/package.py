"""A Core ML package: a folder with a manifest, an ML program as protobuf, and its weights.

    Manifest.json                                    which of the others is what
    Data/com.apple.CoreML/model.mlmodel              ports and operators: Model.proto and MIL.proto of coremltools
    Data/com.apple.CoreML/weights/weight.bin         weights of 10 numbers or more

A weight stands behind 64 bytes that say what it is: a mark, its type, how many bytes it has, and where they begin.
"""

from __future__ import annotations

import hashlib
import math
import struct
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsvexport.backends.coreml.systems import OPSET, SPECIFICATION
from gsvexport.backends.coreml.wire import Message
from gsvexport.files import canonical_json
from gsvexport.untrusted.reading import Refused, inside, read_bytes, read_json

Array = NDArray[Any]
_AUTHOR = "com.apple.CoreML"
MANIFEST, MODEL, WEIGHTS = "Manifest.json", f"Data/{_AUTHOR}/model.mlmodel", f"Data/{_AUTHOR}/weights/weight.bin"
FILES = (MANIFEST, MODEL, WEIGHTS)
_ITEMS = {f"{_AUTHOR}/model.mlmodel": "CoreML Model Specification", f"{_AUTHOR}/weights": "CoreML Model Weights"}
_IN_PROGRAM = "@model_path/weights/weight.bin"  # how the program calls its weights
_LARGEST_MANIFEST, _LARGEST_MODEL, _LARGEST_WEIGHTS = 1 << 16, 32 << 20, 2 << 30  # bytes; a full-size one has 28 MB
_MARK = 0xDEADBEEF
_ENTRY = struct.Struct("<IIQQ")
_STORED: dict[int, np.dtype[Any]] = {1: np.dtype("<f2"), 2: np.dtype("<f4")}  # types in weight.bin
# Types in the program.
_STRING, _FLOAT16, _FLOAT32, _INT32, _BOOL = 2, 10, 11, 23, 1
KINDS = {_BOOL: "bool", _FLOAT16: "float16", _FLOAT32: "float32", _INT32: "int32"}
_MOST_AXES = 8


@dataclass(frozen=True)
class Type:
    """What an array is: numpy's name of its numbers, and its axes."""

    kind: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Operation:
    """One operator: its kind, by parameter the name of the value that it takes, and its only result."""

    kind: str
    takes: dict[str, str]
    name: str
    type: Type


@dataclass(frozen=True)
class Program:
    """What a package computes, in order. `constants` are arrays and texts by name; `stored` counts weights by type."""

    inputs: dict[str, Type]
    output: str
    operations: tuple[Operation, ...]
    constants: dict[str, Array | str]
    stored: dict[str, int] = field(default_factory=dict)


def write(folder: Path, model: bytes, weights: bytes) -> None:
    """Write a package. Its identifiers come from its content, where Apple's own tool draws them."""
    names = list(_ITEMS)
    entries = {_identifier(path, content): path for path, content in zip(names, (model, weights), strict=True)}
    about = {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": {
            identifier: {"author": _AUTHOR, "description": _ITEMS[path], "name": Path(path).name, "path": path}
            for identifier, path in entries.items()
        },
        "rootModelIdentifier": next(iter(entries)),
    }
    for name, content in zip(FILES, (canonical_json(about).encode(), model, weights), strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def _identifier(path: str, content: bytes) -> str:
    return str(uuid.UUID(bytes=hashlib.sha256(path.encode() + b"\0" + content).digest()[:16], version=5)).upper()


def read(folder: Path) -> Program:
    """What the package in `folder` computes.

    Raises:
        Refused: it is damaged, or nothing that this release writes; names the file.
        OSError: a file cannot be read.
    """
    name = MANIFEST
    try:
        _check_manifest(read_json(inside(folder, MANIFEST), limit=_LARGEST_MANIFEST))
        name = MODEL
        model = Message(read_bytes(inside(folder, MODEL), _LARGEST_MODEL))
        name = WEIGHTS
        weights = read_bytes(inside(folder, WEIGHTS), _LARGEST_WEIGHTS)
        name = MODEL
        return _program(model, weights)
    except Refused as error:
        raise Refused(f"{name} {error}") from error


def _check_manifest(about: Any) -> None:
    entries = about.get("itemInfoEntries") if isinstance(about, dict) else None
    if not isinstance(entries, dict) or not all(isinstance(one, dict) for one in entries.values()):
        raise Refused("is no manifest of a package")
    paths = {identifier: one.get("path") for identifier, one in entries.items()}
    if set(paths.values()) != set(_ITEMS) or len(paths) != len(_ITEMS):
        raise Refused(f"does not list {' and '.join(_ITEMS)} alone")
    if paths.get(about.get("rootModelIdentifier")) != next(iter(_ITEMS)):
        raise Refused("does not say which file is the model")


# Numbers below are those of fields in Model.proto and MIL.proto.
def _program(model: Message, weights: bytes) -> Program:
    if model.whole(1) != SPECIFICATION or 502 not in model:
        raise Refused(f"is no ML program of specification {SPECIFICATION}")
    function = model.message(502).table(2).get("main")
    if function is None or function.text(2) != OPSET or set(blocks := function.table(3)) != {OPSET}:
        raise Refused(f"has no function 'main' for {OPSET}")
    block = blocks[OPSET]
    inputs = {port.text(1): _type(port.message(2)) for port in function.messages(1)}
    told = [port.text(1) for port in model.message(2).messages(1)]
    outputs = [port.text(1) for port in model.message(2).messages(10)]
    if sorted(told) != sorted(inputs) or outputs != block.texts(2) or len(outputs) != 1:
        raise Refused("says of its ports what its program does not")
    constants: dict[str, Array | str] = {}
    stored: dict[str, int] = {}
    operations: list[Operation] = []
    names = set(inputs)
    for one in block.messages(3):
        results = one.messages(3)
        if len(results) != 1 or 4 in one:
            raise Refused(f"has an operator '{one.text(1)}' that is not read: with several results, or blocks in it")
        name, kind = results[0].text(1), _type(results[0].message(2))
        if name in names:
            raise Refused(f"has two values called '{name}'")
        names.add(name)
        if one.text(1) == "const":
            constants[name] = value = _constant(one.table(5).get("val", Message(b"")), kind, weights)
            if isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.ndim:
                stored[kind.kind] = stored.get(kind.kind, 0) + value.size
            continue
        takes = {}
        for parameter, argument in one.table(2).items():
            bindings = argument.messages(1)
            if len(bindings) != 1 or 2 in bindings[0]:
                raise Refused(f"has an operator '{one.text(1)}' whose {parameter} is not read")
            takes[parameter] = bindings[0].text(1)
        operations.append(Operation(one.text(1), takes, name, kind))
    return Program(inputs, outputs[0], tuple(operations), constants, stored)


def _type(message: Message) -> Type:
    tensor = message.message(1)
    kind, axes = tensor.whole(1), tensor.messages(3)
    if kind == _STRING and not axes:
        return Type("text", ())
    if kind not in KINDS or len(axes) > _MOST_AXES or tensor.whole(2) != len(axes):
        raise Refused(f"has an array of type {kind} with {len(axes)} axes, which is not read")
    return Type(KINDS[kind], tuple(axis.message(1).whole(1) for axis in axes))


def _constant(value: Message, kind: Type, weights: bytes) -> Array | str:
    if 5 in value:
        return _stored(value.message(5), kind, weights)
    tensor = value.message(3, 1)
    if kind.kind == "text":
        return tensor.message(4).text(1)
    if kind.kind == "float16":
        data = b"".join(tensor.message(7).parts(1))
        found = np.frombuffer(data[: len(data) // 2 * 2], "<f2")
    elif kind.kind == "float32":
        found = np.array(tensor.message(1).floats(1), np.float32)
    else:
        found = np.array(tensor.message(3 if kind.kind == "bool" else 2).wholes(1), kind.kind)
    if found.size != math.prod(kind.shape):
        raise Refused(f"has a constant of {found.size} numbers for {list(kind.shape)}")
    return found.reshape(kind.shape)


def _stored(place: Message, kind: Type, weights: bytes) -> Array:
    start = place.whole(2)
    if place.text(1) != _IN_PROGRAM or start + 64 > len(weights):
        raise Refused(f"wants a weight at byte {start} of {place.text(1)[:80]!a}, and {WEIGHTS} has {len(weights)}")
    mark, code, size, begin = _ENTRY.unpack_from(weights, start)
    stored = _STORED.get(code)
    if mark != _MARK or stored is None or stored.name != kind.kind:
        raise Refused(f"wants a weight of {kind.kind} at byte {start} of {WEIGHTS}, and there is none")
    if size != math.prod(kind.shape) * stored.itemsize or begin + size > len(weights):
        raise Refused(f"wants a weight {list(kind.shape)} at byte {start} of {WEIGHTS}, which has {size} bytes there")
    return np.frombuffer(weights, stored, size // stored.itemsize, begin).reshape(kind.shape)
