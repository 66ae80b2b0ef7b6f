"""Residual sums between integer convolutions on integers, too, as QuantizeLinear / DequantizeLinear pairs.

A residual block reads x + c₁, x + c₁ + c₂, … and gives x + (c₁ + c₂ + …) (see `small_sums_first`), where each c is what
an integer convolution gave. Two kinds of sums become integers:

    what only further layers of the block read      x + c₁ → leaky ReLU → convolution
    what the block adds                             c₁ + c₂ + …

x itself, and the total, stay float: whatever is lost there reaches the sound undamped, while an error of one block's
own tensors is averaged over the blocks side by side. Leaky ReLUs of x then have integers before and behind them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import onnx_ir as ir

from gsvexport.passes.base import Outcome, constant, producer
from gsvexport.passes.quantise_conv import affine, steps


@dataclass(frozen=True)
class QuantiseSums:
    """What follows `quantise_conv`, with the same `ranges`; a sum without one stays float."""

    name: ClassVar[str] = "quantise-sums"
    version: ClassVar[int] = 1
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def apply(self, model: ir.Model) -> Outcome:
        """Change `model`; says how many sums are integers."""
        inner: set[ir.Node] = set()
        for node in reversed(list(model.graph)):
            if node.op_type == "Add" and self._fits(node) and _read_inside(node.outputs[0], inner):
                inner.add(node)
        small: set[ir.Node] = set()
        for node in model.graph:
            if node.op_type == "Add" and node not in inner and self._fits(node) and _of_integers(node, small):
                small.add(node)
        chosen = [node for node in model.graph if node in inner | small]
        for node in chosen:
            for value in dict.fromkeys(node.inputs):
                if value is not None and not _integer(value):
                    self._pair(model, value, [user for user in _users(value) if _reads(user, inner)])
            self._pair(model, node.outputs[0], _users(node.outputs[0]))
        return Outcome(len(chosen), (f"{len(chosen)} residual sums are INT8",) if chosen else ())

    def _fits(self, node: ir.Node) -> bool:
        """Whether one term at least is an integer, and everything else has a range."""
        floats = [value for value in (*node.inputs, *node.outputs) if value is not None and not _integer(value)]
        return any(_integer(value) for value in node.inputs) and all(value.name in self.ranges for value in floats)

    def _pair(self, model: ir.Model, value: ir.Value, readers: Collection[ir.Node]) -> None:
        """Let `readers` read `value` through a pair."""
        parts = steps(model, str(value.name), *affine(*self.ranges[str(value.name)]))
        quantise = ir.node("QuantizeLinear", [value, *parts], name=f"{value.name}/q")
        restore = ir.node("DequantizeLinear", [quantise.outputs[0], *parts], name=f"{value.name}/dq")
        quantise.outputs[0].name, restore.outputs[0].name = quantise.name, restore.name
        for reader in readers:
            for index, found in enumerate(reader.inputs):
                if found is value:
                    reader.replace_input_with(index, restore.outputs[0])
        before = value.producer()
        assert before is not None
        model.graph.insert_after(before, [quantise, restore])


def _users(value: ir.Value) -> list[ir.Node]:
    return list(dict.fromkeys(user for user, _ in value.uses()))


def _integer(value: ir.Value | None) -> bool:
    """Whether integers are what a value is made of."""
    node = producer(value, "DequantizeLinear")
    return node is not None and constant(node.inputs[0]) is None


def _reads(node: ir.Node, inner: Collection[ir.Node]) -> bool:
    """Whether a reader is one of these sums, or a leaky ReLU in front of integers."""
    leaky = node.op_type == "LeakyRelu" and [user.op_type for user in _users(node.outputs[0])] == ["QuantizeLinear"]
    return leaky or node in inner


def _read_inside(value: ir.Value, inner: Collection[ir.Node]) -> bool:
    return bool(value.uses()) and not value.is_graph_output() and all(_reads(user, inner) for user in _users(value))


def _of_integers(node: ir.Node, small: Collection[ir.Node]) -> bool:
    """Whether all terms are integers or sums of such, and not all of them sums: those of several blocks stay float."""
    direct = [_integer(value) for value in node.inputs]
    summed = [value is not None and value.producer() in small for value in node.inputs]
    return any(direct) and all(one or other for one, other in zip(direct, summed, strict=True))
