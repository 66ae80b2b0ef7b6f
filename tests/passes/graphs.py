"""Small graphs for the tests of passes, and running them."""

from __future__ import annotations

import collections

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from gsvexport.backends.onnxruntime.exact import overflows
from gsvexport.passes.base import run_passes
from gsvexport.passes.signed_bytes import UnsignedBytes

FLOAT = onnx.TensorProto.FLOAT

# x86 without VNNI sums blocks of 4 bits in another order beside other rows. There a backend finds out and writes one
# sentence at a time; what rows do has to be tried elsewhere.
ROWS_OF_FOUR_BITS = pytest.mark.skipif(overflows(), reason="4-bit rows differ beside others on x86 without VNNI")


def graph(nodes, inputs, outputs, weights):
    """An `ir.Model` of (op, inputs, outputs, attributes) tuples; ports are name → shape, all float32."""
    made = [
        helper.make_node(op, ins, outs, name=f"{op}-{outs[0]}", domain=attributes.pop("domain", ""), **attributes)
        for op, ins, outs, attributes in nodes
    ]
    ports = [[helper.make_tensor_value_info(n, FLOAT, s) for n, s in side.items()] for side in (inputs, outputs)]
    initializers = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    proto = helper.make_graph(made, "stage", *ports, initializers)
    return ir.from_proto(helper.make_model(proto, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def run(model, feeds):
    """Every output by name, from ONNX Runtime, after the checker has passed the graph; in its exact form where the
    kernels of this processor overflow."""
    proto = ir.to_proto(run_passes(model, [UnsignedBytes()]).model if overflows() else model)
    onnx.checker.check_model(proto)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def operators(model):
    """How often each operator occurs."""
    return collections.Counter(node.op_type for node in model.graph)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def snr(found, expected):
    """Signal to noise in dB."""
    return 10 * np.log10(np.sum(np.square(expected)) / np.sum(np.square(found - expected)))
