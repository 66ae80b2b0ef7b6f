"""Integer convolutions with channels last, x [1, T, C], and everything between them: what kernels read without copying.

ONNX Runtime's integer kernels want the channels of one instant side by side, and put a transposition before and behind
each convolution that has them apart. Here the layout changes where integers begin and end, and nowhere between:

    conv(x_q)                      com.microsoft.QLinearConv with channels_last, on [1, T, C]
    leaky ReLUs of integers        one table of 256 values: com.microsoft.QLinearLeakyRelu
    sums of integers               com.microsoft.QLinearAdd
    other sums, products, leaky ReLUs   as they are: they do not care
    phases of a `polyphase` layer  [1, T, s·C] → [1, T·s, C], a Reshape without any copy

Exact: the same integers and the same float operations as in the form that it is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from gsvexport.passes.base import Outcome, attribute, constant, initializer, insert_before, producer, replace
from gsvexport.passes.polyphase import PHASES

DOMAIN = "com.microsoft"  # of ONNX Runtime's own operators
_CARRIED = {"Add", "Sub", "Mul", "LeakyRelu", "Relu", "Tanh", "QuantizeLinear", "DequantizeLinear"}
_DEFAULT_SLOPE = 0.01  # ONNX's own


@dataclass(frozen=True)
class ChannelsLast:
    """Rewrites what `quantise_conv` made of a graph in 2-D form (see `conv2d`): tensors [1, C, 1, T].

    Convolutions with `products_from` channels or more are to run as matrix products, which is faster where the
    processor has instructions for those (AMX). ONNX Runtime does so if the zero point of the weights is not 0: they
    have -1, and integers that are one less. None: no convolution.
    """

    name: ClassVar[str] = "channels-last"
    version: ClassVar[int] = 1
    products_from: int | None = None

    def apply(self, model: ir.Model) -> Outcome:
        """Change `model`; says how many convolutions have their channels last, and how often the layout changes."""
        common.RemoveUnusedNodesPass()(model)  # passes before this one may have left readers that nobody reads
        work = _Work(model, self.products_from)
        for node in list(model.graph):
            work.visit(node)
        changes = work.finish()
        if work.convolutions:
            model.graph.opset_imports[DOMAIN] = 1
        note = f"{work.convolutions} convolutions have their channels last; the layout changes {changes} times"
        return Outcome(work.convolutions, (note,) if work.convolutions else ())


class _Work:
    """`last` maps a value [1, C, 1, T] to its twin [1, T, C]."""

    def __init__(self, model: ir.Model, products_from: int | None) -> None:
        self._model, self._products_from = model, products_from
        self._done: set[ir.Node] = set()  # what was rewritten: it goes when nothing needs it
        self._entered: set[ir.Value] = set()  # values that were turned, and have their first form still
        self._wanted = _wanted(model)
        self.last: dict[ir.Value, ir.Value] = {}
        self.convolutions = 0

    def visit(self, node: ir.Node) -> None:
        if node in self._done:
            return
        if node.op_type == "Conv" and (parts := _integer(node)) is not None:
            self._convolution(node, *parts)
        elif node.op_type == "Conv" and (weight := _wide(node)) is not None:
            self._integer_product(node, weight)
        elif PHASES in node.metadata_props and _between_integers(node):
            self._product(node)
        elif (quantise := _between(node)) is not None and node.inputs[0] in self.last:
            self._table(node, quantise)
        elif (quantise := _sum(node)) is not None:
            self._sum(node, quantise)
        elif (phases := _interleaving(node)) is not None and node.inputs[0] in self.last:
            self._interleave(node, *phases)
        elif _takes_any_layout(node) and self._pays(node):
            self._carry(node)

    def finish(self) -> int:
        """Give what still needs [1, C, 1, T] its values; returns how often the layout changes."""
        left = 0
        for value, twin in self.last.items():
            if value in self._entered:
                continue
            users = [(user, index) for user, index in value.uses() if user not in self._done]
            if not users and not value.is_graph_output():
                continue
            anchor = twin.producer()
            assert anchor is not None
            turned = ir.node("Transpose", [twin], {"perm": [0, 2, 1]})
            back = ir.node("Unsqueeze", [turned.outputs[0], self._axes()])
            turned.outputs[0].name, back.outputs[0].name = f"{twin.name}/turned", f"{twin.name}/first"
            turned.name, back.name = turned.outputs[0].name, back.outputs[0].name
            self._model.graph.insert_after(anchor, [turned, back])
            for user, index in users:
                user.replace_input_with(index, back.outputs[0])
            if value.is_graph_output():
                replace(value, back.outputs[0])
            left += 1
        return left + len(self._entered)

    def _pays(self, node: ir.Node) -> bool:
        """Whether an operator belongs on this side: it is read here, or all that it joins is here anyway."""
        here = [value in self.last for value in _data(node)]
        joins = len(here) > 1 or node.op_type == "DequantizeLinear"
        return any(here) if node.outputs[0] in self._wanted else joins and all(here)

    def _convolution(self, node: ir.Node, x: ir.Node, weight: ir.Node, quantise: ir.Node) -> None:
        bias = None if len(node.inputs) < 3 else producer(node.inputs[2], "DequantizeLinear")
        w = constant(weight.inputs[0])
        assert w is not None
        label = str(weight.inputs[0].name)  # type: ignore[union-attr]
        inputs = [
            self._twin(x.inputs[0], node),
            *x.inputs[1:3],
            *self._weight(weight, w[:, :, 0, :], label),
            *quantise.inputs[1:3],
            bias.inputs[0] if bias is not None else None,
        ]
        begin, end = attribute(node, "pads", [0, 0, 0, 0])[1::2]
        attributes = {
            "channels_last": 1,
            "kernel_shape": [w.shape[3]],
            "pads": [begin, end],
            "strides": list(attribute(node, "strides", [1, 1]))[1:],
            "dilations": list(attribute(node, "dilations", [1, 1]))[1:],
        }
        inputs = inputs if bias is not None else inputs[:-1]
        (y,) = insert_before(node, "QLinearConv", inputs, attributes, name=f"{node.name}/last", domain=DOMAIN)
        self.last[quantise.outputs[0]] = y
        self._done |= {node, quantise}
        self.convolutions += 1

    def _weight(self, weight: ir.Node, w: np.ndarray, label: str) -> list[ir.Value | None]:
        """A weight [O, I, k] with its scales and zero points."""
        scale, zero = weight.inputs[1:3]
        product = self._products_from is not None and w.shape[1] >= self._products_from
        if not product or np.any(constant(zero)) or w.min() == np.iinfo(np.int8).min:
            return [initializer(self._model, f"{label}:1d", w), scale, zero]
        shifted = initializer(self._model, f"{label}:1d:shifted", w - np.int8(1))
        return [shifted, scale, initializer(self._model, f"{label}.shift", np.full(len(w), -1, np.int8))]

    def _product(self, node: ir.Node) -> None:
        """A float convolution as one product: y[t] = Σ_o x[t + o]·w_o is [x[t - b], …, x[t + e]] times all w."""
        weight = constant(node.inputs[1])
        assert weight is not None
        taps = self._taps(node, self._twin(node.inputs[0], node), weight)
        label = f"{node.inputs[1].name}:product"  # type: ignore[union-attr]
        name, matrix = f"{node.name}/last", initializer(self._model, label, _matrix(weight))
        (y,) = insert_before(node, "MatMul", [taps, matrix], name=name)
        if len(node.inputs) > 2:
            (y,) = insert_before(node, "Add", [y, node.inputs[2]], name=f"{node.name}/biased")
        self.last[node.outputs[0]] = y
        self._done.add(node)

    def _integer_product(self, node: ir.Node, weight: ir.Node) -> None:
        """The same of integers, with a float result."""
        x, w = producer(node.inputs[0], "DequantizeLinear"), constant(weight.inputs[0])
        assert x is not None
        assert w is not None
        zero = constant(x.inputs[2])
        taps = self._taps(node, self._twin(x.inputs[0], node), w, zero)
        label = f"{weight.inputs[0].name}:product"  # type: ignore[union-attr]
        matrix = initializer(self._model, label, _matrix(w))
        inputs = [taps, matrix, x.inputs[1], weight.inputs[1], x.inputs[2], None, *node.inputs[2:]]
        (y,) = insert_before(node, "MatMulIntegerToFloat", inputs, name=f"{node.name}/last", domain=DOMAIN)
        self.last[node.outputs[0]] = y
        self._done.add(node)
        self.convolutions += 1

    def _taps(self, node: ir.Node, x: ir.Value, weight: np.ndarray, zero: np.ndarray | None = None) -> ir.Value:
        """[x[t - b], …, x[t + e]] as [1, T, taps·C]; `zero` is what lies outside."""
        begin, count = attribute(node, "pads", [0, 0, 0, 0])[1], weight.shape[3]
        shifted = [self._shifted(x, o - begin, node, f"{node.name}/tap{o}", zero) for o in range(count)]
        return (
            shifted[0]
            if count == 1
            else insert_before(node, "Concat", shifted, {"axis": 2}, name=f"{node.name}/taps")[0]
        )

    def _shifted(self, x: ir.Value, offset: int, anchor: ir.Node, name: str, zero: np.ndarray | None) -> ir.Value:
        """x[t + offset]."""
        if offset == 0:
            return x
        pads = [0, -offset, 0, 0, offset, 0]  # a negative one takes away
        value = initializer(self._model, f"int64:{','.join(map(str, pads))}", np.array(pads, np.int64))
        fill = [] if zero is None else [initializer(self._model, f"scalar:{zero.dtype}:{zero}", zero)]
        return insert_before(anchor, "Pad", [x, value, *fill], name=name)[0]

    def _table(self, leaky: ir.Node, quantise: ir.Node) -> None:
        """DequantizeLinear → `leaky` → `quantise` on integers."""
        before = producer(leaky.inputs[0], "DequantizeLinear")
        assert before is not None
        inputs = [self.last[before.inputs[0]], *before.inputs[1:3], *quantise.inputs[1:3]]  # type: ignore[index]
        slope = {"alpha": float(attribute(leaky, "alpha", _DEFAULT_SLOPE))}
        (y,) = insert_before(leaky, "QLinearLeakyRelu", inputs, slope, name=f"{leaky.name}/last", domain=DOMAIN)
        self.last[quantise.outputs[0]] = y
        self._done |= {leaky, quantise}

    def _sum(self, node: ir.Node, quantise: ir.Node) -> None:
        """The sum of two DequantizeLinears → `quantise` on integers."""
        inputs: list[ir.Value | None] = []
        for value in node.inputs:
            before = producer(value, "DequantizeLinear")
            assert before is not None
            inputs += [self._twin(before.inputs[0], node), *before.inputs[1:3]]
        inputs += quantise.inputs[1:3]
        (y,) = insert_before(node, "QLinearAdd", inputs, name=f"{node.name}/last", domain=DOMAIN)
        self.last[quantise.outputs[0]] = y
        self._done |= {node, quantise}

    def _interleave(self, node: ir.Node, channels: int, end: ir.Node) -> None:
        shape = initializer(self._model, f"int64:1,-1,{channels}", np.array([1, -1, channels], np.int64))
        inputs = [self.last[node.inputs[0]], shape]  # type: ignore[index]
        (self.last[end.outputs[0]],) = insert_before(node, "Reshape", inputs, name=f"{node.name}/last")
        self._done |= {node, end}

    def _carry(self, node: ir.Node) -> None:
        inputs = [value if constant(value) is not None else self._twin(value, node) for value in node.inputs]
        attributes = {name: found for name, found in node.attributes.items() if name != "axis"}
        copy = ir.node(node.op_type, inputs, name=f"{node.name}/last")
        copy.attributes.update(attributes)
        copy.outputs[0].name = copy.name
        self._model.graph.insert_before(node, copy)
        self.last[node.outputs[0]] = copy.outputs[0]
        self._done.add(node)

    def _twin(self, value: ir.Value | None, anchor: ir.Node) -> ir.Value:
        assert value is not None
        if value not in self.last:
            (flat,) = insert_before(anchor, "Squeeze", [value, self._axes()], name=f"{value.name}/flat")
            turn = {"perm": [0, 2, 1]}
            (self.last[value],) = insert_before(anchor, "Transpose", [flat], turn, name=f"{value.name}/last")
            self._entered.add(value)
        return self.last[value]

    def _axes(self) -> ir.Value:
        return initializer(self._model, "int64:2", np.array([2], np.int64))


def _wanted(model: ir.Model) -> set[ir.Value]:
    """What is read with channels last, directly or through operators that take any layout."""
    found: set[ir.Value] = set()
    for node in reversed(list(model.graph)):
        if node.op_type == "Conv":
            here = _integer(node) or _wide(node) or (PHASES in node.metadata_props and _between_integers(node))
            found |= set(_data(node)[:1]) if here else set()
        elif _takes_any_layout(node) and node.outputs[0] in found:
            found |= set(_data(node))
    return found


def _data(node: ir.Node) -> list[ir.Value]:
    """What an operator is given that is computed."""
    return [value for value in node.inputs if value is not None and constant(value) is None]


def _takes_any_layout(node: ir.Node) -> bool:
    """Whether an operator does the same to every element: its constants are scalars."""
    scalars = all(found.size == 1 for value in node.inputs if (found := constant(value)) is not None)
    ranks = {value.shape.rank() for value in _data(node) if value.shape is not None}
    return ranks <= {4} and node.op_type in _CARRIED and not node.domain and scalars


def _integer(node: ir.Node) -> tuple[ir.Node, ir.Node, ir.Node] | None:
    """What stands around a convolution that runs on integers, one spatial axis long: the DequantizeLinear of its input
    and of its weight, and the QuantizeLinear of its output."""
    x, weight = (producer(value, "DequantizeLinear") for value in node.inputs[:2])
    users = [user for user, _ in node.outputs[0].uses()]
    w = None if weight is None else constant(weight.inputs[0])
    if x is None or weight is None or w is None or [user.op_type for user in users] != ["QuantizeLinear"]:
        return None
    bias = producer(node.inputs[2], "DequantizeLinear") if len(node.inputs) > 2 else None
    if len(node.inputs) > 2 and (bias is None or constant(bias.inputs[0]) is None):
        return None
    return (x, weight, users[0]) if _is_row(node, w) else None


def _wide(node: ir.Node) -> ir.Node | None:
    """The DequantizeLinear of the weight of a convolution that reads integers and gives float."""
    x, weight = (producer(value, "DequantizeLinear") for value in node.inputs[:2])
    w = None if weight is None else constant(weight.inputs[0])
    if x is None or w is None or constant(x.inputs[0]) is not None or not _is_row(node, w):
        return None
    return weight if set(attribute(node, "dilations", [1])) == set(attribute(node, "strides", [1])) == {1} else None


def _is_row(node: ir.Node, weight: np.ndarray) -> bool:
    """Whether a convolution has one group and one axis that is longer than 1."""
    flat = weight.ndim == 4 and weight.shape[2] == 1 and not any(attribute(node, "pads", [0, 0, 0, 0])[::2])
    return flat and attribute(node, "group", 1) == 1


def _matrix(weight: np.ndarray) -> np.ndarray:
    """w [O, I, 1, taps] → [taps·I, O]."""
    return np.concatenate([weight[:, :, 0, o].T for o in range(weight.shape[3])])


def _between_integers(node: ir.Node) -> bool:
    """Whether a float convolution gives what integer ones read, through anything but convolutions."""
    seen, ahead = set(), [node]
    while ahead:
        for user, _ in ahead.pop().outputs[0].uses():
            if user.op_type == "Conv" and _integer(user) is not None:
                return True
            if user.op_type != "Conv" and user not in seen and user.outputs:
                seen.add(user)
                ahead.append(user)
    return False


def _between(node: ir.Node) -> ir.Node | None:
    """The QuantizeLinear behind a leaky ReLU of integers, if nothing else reads that."""
    users = [user for user, _ in node.outputs[0].uses()]
    integers = node.op_type == "LeakyRelu" and producer(node.inputs[0], "DequantizeLinear") is not None
    return users[0] if integers and [user.op_type for user in users] == ["QuantizeLinear"] else None


def _sum(node: ir.Node) -> ir.Node | None:
    """The QuantizeLinear behind a sum of integers, if nothing else reads that."""
    users = [user for user, _ in node.outputs[0].uses()]
    terms = [producer(value, "DequantizeLinear") for value in node.inputs]
    integers = node.op_type == "Add" and all(one is not None and constant(one.inputs[0]) is None for one in terms)
    return users[0] if integers and [user.op_type for user in users] == ["QuantizeLinear"] else None


def _interleaving(node: ir.Node) -> tuple[int, ir.Node] | None:
    """The number of channels and the last node, where `node` is the first of the three that interleave phases."""
    nodes = [node]
    for kind in ("Transpose", "Reshape"):
        users = [user for user, _ in nodes[-1].outputs[0].uses()]
        if [user.op_type for user in users] != [kind]:
            return None
        nodes += users
    split, join = (constant(one.inputs[1]) if one.op_type == "Reshape" else None for one in (nodes[0], nodes[2]))
    if split is None or join is None or list(attribute(nodes[1], "perm", [])) != [0, 2, 3, 1]:
        return None
    one, _, channels, rest = split.tolist() if split.size == 4 else [0] * 4
    found = (one, rest) == (1, -1) and join.tolist() == [1, channels, 1, -1]
    return (channels, nodes[2]) if found else None
