"""Graphs that belong together on disk: `<stage>.onnx`, and all their weights once in one or two safetensors files.

The graphs point into them by offset, so a runtime maps them instead of reading them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir

from gsvexport.artifact.manifest import SAME_BYTES, Weights
from gsvexport.errors import PassError

WEIGHTS = "weights.safetensors"
APART = "t2s.safetensors"  # what T2S alone uses: voices that share their GPT then share a file
# In the order in which the library stores them, the last ones first.
_TYPES = {"bool": "BOOL", "uint8": "U8", "int8": "I8", "int16": "I16", "uint16": "U16", "float16": "F16"}
_TYPES |= {"int32": "I32", "uint32": "U32", "float32": "F32", "float64": "F64", "int64": "I64", "uint64": "U64"}
_INLINE = 128  # bytes; smaller constants (shapes, axes, scalars) are part of the graph


def save_graphs(folder: Path, graphs: Mapping[str, ir.Model], apart: Collection[str] = ()) -> None:
    """Write the graphs and their weights to `folder`; a weight that several graphs name is stored once.

    What only the graphs of `apart` use has a file of its own.

    Raises:
        PassError: two graphs give one name to different contents.
    """
    arrays: dict[str, np.ndarray] = {}
    for stage, model in graphs.items():
        for value in model.graph.initializers.values():
            array = value.const_value.numpy()  # type: ignore[union-attr]
            if array.nbytes < _INLINE:
                continue
            known = arrays.setdefault(_stored_name(value), array)
            if known is not array and not (known.dtype == array.dtype and np.array_equal(known.ravel(), array.ravel())):
                raise PassError(f"stage {stage}: weight {value.name} differs from that of another stage")
    shared = {
        _stored_name(value)
        for stage, model in graphs.items()
        if stage not in apart
        for value in model.graph.initializers.values()
    }
    places: dict[str, tuple[str, int, int]] = {}
    for file, own in ((WEIGHTS, arrays.keys() & shared), (APART, arrays.keys() - shared)):
        if own or file == WEIGHTS:
            _store({name: array for name, array in arrays.items() if name in own}, folder / file)
            places |= {name: (file, *place) for name, place in _places(folder / file).items()}
    for stage, model in graphs.items():
        outside = model.clone()
        for value in outside.graph.initializers.values():
            tensor = value.const_value
            assert tensor is not None
            if tensor.nbytes >= _INLINE:
                file, offset, size = places[_stored_name(value)]
                value.const_value = ir.ExternalTensor(
                    file,
                    offset,
                    size,
                    tensor.dtype,
                    shape=ir.Shape(tensor.shape.numpy()),
                    name=str(value.name),
                    base_dir=folder,
                )
        ir.save(outside, folder / f"{stage}.onnx")


def _store(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """A safetensors file byte for byte as that library writes it, which would hold all of it in memory once more."""
    names = sorted(arrays, key=lambda name: (-list(_TYPES).index(arrays[name].dtype.name), name))
    header, end = {}, 0
    for name in names:
        array, start = arrays[name], end
        end += array.nbytes
        header[name] = {"dtype": _TYPES[array.dtype.name], "shape": list(array.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            stream.write(np.ascontiguousarray(arrays[name]).data)


def stored_weights(graphs: Mapping[str, ir.Model]) -> tuple[Weights, ...]:
    """What `save_graphs` stores, by the stages that use it and what it is stored as."""
    users: dict[str, list[str]] = {}
    kinds: dict[str, tuple[str, int]] = {}
    for stage, model in graphs.items():
        for value in model.graph.initializers.values():
            tensor, name = value.const_value, _stored_name(value)
            assert tensor is not None
            if tensor.nbytes >= _INLINE:
                users.setdefault(name, []).append(stage)
                kinds[name] = (_kind(value, tensor), tensor.nbytes)
    total: dict[tuple[tuple[str, ...], str], int] = {}
    for name, (kind, size) in kinds.items():
        key = (tuple(sorted(users[name])), kind)
        total[key] = total.get(key, 0) + size
    return tuple(Weights(stages, kind, size) for (stages, kind), size in sorted(total.items()))


def _stored_name(value: ir.Value) -> str:
    """The name under which a weight's bytes are stored."""
    assert value.name is not None
    return value.metadata_props.get(SAME_BYTES, value.name)


def _kind(value: ir.Value, tensor: ir.TensorProtocol) -> str:
    """A tensor's type; blocks of n bits are packed into bytes, and count as what they are."""
    for node, place in value.uses():
        if node.op_type == "MatMulNBits" and place == 1:
            return f"int{node.attributes['bits'].as_int()}"
    name = tensor.dtype.name.lower()
    return {"float": "fp32", "float16": "fp16", "uint8": "int8"}.get(name, name)


def _places(path: Path) -> dict[str, tuple[int, int]]:
    """Name → (offset in the file, bytes) of every tensor in a safetensors file."""
    with open(path, "rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(size))
    start = 8 + size
    return {
        name: (start + entry["data_offsets"][0], entry["data_offsets"][1] - entry["data_offsets"][0])
        for name, entry in header.items()
        if name != "__metadata__"
    }
