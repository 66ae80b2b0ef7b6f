"""Running one graph that was just built."""

from __future__ import annotations

import onnx_ir as ir
import onnxruntime

from gsvexport.graphs.builder import GraphBuilder, Weights
from gsvexport.stages import stages


def built(name, write):
    """`write(g)` as a function of feeds, which gives the outputs by name."""
    model = write(GraphBuilder(stages("v2Pro")[name], Weights()))
    data = ir.serde.serialize_model(model).SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_outputs()]
    return lambda **feeds: dict(zip(names, session.run(names, feeds), strict=True))
