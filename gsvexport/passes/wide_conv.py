"""Convolutions that read 16 bits and give float, on 8-bit integers: what lies on the way from layer to layer, where an
error reaches the sound undamped.

    x ≈ h + l,  h in steps of s over the whole range,  l = x - h in steps of s/254
    y = conv(h) + conv(l) + b,  with w in int8 as in `quantise_conv`, sums in int32, y in float
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import onnx_ir as ir
from onnx_ir.passes import common

from gsvexport.passes.base import Outcome, attribute, constant, insert_before, replace
from gsvexport.passes.quantise_conv import affine, integer_weight, steps

_FINER = 254  # steps of l in one of h: what rounding leaves lies within half of one
_MIDDLE = 128


@dataclass(frozen=True)
class WideConv:
    """Rewrites the convolutions of `nodes` that have a constant weight and whose input has a range; `weight_bits` as in
    `quantise_conv`."""

    name: ClassVar[str] = "wide-conv"
    version: ClassVar[int] = 1
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    weight_bits: int = 8
    nodes: Collection[str] = ()

    def apply(self, model: ir.Model) -> Outcome:
        """Change `model`; says how many convolutions read 16 bits."""
        changed = 0
        for node in list(model.graph):
            x = node.inputs[0] if node.op_type == "Conv" and node.name in self.nodes else None
            if x is None or x.name not in self.ranges or constant(node.inputs[1]) is None:
                continue
            self._rewrite(model, node, x)
            changed += 1
        common.RemoveUnusedNodesPass()(model)  # another pass would take what was replaced for a layer
        return Outcome(changed, (f"{changed} convolutions read 16 bits on INT8",) if changed else ())

    def _rewrite(self, model: ir.Model, node: ir.Node, x: ir.Value) -> None:
        scale, zero = affine(*self.ranges[str(x.name)])
        high = self._pair(model, node, x, f"{x.name}/high", scale, zero)
        (rest,) = insert_before(node, "Sub", [x, high], name=f"{x.name}/rest")
        low = self._pair(model, node, rest, f"{x.name}/low", scale / _FINER, _MIDDLE)
        weight, _ = integer_weight(model, node, self.weight_bits)
        parts = []
        for part, inputs in (("high", [high, weight, *node.inputs[2:]]), ("low", [low, weight])):
            kept = {name: attribute(node, name) for name in ("kernel_shape", "pads", "strides", "dilations", "group")}
            attributes = {name: value for name, value in kept.items() if value is not None}
            (y,) = insert_before(node, "Conv", inputs, attributes, name=f"{node.name}/{part}")
            parts.append(y)
        (total,) = insert_before(node, "Add", parts, name=f"{node.name}/wide")
        replace(node.outputs[0], total)

    def _pair(self, model: ir.Model, anchor: ir.Node, value: ir.Value, name: str, scale: float, zero: int) -> ir.Value:
        parts = steps(model, name, scale, zero)
        (q,) = insert_before(anchor, "QuantizeLinear", [value, *parts], name=f"{name}/q")
        return insert_before(anchor, "DequantizeLinear", [q, *parts], name=f"{name}/dq")[0]
