"""Whether a compiled window has the ports that its recipe and the stage table say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gsvexport.npu.windows import MASK, Windows
from gsvexport.stages import Stage


def wrong_ports(graph: Any, windows: Windows, table: Stage) -> tuple[int, int, str]:
    """How many ports of `graph`, an ONNX GraphProto, are others, how many there should be, and which they are."""
    have = {port.name: [axis.dim_value for axis in port.type.tensor_type.shape.dim] for port in graph.input}
    return wrong(have, [one.name for one in graph.output], windows, table)


def wrong(
    have: Mapping[str, list[int]], outputs: Sequence[str], windows: Windows, table: Stage
) -> tuple[int, int, str]:
    """The same for inputs by name with their sizes, and the names of outputs."""
    port = next(one for one in table.inputs if one.name == windows.input)
    wanted = {windows.input: [1, port.shape[1], windows.window]}
    wanted |= {f"{MASK}{rate}": [1, 1, windows.window * rate] for rate in windows.masks}
    found = [f"input {name}: {have.get(name)} instead of {wanted.get(name)}"
             for name in sorted(have.keys() | wanted.keys()) if have.get(name) != wanted.get(name)]  # fmt: skip
    found += [f"no input {one.name}" for one in table.inputs if one.name not in {windows.input, *windows.baked}]
    found += [] if outputs == [table.outputs[0].name] == [windows.output] else [f"outputs {outputs}"]
    return len(found), len(wanted) + 1, "; ".join(found)
