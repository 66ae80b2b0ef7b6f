"""Channels of one tensor brought to one size, so that the single scale of its integers serves them all.

What lies between two convolutions is positively homogeneous in each channel (sums, maxima, products with a scalar), so
a channel may be multiplied by d > 0 in every tensor that such operators tie together, where the convolutions that write
them multiply their rows by d and those that read them divide their columns (Nagel et al., "Data-Free Quantization
Through Weight Equalization and Bias Correction", 2019, with peaks from calibration instead of weights). Exact but for
rounding. Graph inputs, outputs, and what any other operator touches keep their size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from gsvexport.passes.base import Outcome, constant, initializer
from gsvexport.passes.polyphase import PHASES

_TIED = {"Add", "Sub", "Max", "Squeeze", "Unsqueeze", "Identity", "LeakyRelu", "Relu"}
_CHANNELS = 1
_LEAST = 1e-3  # of a tensor's largest channel: a channel below is not blown up further


@dataclass(frozen=True)
class EqualiseChannels:
    """`peaks` maps a tensor's name to the largest magnitude of each of its channels, float [C]."""

    name: ClassVar[str] = "equalise-channels"
    version: ClassVar[int] = 1
    peaks: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def apply(self, model: ir.Model) -> Outcome:
        """Change the weights and biases of `model`; says how many groups of tensors were equalised."""
        ties = _ties(model)
        sizes: dict[ir.Value, NDArray[np.float64]] = {}
        for value in ties.parent:
            found = self.peaks.get(str(value.name))
            root = ties.find(value)
            if found is not None and root not in ties.pinned:
                sizes[root] = np.maximum(sizes.get(root, np.zeros(1)), np.asarray(found, np.float64))
        factors = {root: _factors(peaks) for root, peaks in sizes.items()}
        for node in model.graph:
            if node.op_type == "Conv" and constant(node.inputs[1]) is not None:
                _rescale(model, node, ties, factors)
        return Outcome(len(factors), (f"the channels of {len(factors)} groups of tensors are equally large",))


class _Ties:
    """Which tensors must have the same factors: a union-find; those in `pinned` have none."""

    def __init__(self) -> None:
        self.parent: dict[ir.Value, ir.Value] = {}
        self._fixed: set[ir.Value] = set()

    def find(self, value: ir.Value) -> ir.Value:
        self.parent.setdefault(value, value)
        while self.parent[value] is not value:
            value = self.parent[value]
        return value

    def tie(self, one: ir.Value, other: ir.Value) -> None:
        self.parent[self.find(one)] = self.find(other)

    def pin(self, value: ir.Value) -> None:
        self._fixed.add(self.find(value))

    @property
    def pinned(self) -> set[ir.Value]:
        return {self.find(value) for value in self._fixed}


def _ties(model: ir.Model) -> _Ties:
    ties = _Ties()
    inside: set[ir.Node] = set()  # of the interleaving of phases
    for value in (*model.graph.inputs, *model.graph.outputs):
        ties.pin(value)
    for node in model.graph:
        values = [value for value in node.inputs if value is not None and constant(value) is None]
        if node in inside:
            continue
        if node.op_type == "Conv" and constant(node.inputs[1]) is not None and _one_group(node):
            chain = _interleaving(node)
            inside.update(chain)
            ties.find(chain[-1].outputs[0] if chain else node.outputs[0])
            for value in values:
                ties.find(value)
        elif node.op_type in _TIED and len(values) == len([v for v in node.inputs if _counts(v)]):
            for value in values:
                ties.tie(value, node.outputs[0])
        elif node.op_type == "Mul" and len(values) == 1 and _is_positive_scalar(node):
            ties.tie(values[0], node.outputs[0])
        else:
            for value in (*values, *node.outputs):
                ties.pin(value)
    return ties


def _counts(value: ir.Value | None) -> bool:
    """Whether an operand is data, and not the axes of a Squeeze."""
    array = constant(value)
    return value is not None and (array is None or bool(np.issubdtype(array.dtype, np.floating)))


def _is_positive_scalar(node: ir.Node) -> bool:
    found = [array for value in node.inputs if (array := constant(value)) is not None]
    return len(found) == 1 and found[0].size == 1 and float(found[0].reshape(-1)[0]) >= 0


def _one_group(node: ir.Node) -> bool:
    return "group" not in node.attributes or node.attributes["group"].as_int() == 1


def _interleaving(node: ir.Node) -> tuple[ir.Node, ...]:
    """The three nodes that interleave the phases of a polyphase convolution; nothing for another one."""
    if PHASES not in node.metadata_props:
        return ()
    found, value = [], node.outputs[0]
    for kind in ("Reshape", "Transpose", "Reshape"):
        users = [user for user, _ in value.uses()]
        if len(users) != 1 or users[0].op_type != kind:
            return ()
        found.append(users[0])
        value = users[0].outputs[0]
    return tuple(found)


def _factors(peaks: NDArray[np.float64]) -> NDArray[np.float64]:
    """d for each channel: all become as large as the largest one."""
    top = float(peaks.max()) or 1.0
    return top / np.maximum(peaks, _LEAST * top)


def _rescale(model: ir.Model, node: ir.Node, ties: _Ties, factors: Mapping[ir.Value, NDArray[np.float64]]) -> None:
    weight = constant(node.inputs[1])
    assert weight is not None
    chain = _interleaving(node)
    y = chain[-1].outputs[0] if chain else node.outputs[0]
    rows = factors.get(ties.find(y))
    if rows is not None and chain:
        rows = np.tile(rows, weight.shape[0] // rows.size)
    columns = factors.get(ties.find(node.inputs[0]))  # type: ignore[arg-type]
    if rows is None and columns is None:
        return
    scaled = weight.astype(np.float64)
    if rows is not None:
        scaled = scaled * rows.reshape(-1, *[1] * (weight.ndim - 1))
        bias = constant(node.inputs[2]) if len(node.inputs) > 2 else None
        if bias is not None:
            value = initializer(model, f"{node.name}:bias:equal", (bias * rows).astype(np.float32))
            node.replace_input_with(2, value)
    if columns is not None:
        scaled = scaled / columns.reshape(1, -1, *[1] * (weight.ndim - 2))
    node.replace_input_with(1, initializer(model, f"{node.name}:weight:equal", scaled.astype(np.float32)))
