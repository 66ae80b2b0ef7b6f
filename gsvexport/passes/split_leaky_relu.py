"""LeakyRelu as two operators that every integer accelerator has: max(x, a·x), the same for 0 ≤ a ≤ 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from gsvexport.passes.base import Outcome, attribute, initializer, insert_before, replace

_DEFAULT_SLOPE = 0.01  # ONNX's own


@dataclass(frozen=True)
class SplitLeakyRelu:
    """See the module."""

    name: ClassVar[str] = "split-leaky-relu"
    version: ClassVar[int] = 1

    def apply(self, model: ir.Model) -> Outcome:
        """Rewrite every LeakyRelu with a slope between 0 and 1; says which it left alone."""
        changed, notes = 0, []
        for node in list(model.graph):
            if node.op_type != "LeakyRelu":
                continue
            slope, x = np.float32(attribute(node, "alpha", _DEFAULT_SLOPE)), node.inputs[0]
            if not 0 <= slope <= 1:
                notes.append(f"{node.name} stays a LeakyRelu: its slope is {slope}")
                continue
            value = initializer(model, f"scalar:float32:{slope}", np.array(slope))
            (low,) = insert_before(node, "Mul", [x, value], name=f"{node.name}/low")
            (high,) = insert_before(node, "Max", [x, low], name=f"{node.name}/max")
            replace(node.outputs[0], high)
            changed += 1
        return Outcome(changed, (f"{changed} leaky ReLUs are maxima", *notes))
