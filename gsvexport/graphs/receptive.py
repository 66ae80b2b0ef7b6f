"""How far a convolutional graph looks: which input frames one output frame depends on, read off its operators.

An interval [low, high) of wanted outputs is carried backwards through every operator to the input frames it needs. For
output samples o of a convolution with kernel k, dilation d, stride s and left padding p these are

    Conv           o·s - p  …  o·s - p + (k-1)·d
    ConvTranspose  ⌈(o + p - (k-1)·d) / s⌉  …  ⌊(o + p) / s⌋

and everything that works sample by sample needs what it gives. The padding at a sequence's own ends is part of the
operators, so a window that begins or ends where the sequence does needs nothing beyond.
"""

from __future__ import annotations

import onnx_ir as ir

from gsvexport.errors import PassError

Interval = tuple[int, int]  # [low, high)
_POINTWISE = {
    *("Add", "Cast", "DequantizeLinear", "Div", "Identity", "LeakyRelu", "Mul", "QuantizeLinear", "Relu", "Sigmoid"),
    *("Squeeze", "Sub", "Tanh", "Unsqueeze", "Concat", "Split"),
}


def context(model: ir.Model, source: str, result: str, hop: int) -> tuple[int, int]:
    """(left, right): how many frames of input `source` before and after a frame the `hop` samples of output `result`
    that belong to it depend on.

    Raises:
        PassError: an operator on the way whose reach is not known; names the node.
    """
    port = next(value for value in model.graph.inputs if value.name == source)
    wanted: dict[ir.Value, Interval] = {next(value for value in model.graph.outputs if value.name == result): (0, hop)}
    reached = _reached(model, port)
    for node in reversed(list(model.graph)):
        given = [wanted[value] for value in node.outputs if value in wanted]
        if not given:
            continue
        need = _needed(node, (min(low for low, _ in given), max(high for _, high in given)))
        for value in node.inputs:
            if value is not None and value in reached:
                low, high = wanted.get(value, need)
                wanted[value] = (min(low, need[0]), max(high, need[1]))
    low, high = wanted.get(port, (0, 1))
    return -low, high - 1


def _reached(model: ir.Model, port: ir.Value) -> set[ir.Value | None]:
    """Every value that depends on an input."""
    found: set[ir.Value | None] = {port}
    for node in model.graph:
        if any(value in found for value in node.inputs):
            found.update(node.outputs)
    return found


def _needed(node: ir.Node, wanted: Interval) -> Interval:
    low, high = wanted
    if node.op_type in _POINTWISE:
        return wanted
    if node.op_type not in ("Conv", "ConvTranspose"):
        raise PassError(f"{node.name}: how far {node.op_type} looks is not known", fix="teach graphs/receptive.py")
    # Time is the last axis; pads list the beginnings of all axes first.
    stride, dilation = (_ints(node, name, [1])[-1] for name in ("strides", "dilations"))
    pads = _ints(node, "pads", [0, 0])
    pad, span = pads[len(pads) // 2 - 1], (_ints(node, "kernel_shape", [])[-1] - 1) * dilation
    if node.op_type == "Conv":
        return low * stride - pad, (high - 1) * stride - pad + span + 1
    return -((span - low - pad) // stride), (high - 1 + pad) // stride + 1


def _ints(node: ir.Node, name: str, default: list[int]) -> list[int]:
    return [int(one) for one in node.attributes[name].as_ints()] if name in node.attributes else default
