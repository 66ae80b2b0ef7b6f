"""Residual sums in the order that costs integers least: what is small is added up before it meets what is large.

A residual block gives ((x + c₁) + c₂) + c₃, and k of them are averaged. Every partial sum is as large as x, and so are
the steps of its integers. The same total is x + (c₁ + c₂ + … )/k, with one large sum. The partial sums that other
operators read stay as they are; only the total is summed anew. Exact but for the order of sums.
"""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from gsvexport.passes.base import Outcome, constant, initializer, insert_before, producer, replace

_ONE = 1e-6  # how close to 1 a factor is no factor: k · (1/k) in float32


@dataclass(frozen=True)
class SmallSumsFirst:
    """Rewrites sums of one value that others use too, any number of times, and of results of convolutions that nobody
    else uses; a product of the sum with a scalar is part of it.

    With `by_block` the small terms of a block are added up before those of different blocks are, else in one row.
    """

    name: ClassVar[str] = "small-sums-first"
    version: ClassVar[int] = 2
    by_block: bool = False

    def apply(self, model: ir.Model) -> Outcome:
        """Change `model`; says how many sums were rewritten."""
        common.RemoveUnusedNodesPass()(model)  # passes before this one may have left readers that nobody reads
        changed = 0
        for node in list(model.graph):
            if node.op_type != "Add" or any(user.op_type == "Add" for user, _ in node.outputs[0].uses()):
                continue
            terms = Counter(_terms(node.outputs[0]))
            small = [term for term in terms if _is_only_summed(term)]
            large = [term for term in terms if term not in small]
            if len(small) < 2 or len(large) != 1 or any(constant(term) is not None for term in terms):
                continue
            if any(terms[term] != 1 for term in small):
                continue
            _rewrite(model, node, large[0], terms[large[0]], small, self.by_block)
            changed += 1
        return Outcome(changed, (f"{changed} residual sums add small terms first",))


def _terms(value: ir.Value) -> list[ir.Value]:
    """What a sum is made of."""
    node = producer(value, "Add")
    if node is None:
        return [value]
    return [term for operand in node.inputs if operand is not None for term in _terms(operand)]


def _is_only_summed(value: ir.Value) -> bool:
    return producer(value, "Conv") is not None and [user.op_type for user, _ in value.uses()] == ["Add"]


def _rewrite(
    model: ir.Model, root: ir.Node, large: ir.Value, count: int, small: list[ir.Value], by_block: bool
) -> None:
    users = [user for user, _ in root.outputs[0].uses()]
    scaled = users[0] if len(users) == 1 and users[0].op_type == "Mul" else None
    scale = next((found for value in scaled.inputs if (found := constant(value)) is not None), None) if scaled else None
    last, factor = (scaled, float(scale.reshape(-1)[0])) if scale is not None and scale.size == 1 else (root, 1.0)
    assert last is not None
    names = (f"{root.name}/small{number}" for number in itertools.count())

    def add(one: ir.Value, other: ir.Value) -> ir.Value:
        return insert_before(last, "Add", [one, other], name=next(names))[0]

    total = _without(root.outputs[0], large, add) if by_block else functools.reduce(add, small)
    assert total is not None
    total = _times(model, last, total, factor, f"{root.name}/small")
    large = _times(model, last, large, count * factor, f"{root.name}/large")
    (result,) = insert_before(last, "Add", [large, total], name=f"{root.name}/both")
    replace(last.outputs[0], result)


def _without(value: ir.Value, large: ir.Value, add: Callable[[ir.Value, ir.Value], ir.Value]) -> ir.Value | None:
    """A sum without its large terms, added up in the order in which it was; None for nothing."""
    node = producer(value, "Add")
    if node is None:
        return None if value is large else value
    found = [part for one in node.inputs if one is not None and (part := _without(one, large, add)) is not None]
    return functools.reduce(add, found) if found else None


def _times(model: ir.Model, anchor: ir.Node, value: ir.Value, factor: float, name: str) -> ir.Value:
    if abs(factor - 1) < _ONE:
        return value
    scalar = initializer(model, f"scalar:float32:{factor}", np.array(factor, np.float32))
    return insert_before(anchor, "Mul", [value, scalar], name=f"{name}/scaled")[0]
