"""`cfm` without what its steps have in common.

The steps of one sentence differ in `state`, `time` and `span`. So the graph also puts out, and takes back,

    known   [1, M, W]   what features and prompt add to the first layer: text blocks, and their part of the projection
    moment  [1, 1, n]   what depends on time and span alone: the modulation of all layers, one after the other

and computes either only where it is given none of it, that is, no rows: `known` [1, 0, W], `moment` [1, 0, n]. A step
that is given both computes neither; see `backends/onnxruntime/matching.py`. The lowered ports are `known` and `moment`
in, `new_known` and `new_moment` out.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from gsvexport.errors import PassError
from gsvexport.passes.base import Outcome, constant, initializer, insert_before, replace

KNOWN, MOMENT = "known", "moment"
SINGLE = ("time", "span")  # inputs of one row
_PER_SENTENCE = ("fea", "prompt_mel")
_FLOATS = ir.TensorType(ir.DataType.FLOAT)


@dataclass(frozen=True)
class Separate:
    """Cuts the product of [state, prompt_mel, text] in two: state's part, and the rest with the bias, so that the rest
    is a value of its own. Both parts are W's own rows: their sum is the product but for the order of summation.

    It comes before products are rewritten, `OnceASentence` after that.
    """

    name: ClassVar[str] = "separate-known"
    version: ClassVar[int] = 1

    def apply(self, model: ir.Model) -> Outcome:
        """Change `model`.

        Raises:
            PassError: the first layer is not a product of what state, prompt and text give together.
        """
        ports = {port.name: port for port in model.graph.inputs}
        swapped = _user(ports["state"], "Transpose")
        concat = swapped and _user(swapped.outputs[0], "Concat")
        product = concat and _user(concat.outputs[0], "MatMul")
        bias = product and _user(product.outputs[0], "Add")
        weight = constant(product.inputs[1]) if product else None
        if not (swapped and concat and product and bias) or weight is None:
            raise PassError(f"{self.name}: the first layer of {model.graph.name} has another form")
        bands, label = int(ports["state"].shape[1]), product.inputs[1].name  # type: ignore[index, arg-type, union-attr]
        (rest,) = insert_before(product, "Concat", concat.inputs[1:], {"axis": 2}, name=f"{concat.name}/known")
        both = [
            insert_before(product, "MatMul", [x, initializer(model, f"{label}:{what}", part)], name=name)[0]
            for x, what, part, name in (
                (rest, KNOWN, weight[bands:], f"{product.name}/known"),
                (swapped.outputs[0], "state", weight[:bands], f"{product.name}/state"),
            )
        ]
        (known,) = insert_before(bias, "Add", [both[0], bias.inputs[1]], name=f"{bias.name}/known")
        known.type, known.shape = _FLOATS, ir.Shape([1, "M", weight.shape[1]])
        (x,) = insert_before(bias, "Add", [known, both[1]], name=f"{bias.name}/both")
        replace(bias.outputs[0], x)
        sized = [user for user, _ in ports["state"].uses() if user.op_type == "Shape"]
        for node in sized:  # as many frames as features
            node.replace_input_with(0, ports["fea"])
        for node in _following(model.graph, SINGLE):
            for value in node.outputs:
                if _splits(value):
                    shift = constant(node.inputs[1])
                    assert shift is not None
                    value.type, value.shape = _FLOATS, ir.Shape([1, 1, shift.size])
        return Outcome(1, ("the part of prompt and features in the first layer is a product of its own",))


@dataclass(frozen=True)
class OnceASentence:
    """See the module."""

    name: ClassVar[str] = "once-a-sentence"
    version: ClassVar[int] = 1

    def apply(self, model: ir.Model) -> Outcome:
        """Change `model`.

        Raises:
            PassError: nothing here was made ready for it; see `Separate`.
        """
        graph = model.graph
        common.RemoveUnusedNodesPass()(model)  # what others left behind would count as a step's
        graph.sort()
        own = _following(graph, _PER_SENTENCE)
        known = _edge(graph, own)
        if len(known) != 1 or known[0].shape is None:
            raise PassError(f"{self.name}: {len(known)} values lead from features and prompt to the steps, not 1")
        sentence = _choose(model, KNOWN, known[0], own)
        own = _following(graph, SINGLE)
        layers = _edge(graph, own)
        if not layers or any(value.shape is None for value in layers):
            raise PassError(f"{self.name}: what depends on the time has another form")
        step = _choose(model, MOMENT, _joined(model, layers, own), own)
        notes = f"{sentence} operators run once a sentence, {step} once for each time, instead of in every step"
        return Outcome(sentence + step, (notes,))


def _choose(model: ir.Model, name: str, value: ir.Value, own: set[ir.Node]) -> int:
    """Let `value` [1, rows, n], which the nodes of `own` compute, be input `name` wherever that has rows."""
    graph = model.graph
    assert value.shape is not None
    rows, width = value.shape[1], value.shape[2]
    users = [(user, place) for user, place in value.uses() if user not in own]
    first = min((user for user, _ in users), key=list(graph).index)
    given = ir.Value(name=name, type=_FLOATS, shape=ir.Shape([1, f"{name}_rows", width]))
    graph.inputs.append(given)
    none = initializer(model, "int64:0", np.array([0], np.int64))
    (size,) = insert_before(first, "Shape", [given], {"start": 1, "end": 2}, name=f"{name}/rows")
    (absent,) = insert_before(first, "Equal", [size, none], name=f"{name}/absent")
    nodes = [node for node in graph if node in own]
    graph.remove(nodes)
    kept = ir.node("Identity", [given], name=f"{name}/given")
    kept.outputs[0].name = f"{name}/kept"
    for branch in (value, kept.outputs[0]):
        branch.type, branch.shape = _FLOATS, ir.Shape([1, None, width])
    branches = {
        "then_branch": ir.Graph([], [value], nodes=nodes, name=f"{name}/compute"),
        "else_branch": ir.Graph([], [kept.outputs[0]], nodes=[kept], name=f"{name}/take"),
    }
    attributes = [ir.AttrGraph(key, branch) for key, branch in branches.items()]
    chosen = ir.Node("", "If", [absent], attributes, num_outputs=1, name=f"{name}/once")
    result = chosen.outputs[0]
    result.name, result.type, result.shape = f"new_{name}", _FLOATS, ir.Shape([1, rows, width])
    graph.insert_before(first, chosen)
    for user, place in users:
        user.replace_input_with(place, result)
    graph.outputs.append(result)
    return len(nodes)


def _joined(model: ir.Model, layers: Sequence[ir.Value], own: set[ir.Node]) -> ir.Value:
    """Rows [1, 1, n] as one [1, 1, Σn], and in place of each its part of that."""
    users = [(value, [(user, place) for user, place in value.uses() if user not in own]) for value in layers]
    order = list(model.graph)
    first = min((user for _, uses in users for user, _ in uses), key=order.index)
    last = max((value.producer() for value in layers), key=lambda node: order.index(node))  # type: ignore[arg-type]
    anchor = first if order.index(first) > order.index(last) else order[order.index(last) + 1]  # type: ignore[arg-type]
    (joined,) = insert_before(anchor, "Concat", list(layers), {"axis": 2}, name=f"{MOMENT}/joined")
    own.add(joined.producer())  # type: ignore[arg-type]
    widths = [int(value.shape[2]) for value in layers]  # type: ignore[index, arg-type]
    joined.type, joined.shape = _FLOATS, ir.Shape([1, 1, sum(widths)])
    value = ir.AttrTensor("value", ir.tensor(np.array(widths, np.int64)))  # in the graph: its shapes hang on it
    constants = ir.Node("", "Constant", [], [value], name=f"{MOMENT}/sizes")
    constants.outputs[0].name = f"{MOMENT}/sizes"
    model.graph.insert_before(anchor, constants)
    sizes = constants.outputs[0]
    parts = insert_before(anchor, "Split", [joined, sizes], {"axis": 2}, name=f"{MOMENT}/parts", outputs=len(layers))
    for part, (_, uses) in zip(parts, users, strict=True):
        for user, place in uses:
            user.replace_input_with(place, part)
    return joined


def _following(graph: ir.Graph, inputs: Collection[str]) -> set[ir.Node]:
    """The nodes that need nothing but constants and these inputs, at least one of them; of one row, up to its parts."""
    values = {value for value in graph.inputs if value.name in inputs}
    found: set[ir.Node] = set()
    for node in graph:
        given = [value for value in node.inputs if value is not None and not _stored(value)]
        if given and all(value in values for value in given) and node.op_type != "Split":
            found.add(node)
            values.update(node.outputs)
    return found


def _stored(value: ir.Value) -> bool:
    """A weight, or one that is expanded from how it is stored."""
    if value.is_initializer():
        return True
    node = value.producer()
    return node is not None and bool(node.inputs) and all(one is not None and _stored(one) for one in node.inputs)


def _edge(graph: ir.Graph, own: set[ir.Node]) -> list[ir.Value]:
    """What other nodes use of what these compute, in order."""
    found: dict[ir.Value, None] = {}
    for node in graph:
        if node not in own:
            found.update(dict.fromkeys(v for v in node.inputs if v is not None and v.producer() in own))
    return list(found)


def _splits(value: ir.Value) -> bool:
    return any(user.op_type == "Split" for user, _ in value.uses())


def _user(value: ir.Value, op_type: str) -> ir.Node | None:
    return next((user for user, _ in value.uses() if user.op_type == op_type), None)
