"""Emitted graphs in LiteRT give what ONNX Runtime gives; what cannot be emitted is refused, node by node."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from passes.graphs import graph, normal, run

pytest.importorskip("ai_edge_litert")

from gsvexport.backends.tflite.emit import emit
from gsvexport.backends.tflite.flatbuffer import dump
from gsvexport.backends.tflite.session import Runner, interpreter
from gsvexport.errors import BackendError
from gsvexport.passes.base import run_passes
from gsvexport.passes.conv2d import Conv2d
from gsvexport.passes.multiply_by_reciprocal import MultiplyByReciprocal
from gsvexport.passes.polyphase import Polyphase
from gsvexport.passes.split_leaky_relu import SplitLeakyRelu

LEGAL = [Conv2d(), Polyphase(), MultiplyByReciprocal(), SplitLeakyRelu()]
quickly = settings(max_examples=25, deadline=None)


def litert(model, feeds, sizes=None):
    """The only output of the emitted graph, [1, C, T] as in ONNX."""
    runner = Runner("it", interpreter(dump(emit(model, sizes or {})), 1))
    given = {name: array.transpose(0, 2, 1)[:, None] for name, array in feeds.items()}
    return runner.run(given)[:, 0].transpose(0, 2, 1)


def check(model, feeds):
    """Before and after legalisation, in both runtimes: within 1e-5."""
    expected = next(iter(run(model, feeds).values()))
    found = litert(run_passes(model, LEGAL).model, feeds)
    np.testing.assert_allclose(found.reshape(expected.shape), expected, atol=1e-5, rtol=1e-5)


@quickly
@given(
    kernel=st.integers(1, 7),
    dilation=st.integers(1, 4),
    stride=st.integers(1, 3),
    pads=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    length=st.integers(20, 40),
    channels=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    bias=st.booleans(),
    same=st.booleans(),
)
def test_convolutions(kernel, dilation, stride, pads, length, channels, bias, same):
    if same:  # the padding that keeps the length
        stride, pads = 1, ((kernel - 1) * dilation // 2, (kernel - 1) * dilation - (kernel - 1) * dilation // 2)
    weights = {"w": normal(channels[1], channels[0], kernel) / 4, **({"b": normal(channels[1])} if bias else {})}
    attributes = {"strides": [stride], "dilations": [dilation], "pads": list(pads), "kernel_shape": [kernel]}
    node = ("Conv", ["x", *weights], ["y"], attributes)
    model = graph([node], {"x": [1, channels[0], length]}, {"y": [1, channels[1], "N"]}, weights)
    check(model, {"x": normal(1, channels[0], length, seed=1)})


@quickly
@given(stride=st.integers(1, 10), padding=st.integers(0, 6), length=st.integers(1, 12), channels=st.integers(1, 5))
def test_upsamplings(stride, padding, length, channels):
    kernel = stride + 2 * padding
    attributes = {"strides": [stride], "pads": [padding] * 2, "kernel_shape": [kernel]}
    weights = {"w": normal(channels, 3, kernel) / 4, "b": normal(3)}
    node = ("ConvTranspose", ["x", "w", "b"], ["y"], attributes)
    model = graph([node], {"x": [1, channels, length]}, {"y": [1, 3, "N"]}, weights)
    check(model, {"x": normal(1, channels, length, seed=1)})


@quickly
@given(
    op=st.sampled_from(["Add", "Sub", "Mul", "Max", "Div"]),
    other=st.sampled_from(["scalar", "channels", "one frame", "whole"]),
    channels=st.integers(1, 6),
    length=st.integers(1, 9),
)
def test_arithmetic_broadcasts(op, other, channels, length):
    shape = {"scalar": (), "channels": (1, channels, 1), "one frame": (1, channels, 1), "whole": (1, channels, length)}
    value = np.abs(normal(*shape[other], seed=2)) + np.float32(0.5)
    feeds = {"x": normal(1, channels, length)}
    if other in ("one frame", "whole") and op != "Div":
        feeds["z"] = value
    weights = {} if "z" in feeds else {"z": np.asarray(value)}
    ports = {name: list(array.shape) for name, array in feeds.items()}
    check(graph([(op, ["x", "z"], ["y"], {})], ports, {"y": [1, channels, length]}, weights), feeds)


@pytest.mark.parametrize(
    ("op", "attributes"),
    [("Tanh", {}), ("Sigmoid", {}), ("Relu", {}), ("LeakyRelu", {"alpha": 0.1}), ("LeakyRelu", {})],
)
def test_activations(op, attributes):
    model = graph([(op, ["x"], ["y"], attributes)], {"x": [1, 3, 7]}, {"y": [1, 3, 7]}, {})
    check(model, {"x": normal(1, 3, 7) * 3})


@quickly
@given(sizes=st.lists(st.integers(1, 5), min_size=2, max_size=4), length=st.integers(1, 6))
def test_channels_are_split_cut_and_joined(sizes, length):
    total, parts = sum(sizes), [f"p{index}" for index in range(len(sizes))]
    bounds = {"from": np.array([1]), "to": np.array([total + 9]), "on": np.array([1])}
    nodes = [
        ("Split", ["x", "sizes"], parts, {"axis": 1}),
        ("Concat", parts[::-1], ["joined"], {"axis": 1}),
        ("Slice", ["joined", *bounds], ["y"], {}),
    ]
    weights = {"sizes": np.array(sizes), **bounds}
    model = graph(nodes, {"x": [1, total, length]}, {"y": [1, total - 1, length]}, weights)
    check(model, {"x": normal(1, total, length)})


def test_no_constant_depends_on_the_length():
    node = ("ConvTranspose", ["x", "w"], ["y"], {"strides": [4], "pads": [2, 2], "kernel_shape": [8]})
    model = graph([node], {"x": [1, 3, "F"]}, {"y": [1, 2, "N"]}, {"w": normal(3, 2, 8)})
    legal = run_passes(model, LEGAL).model
    runner = Runner("it", interpreter(dump(emit(legal, {"F": 8})), 1))
    for length in (8, 3, 21):
        x = normal(1, 3, length, seed=length)
        found = runner.run({"x": x.transpose(0, 2, 1)[:, None]})[:, 0].transpose(0, 2, 1)
        np.testing.assert_allclose(found, run(model, {"x": x})["y"], atol=1e-5)


def test_nothing_is_transposed_and_dilations_are_square():
    attributes = {"dilations": [3], "pads": [3, 3], "kernel_shape": [3]}
    nodes = [
        ("Conv", ["x", "w"], ["a"], attributes),
        ("ConvTranspose", ["a", "u"], ["y"], {"strides": [2], "pads": [1, 1], "kernel_shape": [4]}),
    ]
    model = graph(nodes, {"x": [1, 2, 9]}, {"y": [1, 2, 18]}, {"w": normal(2, 2, 3), "u": normal(2, 2, 4)})
    found = emit(run_passes(model, LEGAL).model, {})
    assert [operator.kind for operator in found.operators] == ["CONV_2D", "CONV_2D", "RESHAPE"]
    options = found.operators[0].options
    assert (options["dilation_h_factor"], options["dilation_w_factor"], options["padding"]) == (3, 3, "SAME")
    assert found.operators[0].name == "Conv-a"
    assert [found.tensors[index].name for index in (*found.inputs, *found.outputs)] == ["x", "y"]


def test_everything_that_cannot_be_emitted_is_named_at_once():
    nodes = [
        ("Erf", ["x"], ["a"], {}),
        ("Conv", ["x", "w"], ["b"], {"kernel_shape": [3], "group": 2}),
        ("Conv", ["x", "v"], ["c"], {"kernel_shape": [3], "auto_pad": "SAME_UPPER"}),
        ("LeakyRelu", ["x"], ["d"], {"alpha": 1.5}),
        ("Tanh", ["d"], ["y"], {}),
    ]
    weights = {"w": normal(2, 1, 3), "v": normal(2, 2, 3)}
    outputs = {"a": [1, 2, 9], "b": [1, 2, 7], "c": [1, 2, 9], "y": [1, 2, 9]}
    with pytest.raises(BackendError) as caught:
        emit(graph(nodes, {"x": [1, 2, 9]}, outputs, weights), {})
    problems = caught.value.problems
    assert [problem.split(" (")[0] for problem in problems] == ["Erf-a", "Conv-b", "Conv-c", "LeakyRelu-d"]
    assert "2 groups" in problems[1]
    assert "SAME_UPPER" in problems[2]


@pytest.mark.parametrize(
    "node",
    [
        ("Transpose", ["x"], ["y"], {"perm": [0, 2, 1]}),
        ("Reshape", ["x", "shape"], ["y"], {}),
        ("Concat", ["x", "x"], ["y"], {"axis": 0}),
        ("Unsqueeze", ["x", "axis"], ["y"], {}),
        ("Slice", ["x", "axis", "shape2", "shape2"], ["y"], {}),
        ("ConvTranspose", ["x", "w"], ["y"], {"strides": [2]}),
    ],
)
def test_what_would_move_data_is_refused(node):
    weights = {
        "shape": np.array([1, 18]),
        "axis": np.array([0]),
        "shape2": np.array([2]),
        "w": normal(2, 2, 3),
    }
    with pytest.raises(BackendError, match=node[0]):
        emit(graph([node], {"x": [1, 2, 9]}, {"y": ["a", "b"]}, weights), {})


def test_a_free_axis_needs_a_size():
    model = graph([("Tanh", ["x"], ["y"], {})], {"x": [1, 2, "F"]}, {"y": [1, 2, "F"]}, {})
    with pytest.raises(BackendError, match="free axis"):
        emit(model, {})
