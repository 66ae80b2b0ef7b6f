"""A pass: it changes a graph, which is its own copy, and says what it did.

python a_pass.py GRAPH.onnx     shows what it would do to a stage of a source

A recipe of a backend (`backends/onnxruntime/recipes.py`, say) lists the passes that a precision goes through.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from gsvexport.passes.base import Outcome, replace, run_passes


@dataclass(frozen=True)
class DropIdentity:
    """Removes Identity nodes. Its parameters would be fields; another result asks for another `version`."""

    name: ClassVar[str] = "drop-identity"
    version: ClassVar[int] = 1

    def apply(self, model: ir.Model) -> Outcome:
        """Change `model`."""
        found = [node for node in model.graph if node.op_type == "Identity" and node.domain == ""]
        for node in found:
            value = node.inputs[0]
            assert value is not None
            if not (node.outputs[0].is_graph_output() and value.is_graph_input()):  # a port keeps its name
                replace(node.outputs[0], value)
        return Outcome(len(found), (f"{len(found)} nodes did nothing",))


def main(path: str) -> None:
    """Apply it to one graph."""
    for name, outcome in run_passes(ir.load(path), [DropIdentity()]).applied:
        print(f"{name}: {outcome.changes} changes; {'; '.join(outcome.notes)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
