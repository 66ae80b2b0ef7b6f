"""The forms in which a stage is offered to a compiler that knows no free length."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from gsvexport.errors import BackendError
from gsvexport.graphs.receptive import context
from gsvexport.model import Model
from gsvexport.passes.base import GraphPass, run_passes
from gsvexport.passes.conv2d import Conv2d
from gsvexport.passes.fixed_window import MASK, BakeInput, DropLast, MaskEnd
from gsvexport.passes.known_sizes import KnownSizes
from gsvexport.stages import Stage

_OPTIMISED_DOMAIN = ""


@dataclass(frozen=True)
class Form:
    """A way to write the same window."""

    words: str
    tall: bool


WIDE, TALL = Form("time on the width", False), Form("time on the height", True)


@dataclass(frozen=True)
class Window:
    """A stage's graph of one size as bytes, what a recipe says of it, its weights (how many), what was done."""

    graph: bytes
    sizes: dict[str, Any]
    weights: int
    notes: tuple[str, ...]


def window(
    graph: ir.Model,
    stage: Stage,
    model: Model,
    baked: Mapping[str, NDArray[Any]],
    form: Form,
    *,
    shortest: int,
    guard: int,
    step: int,
) -> Window:
    """The window of a convolutional stage, as long as twice what it looks at around a frame and the `guard` at its end,
    in multiples of `step`, at least `shortest`.

    Raises:
        PassError: a stage with operators whose reach is not known: it is not convolutions throughout.
    """
    port, result = (next(one for one in ports if one.name not in baked) for ports in (stage.inputs, stage.outputs))
    sizes = asdict(model.dims)
    time = next(axis for axis in port.shape if isinstance(axis, str) and axis not in sizes)
    last = next(axis for axis in reversed(result.shape) if isinstance(axis, str))
    left, right = context(graph, port.name, result.name, model.hop)
    frames = max(shortest, -(-(2 * (left + right) + guard) // step) * step)
    known = {name: size for name, size in sizes.items() if isinstance(size, int)}
    fixed = tuple({**known, time: frames, last: frames * model.hop}.items())
    passes: list[GraphPass] = [*(BakeInput(name, value) for name, value in baked.items()), KnownSizes(fixed)]
    drop = DropLast()
    found = run_passes(graph, [*passes, MaskEnd(port.name), drop, Conv2d(form.tall)])
    outcomes = dict(found.applied)
    rates = [one.name.removeprefix(MASK) for one in found.model.graph.inputs if one.name and one.name.startswith(MASK)]
    values = [value.const_value for value in found.model.graph.initializers.values()]
    return Window(
        _plain(found.model),
        {
            **{"input": port.name, "output": result.name, "samples": len(result.shape) == 2},
            **{"tail": "tanh" if outcomes[drop.name].changes else "none", "window": frames, "valid": frames - guard},
            **{"left": left, "right": right, "rate": model.hop, "masks": tuple(sorted(map(int, rates)))},
        },
        sum(value.size for value in values if value is not None and value.dtype == ir.DataType.FLOAT),
        tuple(note for _, done in found.applied for note in done.notes if done.changes),
    )


def _plain(model: ir.Model) -> bytes:
    """One file, with what can be computed beforehand computed by ONNX Runtime, and the operators of ONNX alone.

    Raises:
        BackendError: ONNX Runtime made operators of its own.
    """
    import tempfile
    from pathlib import Path

    import onnx
    import onnxruntime

    for value in model.graph.initializers.values():
        assert value.const_value is not None
        value.const_value = ir.tensor(np.asarray(value.const_value.numpy()), name=value.name)
    for node in model.graph:
        node.metadata_props.clear()
    proto = ir.serde.serialize_model(model)
    del proto.graph.value_info[:]
    with tempfile.TemporaryDirectory() as work:
        path = Path(work) / "graph.onnx"
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(path)
        options.log_severity_level = 3
        onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        proto = onnx.load(path)
    if others := sorted({node.op_type for node in proto.graph.node if node.domain}):
        raise BackendError("a window has operators that are no ONNX", found=", ".join(others))
    standard = [one for one in proto.opset_import if one.domain == _OPTIMISED_DOMAIN]
    del proto.opset_import[:]  # ONNX Runtime lists all its own domains, which no compiler knows
    proto.opset_import.extend(standard)
    return proto.SerializeToString(deterministic=True)
