"""Integer inputs as int32: runtimes that have no int64 take them as they are, and the others lose nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from gsvexport.passes.base import Outcome

_TAKES_BOTH = {("Gather", 1), ("GatherElements", 1)}  # indices may be of either type


@dataclass(frozen=True)
class Int32Ports:
    """Makes int64 inputs int32; where an operator wants int64, a Cast stands in front of it."""

    name: ClassVar[str] = "int32-ports"
    version: ClassVar[int] = 1

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
        return Outcome(len(changed), (f"{len(changed)} integer inputs are int32",))
