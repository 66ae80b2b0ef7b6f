"""Integer ports as int32: runtimes that have no int64 take them as they are, and the others lose nothing.

What is counted in a port (codes, phones) is far below 2³¹.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from gsvexport.passes.base import Outcome

_TAKES_BOTH = {("Gather", 1), ("GatherElements", 1)}  # indices may be of either type


@dataclass(frozen=True)
class Int32Ports:
    """Makes int64 inputs and outputs int32; where an operator wants or gives int64, a Cast stands beside it."""

    name: ClassVar[str] = "int32-ports"
    version: ClassVar[int] = 2

    def apply(self, model: ir.Model) -> Outcome:
        """Change `model`."""
        changed = [port for port in model.graph.inputs if port.dtype == ir.DataType.INT64]
        for port in changed:
            port.type = ir.TensorType(ir.DataType.INT32)
            users = [(node, index) for node, index in port.uses() if (node.op_type, index) not in _TAKES_BOTH]
            if users:
                cast = ir.node("Cast", [port], {"to": ir.DataType.INT64}, name=f"{port.name}/int64")
                cast.outputs[0].name = f"{port.name}/int64"
                model.graph.insert_before(next(iter(model.graph)), cast)
                for node, index in users:
                    node.replace_input_with(index, cast.outputs[0])
        outputs = [value for value in model.graph.outputs if value.dtype == ir.DataType.INT64]
        for value in outputs:
            _cast_output(model, value)
        texts = (f"{len(changed)} integer inputs are int32",)
        return Outcome(len(changed) + len(outputs), texts + (f"{len(outputs)} outputs, too",) * bool(outputs))


def _cast_output(model: ir.Model, value: ir.Value) -> None:
    """Let an output of the same name be the int32 form of `value`."""
    name = str(value.name)
    value.name = f"{name}/int64"
    cast = ir.node("Cast", [value], {"to": ir.DataType.INT32}, name=f"{name}/int32")
    made = cast.outputs[0]
    made.name, made.shape, made.type = name, value.shape, ir.TensorType(ir.DataType.INT32)
    model.graph.append(cast)
    model.graph.outputs[list(model.graph.outputs).index(value)] = made
