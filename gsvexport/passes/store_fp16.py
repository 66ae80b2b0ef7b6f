"""Weights that stay float, stored as float16: W = Cast(float16(W)). The arithmetic stays float32.

A voice is trained and saved in float16, so its own tensors lose nothing; only derived ones (folded weight norm, tables)
are rounded, by at most 2⁻¹¹ of their value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from gsvexport.passes.base import Outcome, constant, initializer, replace

_LARGEST = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class StoreFp16:
    """Rewrites float32 initializers with at least `smallest` elements whose values float16 can hold."""

    name: ClassVar[str] = "store-fp16"
    version: ClassVar[int] = 1
    smallest: int = 1024

    def apply(self, model: ir.Model) -> Outcome:
        """Change `model`; weights too large for float16 are left alone and named."""
        changed, kept, saved = 0, [], 0
        first = next(iter(model.graph))
        for value in list(model.graph.initializers.values()):
            array = constant(value)
            if array is None or array.dtype != np.float32 or array.size < self.smallest:
                continue
            if np.abs(array).max() > _LARGEST:
                kept.append(value.name)
                continue
            half = initializer(model, f"{value.name}:f16", array.astype(np.float16))
            cast = ir.node("Cast", [half], {"to": ir.DataType.FLOAT}, name=f"{value.name}:f32")
            cast.outputs[0].name = f"{value.name}:f32"
            first.graph.insert_before(first, cast)  # type: ignore[union-attr]
            replace(value, cast.outputs[0])
            model.graph.initializers.pop(value.name)  # type: ignore[arg-type]
            changed, saved = changed + 1, saved + array.nbytes // 2
        notes = [f"{changed} weights stored as float16, {saved / 1e6:.1f} MB saved"]
        notes += [f"{name} exceeds float16 and stays float32" for name in kept]
        return Outcome(changed, tuple(notes))
