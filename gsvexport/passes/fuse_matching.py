"""The parts of a flow-matching transformer (stage `cfm`) as one operator each. Equal but for the order of sums.

    Softmax(q kᵀ) v, heads split before and merged after    → MultiHeadAttention(q, k, v)
    the first channels turned by their position             → RotaryEmbedding, all heads seen as one
    norm(x)·ones·(1 + scale) + shift                        → LayerNormalization(x, 1 + scale, shift)
    y/2·(1 + tanh(√(2/π)·(y + 0.044715·y³)))                → FastGelu(y)

Queries arrive scaled, so the attention scales by 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from gsvexport.errors import PassError
from gsvexport.passes.base import Outcome, attribute, constant, initializer, insert_before, producer, replace

DOMAIN = "com.microsoft"


@dataclass(frozen=True)
class FuseMatching:
    """See the module."""

    name: ClassVar[str] = "fuse-matching"
    version: ClassVar[int] = 1

    def apply(self, model: ir.Model) -> Outcome:
        """Change `model`.

        Raises:
            PassError: a softmax that is not the middle of an attention.
        """
        nodes = list(model.graph)
        attentions = [node for node in nodes if node.op_type == "Softmax"]
        for node in attentions:
            self._attention(node)
        turns = sum(_turned(model, node) for node in nodes if node.op_type == "Concat")
        norms = sum(_modulated(model, node) for node in nodes if node.op_type == "LayerNormalization")
        gelus = sum(_gelu(node) for node in nodes if node.op_type == "Tanh")
        model.graph.opset_imports[DOMAIN] = 1
        counts = f"{len(attentions)} attentions, {turns} rotations, {norms} modulated norms, {gelus} GELUs"
        return Outcome(len(attentions) + turns + norms + gelus, (f"{counts} are one operator each",))

    def _attention(self, softmax: ir.Node) -> None:
        product = producer(softmax.inputs[0], "MatMul")
        weighted = _only_user(softmax.outputs[0], "MatMul")
        transpose = weighted and _only_user(weighted.outputs[0], "Transpose")
        merged = transpose and _only_user(transpose.outputs[0], "Reshape")
        keys = product and producer(product.inputs[1], "Transpose")
        if not (product and keys and weighted and merged):
            raise PassError(f"{self.name}: {softmax.name} is not the middle of an attention")
        sides = [_before_heads(value) for value in (product.inputs[0], keys.inputs[0], weighted.inputs[1])]
        shape = constant(sides[0].inputs[1]) if sides[0] else None
        if shape is None or any(side is None for side in sides):
            raise PassError(f"{self.name}: {softmax.name}: queries, keys or values are not split into heads")
        (mixed,) = insert_before(
            softmax,
            "MultiHeadAttention",
            [side.inputs[0] for side in sides if side],
            {"num_heads": int(shape[2]), "scale": 1.0},
            name=f"{softmax.name}/attention",
            domain=DOMAIN,
        )
        replace(merged.outputs[0], mixed)


def _only_user(value: ir.Value, op_type: str) -> ir.Node | None:
    users = [user for user, _ in value.uses()]
    return users[0] if len(users) == 1 and users[0].op_type == op_type else None


def _before_heads(value: ir.Value | None) -> ir.Node | None:
    """The Reshape that, with a Transpose, has split heads: [1, T, D] → [1, T, heads, D / heads]."""
    transpose = producer(value, "Transpose")
    return producer(transpose.inputs[0], "Reshape") if transpose else None


def _turned(model: ir.Model, concat: ir.Node) -> bool:
    """(a·cos - b·sin, b·cos + a·sin, rest): one RotaryEmbedding of a single head as wide as all."""
    first = producer(concat.inputs[0], "Sub")
    product = first and producer(first.inputs[0], "Mul")
    other = first and producer(first.inputs[1], "Mul")
    split = product and producer(product.inputs[0], "Split")
    if not (product and other and split) or producer(other.inputs[0], "Split") is not split:
        return False
    rows = (producer(product.inputs[1], "Slice"), producer(other.inputs[1], "Slice"))
    tables = [constant(one.inputs[0]) if one else None for one in rows]
    if tables[0] is None or tables[1] is None:
        return False
    caches = [
        initializer(model, f"{row.inputs[0].name}:cache", table[0])  # type: ignore[union-attr]
        for row, table in zip(rows, tables, strict=True)
        if table is not None
    ]
    start = initializer(model, "int64:0", np.array([0], np.int64))
    (y,) = insert_before(
        concat,
        "RotaryEmbedding",
        [split.inputs[0], start, *caches],
        {"num_heads": 1, "rotary_embedding_dim": 2 * tables[0].shape[2], "interleaved": 0},
        name=f"{concat.name}/rotary",
        domain=DOMAIN,
    )
    replace(concat.outputs[0], y)
    return True


def _modulated(model: ir.Model, norm: ir.Node) -> bool:
    """A norm by ones, then factors and summands that are the same for all rows."""
    ones = constant(norm.inputs[1])
    scaled = _only_user(norm.outputs[0], "Mul")
    shifted = scaled and _only_user(scaled.outputs[0], "Add")
    if ones is None or not np.all(ones == 1) or len(norm.inputs) > 2 or not (scaled and shifted):
        return False
    if scaled.inputs[0] is not norm.outputs[0] or shifted.inputs[0] is not scaled.outputs[0]:
        return False
    flat = initializer(model, "int64:-1", np.array([-1], np.int64))
    parts = [
        insert_before(norm, "Reshape", [value, flat], name=f"{norm.name}/{what}")[0]
        for what, value in (("scale", scaled.inputs[1]), ("shift", shifted.inputs[1]))
    ]
    (y,) = insert_before(
        norm,
        "LayerNormalization",
        [norm.inputs[0], *parts],
        {"axis": attribute(norm, "axis", -1), "epsilon": attribute(norm, "epsilon", 1e-5)},
        name=f"{norm.name}/modulated",
    )
    replace(shifted.outputs[0], y)
    return True


def _gelu(tanh: ir.Node) -> bool:
    """The tanh form of GELU, by its constants."""
    inner = producer(tanh.inputs[0], "Mul")
    cubic = inner and producer(inner.inputs[0], "Add")
    plus = _only_user(tanh.outputs[0], "Add")
    half = plus and _only_user(plus.outputs[0], "Mul")
    last = half and _only_user(half.outputs[0], "Mul")
    if not (inner and cubic and last) or last.inputs[0] is not cubic.inputs[0]:
        return False
    factor = constant(inner.inputs[1])
    if factor is None or abs(float(factor) - np.sqrt(2 / np.pi)) > 1e-6:
        return False
    (y,) = insert_before(tanh, "FastGelu", [cubic.inputs[0]], name=f"{tanh.name}/gelu", domain=DOMAIN)
    replace(last.outputs[0], y)
    return True
