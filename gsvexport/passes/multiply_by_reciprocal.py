"""Division by a constant as a multiplication: x / c = x · (1 / c), but for the last bit. Accelerators do not divide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from gsvexport.passes.base import Outcome, constant, initializer, insert_before, replace


@dataclass(frozen=True)
class MultiplyByReciprocal:
    """See the module."""

    name: ClassVar[str] = "multiply-by-reciprocal"
    version: ClassVar[int] = 1

    def apply(self, model: ir.Model) -> Outcome:
        """Rewrite every Div of floats whose divisor is a constant without zeros."""
        changed = 0
        for node in list(model.graph):
            divisor = constant(node.inputs[1]) if node.op_type == "Div" else None
            if divisor is None or not np.issubdtype(divisor.dtype, np.floating) or not divisor.all():
                continue
            name = f"{node.inputs[1].name}:reciprocal"  # type: ignore[union-attr]
            value = initializer(model, name, (1 / divisor.astype(np.float64)).astype(divisor.dtype))
            (product,) = insert_before(node, "Mul", [node.inputs[0], value], name=f"{node.name}/product")
            replace(node.outputs[0], product)
            changed += 1
        return Outcome(changed, (f"{changed} divisions are multiplications",))
