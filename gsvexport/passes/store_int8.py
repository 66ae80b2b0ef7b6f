"""Convolution weights stored as int8, one scale for each output channel: W = DequantizeLinear(W_q, scale).

The arithmetic stays float; the weight is expanded when the graph runs. A quarter of the size, for an error of at most
half a step: |W - W_q·s| ≤ s/2 with s = max|W| / 127 of the channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from gsvexport.passes.base import Outcome, constant, initializer, insert_before
from gsvexport.passes.quantise_conv import channel_scales, to_int8

_LIMIT = 127


@dataclass(frozen=True)
class StoreInt8:
    """Rewrites the float32 weights of Conv nodes with at least `smallest` elements, but not of those with the outputs
    `floats`."""

    name: ClassVar[str] = "store-int8"
    version: ClassVar[int] = 2
    smallest: int = 1024
    floats: tuple[str, ...] = ()

    def apply(self, model: ir.Model) -> Outcome:
        """Change `model`."""
        changed, apart = 0, set(self.floats)
        for node in list(model.graph):
            weight = constant(node.inputs[1]) if node.op_type == "Conv" else None
            if node.outputs[0].name in apart:
                continue
            if weight is None or weight.dtype != np.float32 or weight.size < self.smallest:
                continue
            label = node.inputs[1].name  # type: ignore[union-attr]
            scales = channel_scales(weight, _LIMIT)
            values = [
                initializer(model, f"{label}:i8", to_int8(weight, scales, _LIMIT)),
                initializer(model, f"{label}:i8.scale", scales),
                initializer(model, f"{label}:i8.zero", np.zeros(len(scales), np.int8)),
            ]
            (w,) = insert_before(node, "DequantizeLinear", values, {"axis": 0}, name=f"{label}:i8/dq")
            node.replace_input_with(1, w)
            changed += 1
        return Outcome(changed, (f"{changed} convolution weights stored as int8",))
