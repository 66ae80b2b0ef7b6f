"""Whether a graph is integers from end to end, as an accelerator must have it: read from what was written."""

from __future__ import annotations

from gsvexport.backends.tflite.graph import Graph, Tensor

_TYPES = ("int8", "int32")
_FLOAT = ("DEQUANTIZE", "CAST", "FAKE_QUANT")  # operators that leave the integers, whatever their tensors say


def faults(graph: Graph) -> list[str]:
    """What is not static int8 with a scale, or a constant in int32; empty for an integer graph."""
    found = []
    for tensor in graph.tensors:
        if tensor.dtype not in _TYPES:
            found.append(f"tensor {tensor.name} is {tensor.dtype}")
        elif tensor.dtype == "int32" and tensor.data is None:
            found.append(f"tensor {tensor.name} is a computed int32")
        elif tensor.dtype == "int8" and tensor.quantisation is None:
            found.append(f"tensor {tensor.name} has no scale")
        if -1 in (tensor.signature or ()) or 0 in tensor.shape:
            found.append(f"tensor {tensor.name} has a free axis")
    for operator in graph.operators:
        if operator.kind in _FLOAT:
            found.append(f"operator {operator.name} is a {operator.kind}")
        if operator.kind == "CONV_2D" and any(not _constant(graph.tensors, one) for one in operator.inputs[1:]):
            found.append(f"operator {operator.name} has weights that are no constants")
    return found


def _constant(tensors: tuple[Tensor, ...], index: int) -> bool:
    return index >= 0 and tensors[index].data is not None
