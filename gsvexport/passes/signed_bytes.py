"""Products of unsigned with signed bytes, on a processor whose kernels for them overflow.

x86 without VNNI adds pairs of such products in 16 bits: 255·127 + 255·127 is 64770, and 32767 comes out. A graph that
is made for another processor says that it has them (`SignedBytes`). Where it is run on such a one nevertheless, to
judge it, it gets another form (`UnsignedBytes`), in which both sides are unsigned:

    w, zero  →  w + 128, zero + 128        (w + 128) - (zero + 128) = w - zero

The same integers, so the same result. Kernels for two unsigned sides add in 32 bits, and are slower.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir
from onnx_ir.traversal import RecursiveGraphIterator

from gsvexport.artifact.manifest import SIGNED
from gsvexport.passes.base import Outcome, constant, initializer, insert_before

_SHIFT = 128
# Operator → where its signed side is, and that side's zero point.
_SIDES = {"MatMulIntegerToFloat": (1, 5), "MatMulInteger": (1, 3), "QLinearConv": (3, 5)}


@dataclass(frozen=True)
class SignedBytes:
    """Has a graph say that it multiplies by signed bytes of 8 bits."""

    name: ClassVar[str] = "signed-bytes"
    version: ClassVar[int] = 1

    def apply(self, model: ir.Model) -> Outcome:
        """Set a property of `model`, where that is so."""
        found = len(_weights(model)) + len(_products(model))
        if found:
            model.metadata_props[SIGNED] = "8"
        return Outcome(found)


@dataclass(frozen=True)
class UnsignedBytes:
    """Rewrites every product of unsigned with signed bytes as one of unsigned bytes."""

    name: ClassVar[str] = "unsigned-bytes"
    version: ClassVar[int] = 1

    def apply(self, model: ir.Model) -> Outcome:
        """Change `model`; says how many products it has in another form."""
        found = [(node, *_SIDES[node.op_type]) for node in _products(model)]
        found += [(node, 0, 2) for node in _weights(model)]
        for node, side, zero in found:
            if len(node.inputs) <= zero:
                node.resize_inputs(zero + 1)
            node.replace_input_with(side, _unsigned(model, node, node.inputs[side]))
            given = node.inputs[zero]
            known = np.zeros((), np.int8) if given is None else constant(given)
            assert known is not None
            label = f"{given.name}:unsigned" if given is not None else f"uint8:{_SHIFT}"
            node.replace_input_with(zero, initializer(model, label, _shifted(known)))
        return Outcome(len(found))


def _products(model: ir.Model) -> list[ir.Node]:
    return [
        node
        for node in RecursiveGraphIterator(model.graph)
        if node.op_type in _SIDES and _signed(node.inputs[_SIDES[node.op_type][0]], node, _SIDES[node.op_type][1])
    ]


def _weights(model: ir.Model) -> list[ir.Node]:
    """The DequantizeLinear of signed weights of a convolution, which a runtime makes one with it."""
    return [
        node
        for node in RecursiveGraphIterator(model.graph)
        if node.op_type == "DequantizeLinear"
        and (weight := constant(node.inputs[0])) is not None
        and weight.dtype == np.int8
        and all(user.op_type == "Conv" and place == 1 for user, place in node.outputs[0].uses())
    ]


def _signed(value: ir.Value | None, node: ir.Node, zero: int) -> bool:
    """Whether a side is of signed bytes: by its constant, by its zero point, or by what computes it."""
    for one in (value, node.inputs[zero] if zero < len(node.inputs) else None):
        known = constant(one)
        if known is not None:
            return bool(known.dtype == np.int8)
    return _quantised(value) == np.int8


def _quantised(value: ir.Value | None) -> np.dtype | None:
    """The type of what a QuantizeLinear gave, through what only moves it."""
    node = None if value is None else value.producer()
    if node is None:
        return None
    if node.op_type == "QuantizeLinear":
        zero = constant(node.inputs[2]) if len(node.inputs) > 2 else None
        return np.dtype(np.uint8) if zero is None else zero.dtype
    return _quantised(node.inputs[0]) if node.op_type in ("Transpose", "Reshape", "Pad", "Concat", "Slice") else None


def _unsigned(model: ir.Model, node: ir.Node, value: ir.Value | None) -> ir.Value:
    assert value is not None
    known = constant(value)
    if known is not None:
        return initializer(model, f"{value.name}:unsigned", _shifted(known))
    name = f"{node.name}/unsigned"
    shift = initializer(model, f"scalar:int32:{_SHIFT}", np.array(_SHIFT, np.int32))
    (wide,) = insert_before(node, "Cast", [value], {"to": ir.DataType.INT32}, name=f"{name}/wide")
    (moved,) = insert_before(node, "Add", [wide, shift], name=f"{name}/moved")
    return insert_before(node, "Cast", [moved], {"to": ir.DataType.UINT8}, name=name)[0]


def _shifted(array: np.ndarray) -> np.ndarray:
    return (array.astype(np.int16) + _SHIFT).astype(np.uint8)
