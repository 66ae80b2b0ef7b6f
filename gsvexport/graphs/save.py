"""Graphs that belong together on disk: `<stage>.onnx`, and all their weights once in one safetensors file.

The graphs point into that file by offset, so a runtime maps it instead of reading it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir

from gsvexport.errors import PassError

WEIGHTS = "weights.safetensors"
_INLINE = 128  # bytes; smaller constants (shapes, axes, scalars) are part of the graph


def save_graphs(folder: Path, graphs: Mapping[str, ir.Model]) -> None:
    """Write the graphs and their weights to `folder`; a weight that several graphs name is stored once.

    Raises:
        PassError: two graphs give one name to different contents.
    """
    from safetensors.numpy import save_file

    arrays: dict[str, np.ndarray] = {}
    for stage, model in graphs.items():
        for value in model.graph.initializers.values():
            array = value.const_value.numpy()  # type: ignore[union-attr]
            if array.nbytes < _INLINE:
                continue
            known = arrays.setdefault(value.name, array)  # type: ignore[arg-type]
            if known is not array and not (known.dtype == array.dtype and np.array_equal(known, array)):
                raise PassError(f"stage {stage}: weight {value.name} differs from that of another stage")
    save_file(arrays, folder / WEIGHTS)
    places = _places(folder / WEIGHTS)
    for stage, model in graphs.items():
        outside = model.clone()
        for value in outside.graph.initializers.values():
            if value.name in places:
                offset, size = places[value.name]
                tensor = value.const_value
                assert tensor is not None
                value.const_value = ir.ExternalTensor(
                    WEIGHTS,
                    offset,
                    size,
                    tensor.dtype,
                    shape=ir.Shape(tensor.shape.numpy()),
                    name=value.name,
                    base_dir=folder,
                )
        ir.save(outside, folder / f"{stage}.onnx")


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
