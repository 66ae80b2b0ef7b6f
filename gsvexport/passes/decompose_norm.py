"""LayerNormalization in plain operators, for runtimes that do not have it (TensorRT before 8.6).

d = x - mean(x)        y = d / √(mean(d²) + ε) · gain + shift        (Ba, Kiros, Hinton 2016, eq. 4)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from gsvexport.errors import PassError
from gsvexport.passes.base import Outcome, attribute, initializer, insert_before, replace


@dataclass(frozen=True)
class DecomposeNorm:
    """Rewrites every LayerNormalization over the last axis."""

    name: ClassVar[str] = "decompose-norm"
    version: ClassVar[int] = 1

    def apply(self, model: ir.Model) -> Outcome:
        """Change `model`."""
        found = [node for node in model.graph if node.op_type == "LayerNormalization"]
        for node in found:
            if attribute(node, "axis", -1) != -1:
                raise PassError(f"{node.name} normalises axis {attribute(node, 'axis')}", limit="the last axis")
            replace(node.outputs[0], _norm(model, node))
        return Outcome(len(found), (f"{len(found)} norms in plain operators",))


def _norm(model: ir.Model, node: ir.Node) -> ir.Value:
    x, gain, shift = (*node.inputs, None)[:3]

    def add(op_type: str, *inputs: ir.Value | None, part: str, **attributes: object) -> ir.Value:
        return insert_before(node, op_type, inputs, attributes, name=f"{node.name}/{part}")[0]

    epsilon = float(attribute(node, "epsilon", 1e-5))
    small = initializer(model, f"scalar:float32:{epsilon:g}", np.array(epsilon, np.float32))
    mean = add("ReduceMean", x, part="mean", axes=[-1], keepdims=1)
    centred = add("Sub", x, mean, part="centred")
    variance = add("ReduceMean", add("Mul", centred, centred, part="square"), part="variance", axes=[-1], keepdims=1)
    deviation = add("Sqrt", add("Add", variance, small, part="floor"), part="deviation")
    scaled = add("Mul", add("Div", centred, deviation, part="normal"), gain, part="scaled")
    return add("Add", scaled, shift, part="shifted") if shift is not None else scaled
