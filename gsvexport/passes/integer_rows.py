"""Products of many rows on integers: MatMul(x, W) → integers of each row of x times the stored integers of W.

A row of x is scaled by its own largest value m, a column of W by one scale c, which `MatMulNBits(columns=True)` stores:

    q = round(127·x / m),  m = max|x| of the row        x·W ≈ (W₈ qᵀ)ᵀ · c · m/127

A processor that multiplies bytes four at a time (VNNI, AMX) does that faster than `MatMulNBits`, which does one row
after another (docs/t2s.md has figures). For one row `MatMulNBits` is the one to take: all of it is reading.

The weights are the very bytes of the graph of one row, [N, K] with an offset of 128. That is the left side of a product
of unsigned with signed bytes, and a runtime makes no copy of a left side: nothing is stored or held twice. Sums are
integers, so no order of them and no number of threads changes a bit.

What comes turned, from such a product or from attention, is not turned back and again.

A processor that adds pairs of these products in 16 bits would saturate: no graph for it may use this pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from gsvexport.artifact.manifest import SAME_BYTES
from gsvexport.passes.base import Adder, Outcome, attribute, constant, initializer, producer, replace

DOMAIN = "com.microsoft"
_TURN = [0, 2, 1]
_TINY = 1e-20  # a row of zeros is not divided by zero


@dataclass(frozen=True)
class IntegerRows:
    """Rewrites every 8-bit MatMulNBits of whole blocks whose columns have one scale each."""

    name: ClassVar[str] = "integer-rows"
    version: ClassVar[int] = 1

    def apply(self, model: ir.Model) -> Outcome:
        """Change `model`; products of another form are left alone."""
        add = Adder(model, "rows")
        changed = sum(_rewrite(add, node) for node in list(model.graph) if node.op_type == "MatMulNBits")
        add.finish()
        return Outcome(changed, (f"{changed} products of many rows multiply integers",))


def _rewrite(add: Adder, node: ir.Node) -> bool:
    x, packed, scales = node.inputs[:3]
    blocks, bytes_ = constant(scales), constant(packed)
    assert blocks is not None
    assert bytes_ is not None
    depth, count = node.attributes["K"].as_int(), node.attributes["N"].as_int()
    if bytes_.size != depth * count or (blocks != blocks[:, :1]).any():
        return False
    weights = initializer(add.model, f"{packed.name}:rows", bytes_.reshape(count, depth))  # type: ignore[union-attr]
    weights.metadata_props[SAME_BYTES] = str(packed.name)  # type: ignore[union-attr]
    steps = add("Slice", scales, add.ints(0), add.ints(1), add.ints(1))  # [N, 1]
    # Not by QuantizeLinear with the rows' own scales, as in `dynamic_rows`: ONNX Runtime 1.32 puts the transposition in
    # front of it, and it then takes 50 times as long.
    turned = _turned(add, x)
    peaks = add("ReduceMax", add("Abs", x), axes=[-1]) if turned is None else add.column_peaks(turned, depth)
    largest = add("Max", peaks, add.scalar(_TINY))  # [1, S, 1], or [1, 1, S]
    scaled = add("Mul", x if turned is None else turned, add("Div", add.scalar(127.0), largest))
    signed = add("QuantizeLinear", scaled, add.scalar(1.0), add.scalar(0, np.int8))
    columns = add("Transpose", signed, perm=_TURN) if turned is None else signed  # [1, K, S]
    shares = add("Reshape", add("Mul", largest, add.scalar(1 / 127)), add.ints(-1))  # [S]
    left = (weights, columns, add.scalar(1.0), shares, add.scalar(128, np.uint8))
    product = add("MatMulIntegerToFloat", *left, domain=DOMAIN)  # [1, N, S]
    replace(node.outputs[0], add("Transpose", add("Mul", product, steps), perm=_TURN))
    return True


def _turned(add: Adder, x: ir.Value | None) -> ir.Value | None:
    """[1, K, S], where x [1, S, K] was turned from that last, or before a bias and a ReLU; None elsewhere."""
    relu = producer(x, "Relu")
    biased = producer(relu.inputs[0] if relu else x, "Add")
    bias, before = biased.inputs if biased else (None, x)
    if biased and constant(bias) is None:
        bias, before = before, bias
    turn = producer(before, "Transpose")
    if turn is None or list(attribute(turn, "perm", [])) != _TURN:
        return None
    turned = turn.inputs[0]
    if biased:
        vector = constant(bias)
        if vector is None or vector.ndim != 1:
            return None
        turned = add("Add", turned, initializer(add.model, f"{bias.name}:column", vector[:, None]))  # type: ignore[union-attr]
    return add("Relu", turned) if relu else turned
