"""A small graph that an Edge TPU takes whole, and ways to change it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gsvexport.backends.tflite.graph import Graph, Operator, Quantisation, Tensor

ONE = Quantisation((0.05,), (3,))
TPU = {"sram_mb": 8.0, "tops_int8": 4.0, "link_gbs": 0.4}
X, WEIGHTS, BIAS, CONVOLVED, SLOPE, SCALED, ACTIVATED, SHAPE, KERNEL, UP = range(10)


def activation(name, *shape, dtype="int8"):
    return Tensor(name, shape, dtype, quantisation=ONE)


def constant(name, array, quantisation=ONE):
    return Tensor(name, array.shape, array.dtype.name, array, quantisation)


def graph():
    """A dilated convolution, a leaky ReLU as MUL and MAXIMUM, a transposed convolution; [1, 1, time, channels]."""
    tensors = (
        activation("x", 1, 1, 16, 4),
        constant("weights", np.ones((6, 1, 3, 4), np.int8), Quantisation((0.1,) * 6, (0,) * 6)),
        constant("bias", np.zeros(6, np.int32), Quantisation((0.005,) * 6, (0,) * 6)),
        activation("convolved", 1, 1, 16, 6),
        constant("slope", np.ones((1, 1, 1, 1), np.int8)),
        activation("scaled", 1, 1, 16, 6),
        activation("activated", 1, 1, 16, 6),
        constant("shape", np.array([1, 1, 32, 3], np.int32), None),
        constant("kernel", np.ones((3, 1, 4, 6), np.int8)),
        activation("up", 1, 1, 32, 3),
    )
    convolution = {
        "padding": "SAME", "stride_w": 1, "stride_h": 1, "dilation_w_factor": 3, "dilation_h_factor": 3,
        "fused_activation_function": "NONE",
    }  # fmt: skip
    operators = (
        Operator("CONV_2D", 3, (X, WEIGHTS, BIAS), (CONVOLVED,), convolution, "conv"),
        Operator("MUL", 2, (CONVOLVED, SLOPE), (SCALED,), {"fused_activation_function": "NONE"}, "slope"),
        Operator("MAXIMUM", 2, (CONVOLVED, SCALED), (ACTIVATED,), {}, "leaky"),
        Operator(
            "TRANSPOSE_CONV", 2, (SHAPE, KERNEL, ACTIVATED), (UP,), {"padding": "SAME", "stride_w": 2, "stride_h": 1},
            "upsample",
        ),
    )  # fmt: skip
    return Graph(tensors, operators, (X,), (UP,))


def with_tensor(before, index, **changes):
    """The graph with other properties of one tensor."""
    tensors = list(before.tensors)
    tensors[index] = replace(tensors[index], **changes)
    return replace(before, tensors=tuple(tensors))


def with_operator(before, number, **changes):
    """The graph with other properties of one operator; `options` are merged."""
    operators = list(before.operators)
    options = {**operators[number].options, **changes.pop("options", {})}
    operators[number] = replace(operators[number], **changes, options=options)
    return replace(before, operators=tuple(operators))


def lone(kind, version, inputs, *outputs, **options):
    """A graph of one operator."""
    tensors = (*inputs, *outputs)
    ends = tuple(range(len(inputs))), tuple(range(len(inputs), len(tensors)))
    operator = Operator(kind, version, *ends, options, "it")
    fed = tuple(index for index in ends[0] if tensors[index].data is None)
    return Graph(tensors, (operator,), fed, ends[1])
