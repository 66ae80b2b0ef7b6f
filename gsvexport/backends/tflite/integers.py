"""Whether a graph is integers from end to end, as an accelerator must have it: read from what was written."""

from __future__ import annotations

from gsvexport.backends.tflite.graph import Graph, Tensor

_TYPES = {"int8": ("int8", "int32"), "int16x8": ("int8", "int16", "int32", "int64")}  # by precision
_FLOAT = ("DEQUANTIZE", "CAST", "FAKE_QUANT")  # operators that leave the integers, whatever their tensors say


def faults(graph: Graph, precision: str = "int8") -> list[str]:
    """What is not static int8 with a scale (or int16, where the precision has that), or a constant in wider integers;
    empty for an integer graph."""
    found = []
    for tensor in graph.tensors:
        if tensor.dtype not in _TYPES[precision]:
            found.append(f"tensor {tensor.name} is {tensor.dtype}")
        elif tensor.dtype in ("int32", "int64") and tensor.data is None:
            found.append(f"tensor {tensor.name} is a computed {tensor.dtype}")
        elif tensor.dtype in ("int8", "int16") and tensor.quantisation is None:
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
