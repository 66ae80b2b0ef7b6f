"""Products of many rows on 8-bit integers, with ranges that are taken when they run: for each row x of X and each
column w of W

    s = max|x| / 127    X_q = round(x / s)    t = max|w| / limit    W_q = round(w / t)    y ≈ (X_q·W_q)·t·s

A row is one frame, so what is loud in one does not coarsen another (Dettmers et al. 2022, vector-wise). Both sides are
symmetric; X_q is stored with 128 added, because kernels take unsigned by signed bytes. Products of one input share its
integers. What multiplies the columns of the result afterwards, a gate, goes into t.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from gsvexport.passes.base import Outcome, constant, initializer, insert_before, producer, replace

DOMAIN = "com.microsoft"
_ROW_LIMIT, _ZERO = 127, 128
_SMALLEST = 1e-30  # of a row's largest value: a row of zeros has no scale


@dataclass(frozen=True)
class DynamicRows:
    """Rewrites the MatMuls of `nodes` (names), whose second input is a constant [K, N].

    `weight_bits` is 8, or 7 for processors that add pairs of products in 16 bits.
    """

    name: ClassVar[str] = "dynamic-rows"
    version: ClassVar[int] = 1
    nodes: tuple[str, ...]
    weight_bits: int = 8

    def apply(self, model: ir.Model) -> Outcome:
        """Change `model`."""
        chosen, rows = set(self.nodes), dict[ir.Value, tuple[ir.Value, ir.Value]]()
        found = [node for node in model.graph if node.name in chosen and node.op_type == "MatMul"]
        for node in found:
            weight = constant(node.inputs[1])
            assert weight is not None
            assert node.inputs[0] is not None
            if node.inputs[0] not in rows:
                rows[node.inputs[0]] = _quantised(model, node, node.inputs[0])
            self._rewrite(model, node, weight, *rows[node.inputs[0]])
        common.RemoveUnusedNodesPass()(model)  # passes that follow would store the old weights, too
        model.graph.opset_imports[DOMAIN] = 1
        note = f"{len(found)} products are {self.weight_bits}-bit integers, with a range for each row as it comes"
        return Outcome(len(found), (note,))

    def _rewrite(self, model: ir.Model, node: ir.Node, weight: np.ndarray, x: ir.Value, scale: ir.Value) -> None:
        limit, label = 2 ** (self.weight_bits - 1) - 1, f"{node.inputs[1].name}:r{self.weight_bits}"  # type: ignore[union-attr]
        steps = np.abs(weight).max(axis=0) / np.float32(limit)
        steps[steps == 0] = 1
        q = initializer(model, label, np.clip(np.rint(weight / steps), -limit, limit).astype(np.int8))
        columns: ir.Value = initializer(model, f"{label}.scales", steps.astype(np.float32))
        zeros = initializer(model, f"{label}.zeros", np.zeros(weight.shape[1], np.int8))
        name, result, gated = str(node.name), node.outputs[0], _gate(node)
        bias = None
        if gated is not None:
            gate, added = gated
            flat = initializer(model, "int64:-1", np.array([-1], np.int64))
            (gate,) = insert_before(node, "Reshape", [gate, flat], name=f"{name}/gate")
            (columns,) = insert_before(node, "Mul", [columns, gate], name=f"{name}/gated")
            (bias,) = insert_before(node, "Mul", [added.inputs[1], gate], name=f"{name}/bias")
            result = next(iter(added.outputs[0].uses()))[0].outputs[0]
        one = initializer(model, "scalar:float32:1", np.array(1, np.float32))
        zero = initializer(model, f"scalar:uint8:{_ZERO}", np.array(_ZERO, np.uint8))
        feeds = [x, q, one, columns, zero, zeros]
        (y,) = insert_before(node, "MatMulIntegerToFloat", feeds, name=f"{name}/integer", domain=DOMAIN)
        (y,) = insert_before(node, "Mul", [y, scale], name=f"{name}/scaled")
        if bias is not None:
            (y,) = insert_before(node, "Add", [y, bias], name=f"{name}/biased")
        replace(result, y)


def _quantised(model: ir.Model, node: ir.Node, x: ir.Value) -> tuple[ir.Value, ir.Value]:
    """X [1, M, K] as uint8 around 128, and the scale [1, M, 1] of each row."""
    name, last = f"{x.name}/rows", {"axes": [-1], "keepdims": 1}
    (high,) = insert_before(node, "ReduceMax", [x], last, name=f"{name}/high")
    (low,) = insert_before(node, "ReduceMin", [x], last, name=f"{name}/low")
    (low,) = insert_before(node, "Neg", [low], name=f"{name}/depth")
    least = initializer(model, f"scalar:float32:{_SMALLEST}", np.array(_SMALLEST, np.float32))
    (peak,) = insert_before(node, "Max", [high, low, least], name=f"{name}/peak")
    factor = initializer(model, f"scalar:float32:1/{_ROW_LIMIT}", np.array(1 / _ROW_LIMIT, np.float32))
    (scale,) = insert_before(node, "Mul", [peak, factor], name=f"{name}/scale")
    flat = initializer(model, "int64:-1", np.array([-1], np.int64))
    (each,) = insert_before(node, "Reshape", [scale, flat], name=f"{name}/each")
    (count,) = insert_before(node, "Shape", [each], name=f"{name}/count")
    zero = initializer(model, f"uint8:{_ZERO}", np.array([_ZERO], np.uint8))
    (zeros,) = insert_before(node, "Expand", [zero, count], name=f"{name}/zeros")
    (q,) = insert_before(node, "QuantizeLinear", [x, each, zeros], {"axis": 1}, name=f"{name}/integers")
    return q, scale


def _gate(node: ir.Node) -> tuple[ir.Value, ir.Node] | None:
    """What multiplies the columns of a product after its bias, if nobody else uses the product, and the bias's node."""
    users = [user for user, _ in node.outputs[0].uses()]
    if len(users) != 1 or users[0].op_type != "Add" or constant(users[0].inputs[1]) is None:
        return None
    after = [user for user, _ in users[0].outputs[0].uses()]
    if len(after) != 1 or after[0].op_type != "Mul" or after[0].inputs[1] is not users[0].outputs[0]:
        return None
    split = producer(after[0].inputs[0], "Split")
    return (after[0].inputs[0], users[0]) if split is not None and after[0].inputs[0] is not None else None


def many_rows(model: ir.Model, single: Iterable[str]) -> list[ir.Node]:
    """The MatMuls with a constant 2-D weight, in order, that do more than one row: those that follow from more than the
    graph's inputs `single`, which make one."""
    alone = {value for value in model.graph.inputs if value.name in set(single)}
    found = []
    for node in model.graph:
        computed = [value for value in node.inputs if value is not None and not value.is_initializer()]
        if computed and all(value in alone for value in computed):
            alone.update(node.outputs)
        elif node.op_type == "MatMul":
            weight = constant(node.inputs[1])
            found += [node] if weight is not None and weight.ndim == 2 else []
    return found
