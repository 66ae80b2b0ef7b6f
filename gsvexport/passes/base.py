"""What a pass is, and how a list of them is applied.

A pass is a frozen dataclass: its fields are its parameters, `name` and `version` identify it in plans and cache keys.
It gets a private copy of the graph to change and says what it did, or why it did not apply.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from gsvexport.errors import GsvError, PassError


@dataclass(frozen=True)
class Outcome:
    """What a pass did: how many places it changed, and notes for the plan and the report."""

    changes: int
    notes: tuple[str, ...] = ()


class GraphPass(Protocol):
    """One named graph transformation."""

    name: ClassVar[str]
    version: ClassVar[int]

    def apply(self, model: ir.Model) -> Outcome:
        """Change `model`, which nobody else holds."""
        ...


@dataclass(frozen=True)
class PassResult:
    """A transformed graph, and what each pass did to it, in order."""

    model: ir.Model
    applied: tuple[tuple[str, Outcome], ...]


def run_passes(model: ir.Model, passes: Sequence[GraphPass]) -> PassResult:
    """Apply `passes` in order to a copy of `model`; dead nodes and weights are removed at the end.

    Raises:
        PassError: a pass failed; the message names it and those before it.
    """
    model = model.clone()
    applied: list[tuple[str, Outcome]] = []
    for item in passes:
        try:
            applied.append((item.name, item.apply(model)))
        except GsvError:
            raise
        except Exception as error:
            done = ", ".join(name for name, _ in applied) or "none"
            raise PassError(
                f"pass {item.name} failed on stage {model.graph.name}: {error}",
                found=f"{type(error).__name__} after passes: {done}",
            ) from error
    common.RemoveUnusedNodesPass()(model)
    model.graph.sort()
    return PassResult(model, tuple(applied))


def describe(item: GraphPass) -> dict[str, Any]:
    """Name, version and parameters of a pass, for plans and cache keys."""
    return {"name": item.name, "version": item.version, **asdict(item)}  # type: ignore[call-overload]


# --- what passes need again and again -------------------------------------------------------------------------------


def constant(value: ir.Value | None) -> np.ndarray | None:
    """The array of an initializer; None for anything computed."""
    if value is None or value.const_value is None:
        return None
    return value.const_value.numpy()


def initializer(model: ir.Model, name: str, array: np.ndarray) -> ir.Value:
    """A new initializer, or the one that has this name already (a name stands for one content)."""
    known = model.graph.initializers.get(name)
    if known is not None:
        return known
    array = np.asarray(array, order="C")
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor)
    model.graph.register_initializer(value)
    return value


def insert_before(
    anchor: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    attributes: dict[str, Any] | None = None,
    *,
    name: str,
    domain: str = "",
    outputs: int = 1,
) -> list[ir.Value]:
    """Put a new node in front of `anchor`; its outputs are called after `name`."""
    node = ir.node(op_type, inputs, attributes or {}, domain=domain, num_outputs=outputs, name=name)
    for index, value in enumerate(node.outputs):
        value.name = name if outputs == 1 else f"{name}:{index}"
    assert anchor.graph is not None
    anchor.graph.insert_before(anchor, node)
    return list(node.outputs)


def attribute(node: ir.Node, name: str, default: Any = None) -> Any:
    """The value of an attribute as a plain Python value."""
    found = node.attributes.get(name)
    return default if found is None else found.value


def producer(value: ir.Value | None, op_type: str) -> ir.Node | None:
    """The node that computes `value`, if it is of this type."""
    node = None if value is None else value.producer()
    return node if node is not None and node.op_type == op_type and node.domain == "" else None


def replace(old: ir.Value, new: ir.Value) -> None:
    """Let everything that used `old` use `new`; an output of the graph hands its name and shape on too."""
    if old.is_graph_output():
        new.shape, new.type = old.shape, old.type
        old.name, new.name = f"{old.name}/replaced", old.name
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)


_PARTS = 16


class Adder:
    """Appends nodes, called after `place`; `finish` puts the graph's nodes in order."""

    def __init__(self, model: ir.Model, place: str) -> None:
        self.model, self._place, self._made = model, place, 0

    def __call__(self, op_type: str, *inputs: ir.Value | None, domain: str = "", **attributes: Any) -> ir.Value:
        """The result of a new node."""
        self._made += 1
        name = f"{self._place}/{op_type}_{self._made}"
        node = ir.node(op_type, list(inputs), attributes, domain=domain, name=name)
        node.outputs[0].name = name
        self.model.graph.append(node)
        return node.outputs[0]

    def ints(self, *values: int) -> ir.Value:
        """An int64 vector."""
        return initializer(self.model, f"ints:{','.join(map(str, values))}", np.array(values, np.int64))

    def scalar(self, value: float, dtype: type | None = None) -> ir.Value:
        """A number: int64 or float32 where no other type is asked for."""
        kind = np.dtype(dtype or (np.int64 if isinstance(value, int) else np.float32))
        return initializer(self.model, f"scalar:{kind}:{value}", np.array(value, kind))

    def one(self, rank: int = 0) -> ir.Value:
        """1 as int32, a scalar or a vector of one."""
        return initializer(self.model, f"one:int32:{rank}", np.ones([1] * rank, np.int32))

    def int32(self, count: ir.Value) -> ir.Value:
        """An int64 vector of one element as an int32 scalar."""
        return self("Squeeze", self("Cast", count, to=ir.DataType.INT32), self.ints(0))

    def column_peaks(self, x: ir.Value | None, depth: int) -> ir.Value:
        """max|x| of each column of x [1, depth, S], as [1, 1, S].

        In two steps where that goes: ONNX Runtime 1.32 then takes an eighth of the time for the same numbers.
        """
        positive = producer(x, "Relu") is not None
        size = x if positive else self("Abs", x)
        if depth % _PARTS or depth == _PARTS:
            return self("ReduceMax", size, axes=[1])
        parts = self("Reshape", size, self.ints(1, _PARTS, depth // _PARTS, -1))
        return self("ReduceMax", self("ReduceMax", parts, axes=[2], keepdims=0), axes=[1])

    def finish(self) -> None:
        """Bring the nodes into an order in which each follows what it reads."""
        self.model.graph.sort()
