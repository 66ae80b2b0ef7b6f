"""Weights that stay float, stored as float16: W = Cast(float16(W)). The arithmetic stays float32.

A voice is trained and saved in float16, so its own tensors lose nothing; only derived ones (folded weight norm, tables)
are rounded, by at most 2⁻¹¹ of their value.

What is only looked up, a table, is turned into floats row by row behind the Gather or Slice. A runtime computes the
Cast of a constant while it loads, and would hold the whole table a second time, in floats.
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
            changed, saved = changed + 1, saved + array.nbytes // 2
            if _only_looked_up(value):
                _cast_rows(value, half)
                model.graph.initializers.pop(value.name)  # type: ignore[arg-type]
                continue
            cast = ir.node("Cast", [half], {"to": ir.DataType.FLOAT}, name=f"{value.name}:f32")
            cast.outputs[0].name = f"{value.name}:f32"
            first.graph.insert_before(first, cast)  # type: ignore[union-attr]
            replace(value, cast.outputs[0])
            model.graph.initializers.pop(value.name)  # type: ignore[arg-type]
        notes = [f"{changed} weights stored as float16, {saved / 1e6:.1f} MB saved"]
        notes += [f"{name} exceeds float16 and stays float32" for name in kept]
        return Outcome(changed, tuple(notes))


def _only_looked_up(table: ir.Value) -> bool:
    """Whether rows of it are read by what computes nothing, and which ones follows from the graph's inputs."""
    return bool(table.uses()) and all(
        user.op_type in ("Gather", "Slice")
        and place == 0
        and not user.outputs[0].is_graph_output()
        and any(value is not None and constant(value) is None for value in user.inputs[1:])
        for user, place in table.uses()
    )


def _cast_rows(table: ir.Value, half: ir.Value) -> None:
    """Let what reads `table` read `half`, and turn what it found into floats."""
    for user, _ in list(table.uses()):
        user.replace_input_with(0, half)
        rows = user.outputs[0]
        cast = ir.node("Cast", [rows], {"to": ir.DataType.FLOAT}, name=f"{rows.name}:f32")
        cast.outputs[0].name = cast.name
        cast.outputs[0].shape, cast.outputs[0].type = rows.shape, rows.type
        rows.type = half.type
        ir.convenience.replace_all_uses_with(rows, cast.outputs[0])
        cast.replace_input_with(0, rows)
        user.graph.insert_after(user, cast)  # type: ignore[union-attr]
