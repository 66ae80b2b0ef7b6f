"""How much work a stage is, counted in its graph: bytes of weights that a step reads, multiply-adds of a vocoder."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import ModelProto


def weight_bytes(path: Path) -> int:
    """Bytes of the weights that one run of the graph reads, as stored; of a table that is only looked up in, nothing.

    Raises:
        ImportError: the package `onnx` is absent.
    """
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    gathered = {node.input[0] for node in graph.node if node.op_type == "Gather"}
    used = {name for node in graph.node for name in node.input[node.op_type == "Gather" :]}
    return sum(
        math.ceil(math.prod(tensor.dims) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
        for tensor in graph.initializer
        if tensor.name in used or tensor.name not in gathered
    )


def convolution_macs(path: Path, sizes: dict[str, int]) -> tuple[int, int] | None:
    """Multiply-adds of the graph's convolutions on floats and on integers, with free axes as `sizes` says.

    A convolution is one on integers when its data has just been dequantised: runtimes fuse the two. None when a shape
    cannot be known. The count of a convolution is the size of its output times its taps and channels for each output
    (a transposed one: of its input).

    Raises:
        ImportError: the package `onnx` is absent.
    """
    import onnx
    from onnx import shape_inference

    model = onnx.load(path, load_external_data=False)
    for port in (*model.graph.input, *model.graph.output):
        for axis in port.type.tensor_type.shape.dim:
            if axis.dim_param in sizes:
                axis.dim_value = sizes[axis.dim_param]
            elif axis.dim_param:
                axis.ClearField("dim_param")
    del model.graph.value_info[:]
    shapes = _shapes(shape_inference.infer_shapes(model, data_prop=True))
    dequantised = {name for node in model.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    counts = [0, 0]
    for node in model.graph.node:
        if node.op_type in ("Conv", "ConvTranspose"):
            data = node.input[0] if node.op_type == "ConvTranspose" else node.output[0]
            over, weight = shapes.get(data), shapes.get(node.input[1])
            if over is None or weight is None:
                return None
            counts[node.input[0] in dequantised] += math.prod(over) * math.prod(weight[1:])
    return counts[0], counts[1]


def _shapes(model: ModelProto) -> dict[str, tuple[int, ...]]:
    """The shape of every value that has a wholly known one."""
    graph = model.graph
    found = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        axes = value.type.tensor_type.shape.dim
        if all(axis.HasField("dim_value") for axis in axes):
            found[value.name] = tuple(axis.dim_value for axis in axes)
    return found
