"""Writing a stage as an ONNX graph: nodes by operator name, weights by name, all named and ordered by construction.

Only operators of the standard domain are used, at an opset that every backend reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from gsvexport.errors import PassError
from gsvexport.stages import Stage

OPSET = 17  # LayerNormalization came with 17; TensorRT 8.5 reads nothing newer in full
IR_VERSION = 8


class Weights:
    """The float32 arrays that the graphs of one voice refer to, each stored once however many stages ask for it."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}

    def add(self, name: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        """The array called `name`; `make` computes it the first time."""
        if name not in self.arrays:
            self.arrays[name] = np.ascontiguousarray(make(), dtype=np.float32)
        return self.arrays[name]


class GraphBuilder:
    """Builds one stage. `g.MatMul(a, b)` appends a node and returns its output; several outputs come as a tuple.

    Attributes are keyword arguments in ONNX's own spelling; `outputs=n` asks for n results.
    """

    def __init__(self, stage: Stage, weights: Weights) -> None:
        self.stage, self._weights = stage, weights
        self.inputs = {
            port.name: ir.Value(
                name=port.name, type=ir.TensorType(_DTYPES[port.dtype]), shape=ir.Shape(list(port.shape))
            )
            for port in stage.inputs
        }
        self._nodes: list[ir.Node] = []
        self._initializers: dict[str, ir.Value] = {}
        self._scope: list[str] = []
        self._counts: dict[str, int] = {}

    def __getattr__(self, op_type: str) -> Callable[..., Any]:
        if not op_type[0].isupper():
            raise AttributeError(op_type)
        return lambda *inputs, **attributes: self._append(op_type, inputs, attributes)

    def scope(self, name: str) -> _Scope:
        """A `with` block that puts `name` in front of the names of nodes made inside it."""
        return _Scope(self._scope, name)

    def weight(self, name: str, make: Callable[[], np.ndarray]) -> ir.Value:
        """A float32 weight of the voice, stored in the shared weights file."""
        return self._initializer(name, self._weights.add(name, make))

    def ints(self, *values: int) -> ir.Value:
        """An int64 vector that is part of the graph itself (a shape, an axis, an index)."""
        return self._initializer("int64:" + ",".join(map(str, values)), np.array(values, np.int64))

    def scalar(self, value: float | int) -> ir.Value:
        """A 0-dimensional constant: int64 for an int, float32 for a float."""
        dtype = np.int64 if isinstance(value, int) else np.float32
        return self._initializer(f"scalar:{np.dtype(dtype)}:{value}", np.array(value, dtype))

    def model(self, outputs: Mapping[str, ir.Value]) -> ir.Model:
        """The finished stage, its outputs in the order of the stage table.

        Raises:
            PassError: the outputs are not the stage's ports.
        """
        ports = {port.name: port for port in self.stage.outputs}
        if list(outputs) != list(ports):
            raise PassError(
                f"stage {self.stage.name}: its graph has other outputs", found=list(outputs), limit=list(ports)
            )
        for name, value in outputs.items():
            value.name = name
            value.type = ir.TensorType(_DTYPES[ports[name].dtype])
            value.shape = ir.Shape(list(ports[name].shape))
        graph = ir.Graph(
            list(self.inputs.values()),
            list(outputs.values()),
            nodes=self._nodes,
            initializers=list(self._initializers.values()),
            opset_imports={"": OPSET},
            name=self.stage.name,
        )
        return ir.Model(graph, ir_version=IR_VERSION, producer_name="gsvexport")

    def _append(self, op_type: str, inputs: Sequence[ir.Value | None], attributes: dict[str, Any]) -> Any:
        count = attributes.pop("outputs", 1)
        name = "/".join([*self._scope, op_type])
        number = self._counts[name] = self._counts.get(name, -1) + 1
        name = f"{name}_{number}" if number else name
        node = ir.node(op_type, inputs, attributes, num_outputs=count, name=name)
        for index, value in enumerate(node.outputs):
            value.name = name if count == 1 else f"{name}:{index}"
        self._nodes.append(node)
        return node.outputs[0] if count == 1 else tuple(node.outputs)

    def _initializer(self, name: str, array: np.ndarray) -> ir.Value:
        if name not in self._initializers:
            tensor = ir.tensor(array, name=name)
            self._initializers[name] = ir.Value(
                name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor
            )
        return self._initializers[name]


class _Scope:
    def __init__(self, stack: list[str], name: str) -> None:
        self._stack, self._name = stack, name

    def __enter__(self) -> None:
        self._stack.append(self._name)

    def __exit__(self, *_: object) -> None:
        self._stack.pop()


_DTYPES = {"float32": ir.DataType.FLOAT, "int64": ir.DataType.INT64}
