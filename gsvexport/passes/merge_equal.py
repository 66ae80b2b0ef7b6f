"""Equal operators on equal inputs, once: what several blocks each do to the value that they begin with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir
from onnx_ir.passes import common

from gsvexport.passes.base import Outcome


@dataclass(frozen=True)
class MergeEqual:
    """Exact. Runtimes do this, too, but not once each copy has a range of its own."""

    name: ClassVar[str] = "merge-equal"
    version: ClassVar[int] = 1

    def apply(self, model: ir.Model) -> Outcome:
        """Change `model`; says how many operators are gone."""
        before = len(list(model.graph))
        common.CommonSubexpressionEliminationPass()(model)
        changed = before - len(list(model.graph))
        return Outcome(changed, (f"{changed} operators were there twice",) if changed else ())
