"""Convolutions on integers whose ranges are taken when they run: for the frames x of [1, I, T]

    y[:, t] = Σ_o W_o·x[:, t + o]  ≈  (W₈·q)·c·m/127,    q = round(127·x/m),  m = max|x| over the taps of frame t

A frame brings its own range, taken over the frames that its taps reach, and each output channel has a scale c: as
`dynamic_rows` does it for products, so that what is loud in one frame does not coarsen others far away. All taps of a
frame are one column of one product.

The weights are its left side, which a runtime neither copies nor turns into floats, and channels stay first, so nothing
is transposed. They are stored as unsigned bytes around 2^(bits-1), because kernels take unsigned by signed bytes. Sums
are integers: no order of them and no number of threads changes a bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from gsvexport.passes.base import Adder, Outcome, attribute, constant, initializer, replace
from gsvexport.passes.quantise_conv import channel_scales, to_int8

DOMAIN = "com.microsoft"
_ROW_LIMIT = 127
_TINY = 1e-20  # a frame of zeros is not divided by zero


@dataclass(frozen=True)
class IntegerConv:
    """Rewrites the Conv nodes `nodes` (names; see `fits`).

    `weight_bits` is 8, or 7 for processors that add pairs of products in 16 bits.
    """

    name: ClassVar[str] = "integer-conv"
    version: ClassVar[int] = 1
    nodes: tuple[str, ...]
    weight_bits: int = 8

    def apply(self, model: ir.Model) -> Outcome:
        """Change `model`."""
        add, chosen = Adder(model, "frames"), set(self.nodes)
        found = [node for node in model.graph if node.op_type == "Conv" and node.name in chosen]
        for node in found:
            self._rewrite(add, node)
        add.finish()
        common.RemoveUnusedNodesPass()(model)  # passes that follow would store the old weights, too
        model.graph.opset_imports[DOMAIN] = 1
        note = f"{len(found)} convolutions are {self.weight_bits}-bit integers, with a range for each frame as it comes"
        return Outcome(len(found), (note,) if found else ())

    def _rewrite(self, add: Adder, node: ir.Node) -> None:
        x, weight = node.inputs[0], constant(node.inputs[1])
        assert weight is not None
        outputs, width, taps = weight.shape
        limit, label = 2 ** (self.weight_bits - 1) - 1, f"{node.inputs[1].name}:f{self.weight_bits}"  # type: ignore[union-attr]
        scales = channel_scales(weight, limit)
        integers = to_int8(weight, scales, limit)
        begin, end = attribute(node, "pads", [0, 0])
        # What each tap reads is gathered before the product or after it, whichever is less to move.
        before = width <= outputs
        order = (0, 2, 1) if before else (2, 0, 1)
        matrix = integers.transpose(order).reshape(-1, width * taps if before else width)
        left = initializer(add.model, label, (matrix.astype(np.int16) + limit + 1).astype(np.uint8))
        columns = initializer(add.model, f"{label}.scale", scales[:, None])

        def shifted(value: ir.Value | None, tap: int) -> ir.Value:
            return add("Pad", value, add.ints(0, 0, begin - tap, 0, 0, end - (taps - 1 - tap)))

        largest = add.column_peaks(x, width)  # [1, 1, T]
        if taps > 1 and before:
            largest = add("MaxPool", largest, kernel_shape=[taps], pads=[begin, end])
            x = add("Concat", *(shifted(x, tap) for tap in range(taps)), axis=1)
        largest = add("Max", largest, add.scalar(_TINY))
        scaled = add("Mul", x, add("Div", add.scalar(float(_ROW_LIMIT)), largest))
        frames = add("QuantizeLinear", scaled, add.scalar(1.0), add.scalar(0, np.int8))
        shares = add("Reshape", add("Mul", largest, add.scalar(1 / _ROW_LIMIT)), add.ints(-1))
        parts = (left, frames, add.scalar(1.0), shares, add.scalar(limit + 1, np.uint8))
        y = add("MatMulIntegerToFloat", *parts, domain=DOMAIN)  # [1, O, T], or [1, taps·O, T]
        if taps > 1 and not before:
            each = (
                add("Slice", y, add.ints(tap * outputs), add.ints((tap + 1) * outputs), add.ints(1))
                for tap in range(taps)
            )
            y = add("Sum", *(shifted(one, tap) for tap, one in enumerate(each)))
        y = add("Mul", y, columns)
        bias = constant(node.inputs[2]) if len(node.inputs) > 2 else None
        if bias is not None:
            name = f"{node.inputs[2].name}:column"  # type: ignore[union-attr]
            y = add("Add", y, initializer(add.model, name, bias[:, None]))
        replace(node.outputs[0], y)


def fits(node: ir.Node) -> bool:
    """Whether a node is a convolution of frames [1, I, T] by a constant, with one group and nothing left out."""
    weight = constant(node.inputs[1]) if node.op_type == "Conv" else None
    plain = all(set(attribute(node, name, [1])) == {1} for name in ("strides", "dilations"))
    known = len(node.inputs) < 3 or constant(node.inputs[2]) is not None
    return (
        weight is not None
        and weight.ndim == 3
        and plain
        and known
        and attribute(node, "group", 1) == 1
        and attribute(node, "auto_pad", "NOTSET") == "NOTSET"
    )
