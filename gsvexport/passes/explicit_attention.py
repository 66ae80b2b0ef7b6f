"""ONNX's Attention as the four operators it stands for, so that an emulation can round what goes from one to the next.

Whether a runtime rounds scores and weights inside its own kernel is not known; with this each of them is rounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from gsvexport.errors import PassError
from gsvexport.passes.base import Outcome, attribute, initializer, insert_before, replace
from gsvexport.passes.one_t2s import MASKED
from gsvexport.passes.types import annotate_types


@dataclass(frozen=True)
class ExplicitAttention:
    """Makes Attention(q, K, V, mask), with 4 dimensions, a bool mask and a scale of 1, softmax(q·Kᵀ + m)·V."""

    name: ClassVar[str] = "explicit-attention"
    version: ClassVar[int] = 1

    def apply(self, model: ir.Model) -> Outcome:
        """Change `model`.

        Raises:
            PassError: an Attention of another form.
        """
        found = [node for node in model.graph if node.op_type == "Attention"]
        if found:
            annotate_types(model)
        for node in found:
            if set(node.attributes) - {"scale"} or attribute(node, "scale") != 1.0 or len(node.inputs) != 4:
                raise PassError(f"{self.name}: {node.name} is more than softmax(q·Kᵀ + mask)·V")
            query, key, value, mask = node.inputs
            if query is None or mask is None or mask.dtype != ir.DataType.BOOL or query.dtype is None:
                raise PassError(f"{self.name}: {node.name} has no types or no bool mask")
            kind = query.dtype.numpy()
            masked = initializer(model, f"masked:{kind}", np.array(MASKED, kind))
            (turned,) = insert_before(node, "Transpose", [key], {"perm": [0, 1, 3, 2]}, name=f"{node.name}/K")
            (scores,) = insert_before(node, "MatMul", [query, turned], name=f"{node.name}/scores")
            (kept,) = insert_before(node, "Where", [mask, scores, masked], name=f"{node.name}/kept")
            (weights,) = insert_before(node, "Softmax", [kept], {"axis": -1}, name=f"{node.name}/weights")
            (out,) = insert_before(node, "MatMul", [weights, value], name=f"{node.name}/out")
            replace(node.outputs[0], out)
            model.graph.remove(node, safe=True)
        return Outcome(len(found), (f"{len(found)} attentions are explicit",))
