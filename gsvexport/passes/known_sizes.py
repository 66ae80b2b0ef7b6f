"""Axis letters whose size a voice decides, as numbers: a compiler asks for a range of everything else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from gsvexport.passes.base import Outcome


@dataclass(frozen=True)
class KnownSizes:
    """`sizes` are pairs of an axis letter and its size."""

    name: ClassVar[str] = "known-sizes"
    version: ClassVar[int] = 1
    sizes: tuple[tuple[str, int], ...]

    def apply(self, model: ir.Model) -> Outcome:
        """Change the shapes of `model`'s ports and of every value that names such an axis."""
        known, graph = dict(self.sizes), model.graph
        values = [*graph.inputs, *(value for node in graph for value in node.outputs)]
        changed = [value for value in values if self._fixed(value, known)]
        ports = {*graph.inputs, *graph.outputs}
        return Outcome(len(changed), (f"{sum(one in ports for one in changed)} ports have numbers for axis letters",))

    def _fixed(self, value: ir.Value, known: dict[str, int]) -> bool:
        if value.shape is None:
            return False
        axes = [axis if isinstance(axis, int) else axis.value for axis in value.shape]
        if not any(axis in known for axis in axes if isinstance(axis, str)):
            return False
        value.shape = ir.Shape([known.get(axis, axis) if isinstance(axis, str) else axis for axis in axes])
        return True
