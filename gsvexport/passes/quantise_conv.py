"""Static INT8 for 2-D convolutions, as QuantizeLinear / DequantizeLinear pairs that runtimes fuse.

    x ≈ (x_q - z)·s with x_q uint8 and one s, z for each tensor
    w ≈ w_q·s_c with w_q int8 and one s_c for each output channel

QNNPACK's conventions: weights are symmetric, activations asymmetric, the bias is int32 with scale s·s_c. Both sides of
a convolution are quantised, so that it runs on integers from end to end; what lies between (residual sums, the first
leaky ReLU of a block) stays float unless both its ends are integers anyway.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from gsvexport.passes.base import Outcome, constant, initializer, insert_before, producer, replace

_LEVELS = 255


@dataclass(frozen=True)
class QuantiseConv:
    """Quantises the convolutions with constant weights whose input and output have a range.

    `ranges` maps a tensor's name to its (low, high); a convolution without both is left alone. `weight_bits` is 8, or 7
    for processors that add two products in 16 bits and would saturate (x86 without VNNI). `skip` names nodes to leave
    float, as a sensitivity measurement has chosen them.
    """

    name: ClassVar[str] = "quantise-conv"
    version: ClassVar[int] = 2
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    weight_bits: int = 8
    skip: tuple[str, ...] = ()

    def apply(self, model: ir.Model) -> Outcome:
        """Change `model`; says how many convolutions stay float."""
        changed, kept = 0, 0
        dequantised: dict[str, ir.Value] = {}
        convolutions = [(node, node.inputs[0], node.outputs[0]) for node in model.graph if node.op_type == "Conv"]
        for node, x, y in convolutions:  # as they were: a rewritten neighbour puts its own nodes in between
            if producer(node.inputs[1], "DequantizeLinear") is not None:  # another pass's integers
                continue
            weight = constant(node.inputs[1])
            known = x is not None and x.name in self.ranges and y.name in self.ranges
            if weight is None or node.name in self.skip or not known:
                kept += 1
                continue
            assert x is not None
            self._rewrite(model, node, x, dequantised)
            changed += 1
        return Outcome(
            changed, (f"{changed} convolutions are INT8 ({self.weight_bits}-bit weights), {kept} stay float",)
        )

    def _rewrite(self, model: ir.Model, node: ir.Node, x: ir.Value, dequantised: dict[str, ir.Value]) -> None:
        assert x.name is not None
        if x.name not in dequantised:
            scale, zero = self._activation(model, x.name)
            (q,) = insert_before(node, "QuantizeLinear", [x, scale, zero], name=f"{x.name}/q")
            (dequantised[x.name],) = insert_before(node, "DequantizeLinear", [q, scale, zero], name=f"{x.name}/dq")
        node.replace_input_with(0, dequantised[x.name])

        w, weight_scale = integer_weight(model, node, self.weight_bits)
        node.replace_input_with(1, w)
        bias = constant(node.inputs[2]) if len(node.inputs) > 2 else None
        if bias is not None:
            self._bias(model, node, bias, weight_scale * np.float32(self._scale_zero(x.name)[0]))

        y = node.outputs[0]
        assert y.name is not None
        scale, zero = self._activation(model, y.name)
        quantise = ir.node("QuantizeLinear", [y, scale, zero], name=f"{y.name}/q")
        restore = ir.node("DequantizeLinear", [quantise.outputs[0], scale, zero], name=f"{y.name}/dq")
        quantise.outputs[0].name, restore.outputs[0].name = f"{y.name}/q", f"{y.name}/dq"
        dequantised[y.name] = restore.outputs[0]
        replace(y, restore.outputs[0])
        quantise.replace_input_with(0, y)
        node.graph.insert_after(node, [quantise, restore])  # type: ignore[union-attr]

    def _bias(self, model: ir.Model, node: ir.Node, bias: np.ndarray, scale: np.ndarray) -> None:
        label = f"{node.inputs[2].name}:i32"  # type: ignore[union-attr]
        integers = np.clip(np.rint(bias.astype(np.float64) / scale), -(2**31), 2**31 - 1).astype(np.int32)
        values = [
            initializer(model, label, integers),
            initializer(model, f"{label}.scale", scale.astype(np.float32)),
            initializer(model, f"{label}.zero", np.zeros(len(bias), np.int32)),
        ]
        (b,) = insert_before(node, "DequantizeLinear", values, {"axis": 0}, name=f"{label}/dq")
        node.replace_input_with(2, b)

    def _activation(self, model: ir.Model, name: str) -> tuple[ir.Value, ir.Value]:
        return steps(model, name, *self._scale_zero(name))

    def _scale_zero(self, name: str) -> tuple[float, int]:
        return affine(*self.ranges[name])


def integer_weight(model: ir.Model, node: ir.Node, bits: int) -> tuple[ir.Value, np.ndarray]:
    """A convolution's constant weight as int8 behind a DequantizeLinear, and its scales."""
    weight, limit = constant(node.inputs[1]), 2 ** (bits - 1) - 1
    assert weight is not None
    scales = channel_scales(weight, limit)
    label = node.inputs[1].name  # type: ignore[union-attr]
    values = [
        initializer(model, f"{label}:i8", to_int8(weight, scales, limit)),
        initializer(model, f"{label}:i8.scale", scales),
        initializer(model, f"{label}:i8.zero", np.zeros(len(weight), np.int8)),
    ]
    return insert_before(node, "DequantizeLinear", values, {"axis": 0}, name=f"{label}:i8/dq")[0], scales


def steps(model: ir.Model, name: str, scale: float, zero: int) -> tuple[ir.Value, ir.Value]:
    """The scale and zero point of a tensor of uint8, as QuantizeLinear and DequantizeLinear take them."""
    return (
        initializer(model, f"{name}:scale", np.array(scale, np.float32)),
        initializer(model, f"{name}:zero", np.array(zero, np.uint8)),
    )


def affine(low: float, high: float) -> tuple[float, int]:
    """The scale and zero point with which uint8 covers [low, high]; zero itself is exact, as padding needs it."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = float(np.float32((high - low) / _LEVELS)) or 1.0
    return scale, min(max(round(-low / scale), 0), _LEVELS)


def channel_scales(weight: np.ndarray, limit: int) -> np.ndarray:
    """One float32 scale for each output channel of w [out, …], so that its largest value becomes ±limit."""
    peak = np.abs(weight.reshape(len(weight), -1)).max(axis=1)
    return (np.where(peak > 0, peak, 1) / limit).astype(np.float32)


def to_int8(weight: np.ndarray, scales: np.ndarray, limit: int) -> np.ndarray:
    """w [out, …] in steps of its channel's scale, within ±limit."""
    columns = scales.reshape(-1, *[1] * (weight.ndim - 1))
    return np.clip(np.rint(weight / columns), -limit, limit).astype(np.int8)
