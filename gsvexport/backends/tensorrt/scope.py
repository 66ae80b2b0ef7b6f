"""What a rule looks at: a graph (`Scope`), a node of it (`Site`); and what it yields (`Hit`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx_ir.traversal import RecursiveGraphIterator

# As TensorRT calls them; a type that is absent here keeps ONNX's name and is in no list of the table.
_NAMES = {
    ir.DataType.FLOAT: "FP32",
    ir.DataType.FLOAT16: "FP16",
    ir.DataType.BFLOAT16: "BF16",
    ir.DataType.FLOAT8E4M3FN: "FP8",
    ir.DataType.FLOAT4E2M1: "FP4",
}


@dataclass(frozen=True)
class Hit:
    """What breaks a rule: what was found and what is allowed. `unsure`: the graph does not tell, so it may be well."""

    text: str
    unsure: bool = False


Hits = Iterator[Hit]


@dataclass(frozen=True)
class Scope:
    """The graph that is judged, annotated, for one version; `functions` are those that the model defines itself."""

    model: ir.Model
    functions: tuple[str, ...]
    native_int64: bool

    @property
    def opset(self) -> int:
        """Version of the standard operators."""
        return self.model.opset_imports.get("", self.model.opset_imports.get("ai.onnx", 1))

    def nodes(self) -> Iterator[ir.Node]:
        """Every node, those of branches and loop bodies included."""
        return iter(RecursiveGraphIterator(self.model.graph))

    def ports(self) -> Iterator[tuple[str, ir.Value]]:
        """The graph's inputs and outputs, with the word for them. An initializer among the inputs is no port."""
        graph = self.model.graph
        yield from (("input", value) for value in graph.inputs if value.name not in graph.initializers)
        yield from (("output", value) for value in graph.outputs)

    def constants(self) -> Iterator[ir.Value]:
        """Every initializer."""
        for graph in self.model.graphs():
            yield from graph.initializers.values()

    def values(self) -> Iterator[ir.Value]:
        """Every port, initializer and result of a node, once."""
        known = {id(value): value for _, value in self.ports()}
        known |= {id(value): value for value in self.constants()}
        known |= {id(value): value for node in self.nodes() for value in node.outputs if value.name}
        return iter(known.values())


@dataclass(frozen=True)
class Site:
    """The node that is judged."""

    node: ir.Node
    scope: Scope

    def input(self, index: int) -> ir.Value | None:
        """An input; None when it is absent."""
        return self.node.inputs[index] if index < len(self.node.inputs) else None

    def inputs(self, indices: Sequence[int] | str) -> list[tuple[str, ir.Value]]:
        """Those that are present, with what to call them; "all" for each one there is."""
        return _present("input", self.node.inputs, indices)

    def outputs(self, indices: Sequence[int] | str) -> list[tuple[str, ir.Value]]:
        """The same for outputs."""
        return _present("output", [value if value.name else None for value in self.node.outputs], indices)

    def dtype(self, value: ir.Value) -> str | None:
        """The element type as that version sees it, in TensorRT's name; None when unknown."""
        name = dtype_name(value)
        if name == "INT64" and not self.scope.native_int64:
            return "INT32"
        return "FP32" if name == "DOUBLE" else name

    def constant(self, value: ir.Value) -> np.ndarray | None:
        """The array of an initializer or of a Constant."""
        try:
            tensor = ir.convenience.get_const_tensor(value)
        except ValueError:  # a Constant of a kind that has no dense array
            return None
        return None if tensor is None else tensor.numpy()


def dtype_name(value: ir.Value) -> str | None:
    """The element type as TensorRT calls it; None when unknown."""
    return None if value.dtype is None else _NAMES.get(value.dtype, value.dtype.name)


def _present(word: str, values: Sequence[ir.Value | None], indices: Sequence[int] | str) -> list[tuple[str, ir.Value]]:
    wanted = range(len(values)) if isinstance(indices, str) else indices
    return [(called(word, index, value), value) for index in wanted if index < len(values) and (value := values[index])]


def called(word: str, index: int, value: ir.Value | None) -> str:
    """What to call the input or output at an index."""
    return f"{word} {index} '{value.name}'" if value is not None else f"{word} {index}"
