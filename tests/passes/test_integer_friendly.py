"""The passes that make graphs fit for integers: each is exact in float, and does what it is for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from passes.graphs import graph, normal, operators, run

from gsvexport.passes.base import run_passes
from gsvexport.passes.conv2d import Conv2d
from gsvexport.passes.equalise_channels import EqualiseChannels
from gsvexport.passes.multiply_by_reciprocal import MultiplyByReciprocal
from gsvexport.passes.polyphase import Polyphase
from gsvexport.passes.small_sums_first import SmallSumsFirst
from gsvexport.passes.split_leaky_relu import SplitLeakyRelu


@given(slope=st.floats(0, 1))
@settings(max_examples=20, deadline=None)
def test_a_leaky_relu_is_a_maximum(slope):
    model = graph([("LeakyRelu", ["x"], ["y"], {"alpha": slope})], {"x": [1, 2, 9]}, {"y": [1, 2, 9]}, {})
    after = run_passes(model, [SplitLeakyRelu()]).model
    x = normal(1, 2, 9)
    assert operators(after) == {"Mul": 1, "Max": 1}
    np.testing.assert_array_equal(run(after, {"x": x})["y"], run(model, {"x": x})["y"])


@pytest.mark.parametrize("slope", [-0.5, 1.5])
def test_another_slope_is_left_and_told(slope):
    model = graph([("LeakyRelu", ["x"], ["y"], {"alpha": slope})], {"x": [1, 2, 9]}, {"y": [1, 2, 9]}, {})
    result = run_passes(model, [SplitLeakyRelu()])
    assert operators(result.model) == {"LeakyRelu": 1}
    assert "stays a LeakyRelu" in result.applied[0][1].notes[1]


def test_a_division_by_a_constant_is_a_product():
    nodes = [("Div", ["x", "c"], ["a"], {}), ("Div", ["a", "x"], ["b"], {}), ("Div", ["b", "zero"], ["y"], {})]
    weights = {"c": np.array([[[3.0], [-0.7]]], np.float32), "zero": np.zeros((1, 1, 1), np.float32)}
    model = graph(nodes, {"x": [1, 2, 5]}, {"a": [1, 2, 5], "y": [1, 2, 5]}, weights)
    after = run_passes(model, [MultiplyByReciprocal()]).model
    assert operators(after) == {"Mul": 1, "Div": 2}  # by a value, and by zero: as they were
    x = normal(1, 2, 5)
    np.testing.assert_allclose(run(after, {"x": x})["a"], run(model, {"x": x})["a"], rtol=1e-6)


def residual(blocks, layers, *, scale=True):
    """The mean of residual blocks after an upsampling, and a convolution that reads it."""
    nodes = [("ConvTranspose", ["in", "up"], ["x"], {"strides": [2], "pads": [1, 1], "kernel_shape": [4]})]
    weights = {"up": normal(4, 3, 4), "last": normal(1, 3, 1)}
    ends = []
    for block in range(blocks):
        value = "x"
        for layer in range(layers):
            name = f"{block}.{layer}"
            weights[f"w{name}"], weights[f"b{name}"] = normal(3, 3, 3, seed=block + 9 * layer) / 4, normal(3)
            nodes.append(("LeakyRelu", [value], [f"l{name}"], {"alpha": 0.1}))
            conv = ["Conv", [f"l{name}", f"w{name}", f"b{name}"], [f"c{name}"], {"kernel_shape": [3], "pads": [1, 1]}]
            nodes += [tuple(conv), ("Add", [value, f"c{name}"], [f"s{name}"], {})]
            value = f"s{name}"
        ends.append(value)
    total = ends[0]
    for number, end in enumerate(ends[1:]):
        nodes.append(("Add", [total, end], [f"t{number}"], {}))
        total = f"t{number}"
    if scale:
        weights["mean"] = np.array(1 / blocks, np.float32)
        nodes.append(("Mul", [total, "mean"], ["m"], {}))
        total = "m"
    nodes += [("LeakyRelu", [total], ["a"], {"alpha": 0.1}), ("Conv", ["a", "last"], ["z"], {"kernel_shape": [1]})]
    nodes.append(("Tanh", ["z"], ["y"], {}))
    return graph(nodes, {"in": [1, 4, "F"]}, {"y": [1, 1, "N"]}, weights)


@pytest.mark.parametrize(("blocks", "layers", "scale"), [(1, 2, True), (3, 1, True), (3, 3, True), (2, 2, False)])
def test_small_terms_are_summed_before_they_meet_the_large_one(blocks, layers, scale):
    model = residual(blocks, layers, scale=scale)
    result = run_passes(model, [SmallSumsFirst()])
    assert result.applied[0][1].changes == 1
    x = normal(1, 4, 9)
    np.testing.assert_allclose(run(result.model, {"in": x})["y"], run(model, {"in": x})["y"], atol=1e-5)
    large = [node for node in result.model.graph if node.op_type == "Add" and node.inputs[0].name == "x"]
    assert len(large) == (blocks if layers > 1 else 0) + (
        1 if scale else 0
    )  # the partial sums that others read, and the last


def test_a_sum_of_two_large_values_stays():
    nodes = [("Add", ["x", "z"], ["s"], {}), ("Add", ["s", "x"], ["y"], {})]
    model = graph(nodes, {"x": [1, 2, 3], "z": [1, 2, 3]}, {"y": [1, 2, 3]}, {})
    assert run_passes(model, [SmallSumsFirst()]).applied[0][1].changes == 0


@given(seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_equalised_channels_give_the_same_sound(seed):
    legal = run_passes(residual(2, 2), [Conv2d(), Polyphase(), SplitLeakyRelu()]).model
    rng = np.random.default_rng(seed)
    tensors = {value.name for node in legal.graph for value in node.outputs}
    peaks = {name: rng.lognormal(0, 2, 3).astype(np.float32) for name in tensors if name not in ("y", "z", "m")}
    result = run_passes(legal, [EqualiseChannels(peaks)])
    assert result.applied[0][1].changes == 1  # the sum, and everything that is added to it
    x = normal(1, 4, 9, seed=seed)
    np.testing.assert_allclose(run(result.model, {"in": x})["y"], run(legal, {"in": x})["y"], atol=2e-5)


def test_equalised_channels_have_one_size():
    weights = {"w": np.array([[[1.0]], [[100.0]]], np.float32), "v": normal(1, 2, 1)}
    nodes = [
        ("Conv", ["x", "w"], ["a"], {"kernel_shape": [1]}),
        ("LeakyRelu", ["a"], ["l"], {"alpha": 0.1}),
        ("Conv", ["l", "v"], ["y"], {"kernel_shape": [1]}),
    ]
    model = graph(nodes, {"x": [1, 1, 5]}, {"y": [1, 1, 5]}, weights)
    after = run_passes(model, [EqualiseChannels({"a": np.array([1.0, 100.0], np.float32)})]).model
    scaled = {
        node.outputs[0].name: node.inputs[1].const_value.numpy() for node in after.graph if node.op_type == "Conv"
    }
    np.testing.assert_allclose(scaled["a"].ravel(), [100, 100])
    np.testing.assert_allclose(scaled["y"].ravel(), weights["v"].ravel() / [100, 1])


def test_ports_keep_their_size():
    nodes = [("Conv", ["x", "w"], ["a"], {"kernel_shape": [1]}), ("Add", ["a", "x"], ["y"], {})]
    model = graph(nodes, {"x": [1, 2, 5]}, {"y": [1, 2, 5]}, {"w": normal(2, 2, 1)})
    peaks = {name: np.array([1.0, 9.0], np.float32) for name in ("x", "a", "y")}
    assert run_passes(model, [EqualiseChannels(peaks)]).applied[0][1].changes == 0
