"""The emulated numbers are checked against numpy's own float16 arithmetic, done by hand in the same order."""

import numpy as np
import onnx_ir as ir
import pytest
from passes.graphs import graph, normal, operators, run

from gsvexport.passes.base import run_passes
from gsvexport.passes.emulate_half import GROUP, EmulateHalf
from gsvexport.passes.half_precision import HalfPrecision


def emulated(model, accumulate):
    half = run_passes(model, [HalfPrecision(("MatMul", "Conv", "ConvTranspose"), ())]).model
    return run_passes(half, [EmulateHalf(accumulate)]).model


def product(inner, bias=False):
    nodes = [("MatMul", ["x", "w"], ["y"], {})]
    return graph(nodes, {"x": [3, inner]}, {"y": [3, 5]}, {"w": normal(inner, 5)})


def half(array):
    return np.asarray(array).astype(np.float16).astype(np.float32)


def test_single_rounds_every_tensor_and_sums_in_float32():
    model = product(64)
    x = normal(3, 64, seed=1)
    found = run(emulated(model, "single"), {"x": x})["y"]
    weight = model.graph.initializers["w"].const_value.numpy()
    np.testing.assert_array_equal(found, half(found))
    np.testing.assert_allclose(found, half(half(x) @ half(weight)), rtol=1e-3)


@pytest.mark.parametrize("inner", [1, GROUP - 1, GROUP, 3 * GROUP + 5])
def test_half_rounds_the_running_sum_after_every_group(inner):
    model = product(inner)
    x = normal(3, inner, seed=1)
    weight = half(model.graph.initializers["w"].const_value.numpy())
    total = np.zeros((3, 5), np.float32)
    for first in range(0, inner, GROUP):
        total = half(total + half(x)[:, first : first + GROUP] @ weight[first : first + GROUP])
    found = run(emulated(model, "half"), {"x": x})["y"]
    np.testing.assert_allclose(found, total, rtol=2e-3, atol=1e-3)  # products of a group are summed in any order


def test_half_shows_what_single_hides():
    """4096 products of 1: float16 cannot add 16 to 32768 and more, so a running sum stands still."""
    nodes = [("MatMul", ["x", "w"], ["y"], {})]
    model = graph(nodes, {"x": [1, 40960]}, {"y": [1, 1]}, {"w": np.ones((40960, 1), np.float32)})
    feeds = {"x": np.ones((1, 40960), np.float32)}
    assert run(emulated(model, "single"), feeds)["y"] == 40960
    assert run(emulated(model, "half"), feeds)["y"] < 40960


@pytest.mark.parametrize(("op", "weight"), [("Conv", (4, 24, 3)), ("ConvTranspose", (24, 4, 8))])
def test_convolutions_with_bias_keep_their_meaning(op, weight):
    attributes = {"kernel_shape": [weight[2]], "strides": [2]}
    weights = {"w": normal(*weight), "b": normal(4, seed=2)}
    before = graph([(op, ["x", "w", "b"], ["y"], attributes)], {"x": [1, 24, 20]}, {"y": [1, 4, None]}, weights)
    feeds = {"x": normal(1, 24, 20, seed=1)}
    expected = run(before, feeds)["y"]
    for accumulate in ("single", "half"):
        found = run(emulated(before, accumulate), feeds)["y"]
        assert found.shape == expected.shape
        assert 0 < np.abs(found - expected).max() < 0.05


def test_convolutions_in_groups_of_channels_keep_their_meaning():
    weights = {"w": normal(24, 2, 3), "b": normal(24, seed=2)}
    attributes = {"kernel_shape": [3], "group": 6}
    before = graph([("Conv", ["x", "w", "b"], ["y"], attributes)], {"x": [1, 12, 20]}, {"y": [1, 24, None]}, weights)
    feeds = {"x": normal(1, 12, 20, seed=1)}
    expected = run(before, feeds)["y"]
    for accumulate in ("single", "half"):
        assert 0 < np.abs(run(emulated(before, accumulate), feeds)["y"] - expected).max() < 0.05


def test_the_ports_keep_their_types_and_nothing_inside_is_half():
    nodes = [("MatMul", ["x", "w"], ["m"], {}), ("Relu", ["m"], ["y"], {})]
    model = graph(nodes, {"x": [2, 4]}, {"y": [2, 4]}, {"w": normal(4, 4)})
    typed = run_passes(model, [HalfPrecision(("MatMul",), (), half_ports=("x", "y"))]).model
    for accumulate in ("single", "half"):
        after = run_passes(typed, [EmulateHalf(accumulate)]).model
        assert [port.dtype for port in (*after.graph.inputs, *after.graph.outputs)] == [ir.DataType.FLOAT16] * 2
        computing = [node for node in after.graph if node.op_type not in ("Cast", "Loop")]
        assert all(value.dtype != ir.DataType.FLOAT16 for node in computing for value in node.outputs)
        assert run(after, {"x": normal(2, 4).astype(np.float16)})["y"].dtype == np.float16


def test_the_runtime_keeps_the_rounding():
    """Back-to-back casts are what an optimiser likes to remove."""
    nodes = [("MatMul", ["x", "w"], ["y"], {})]
    model = emulated(graph(nodes, {"x": [1, 1]}, {"y": [1, 1]}, {"w": np.float32([[1]])}), "single")
    assert operators(model)["Cast"] >= 4
    found = run(model, {"x": np.float32([[1.0001]])})["y"]
    assert found == 1
