"""Integer graphs: as close to float as 8 bits are, with the constraints that TFLite's kernels and compilers have."""

import numpy as np
import pytest
from passes.graphs import graph, normal, run

pytest.importorskip("ai_edge_litert")

from gsvexport.backends.tflite.emit import emit
from gsvexport.backends.tflite.flatbuffer import dump, parse
from gsvexport.backends.tflite.graph import Graph, Operator, Tensor
from gsvexport.backends.tflite.integers import faults
from gsvexport.backends.tflite.quantise import EIGHT, SIXTEEN, quantise
from gsvexport.backends.tflite.session import Runner, interpreter
from gsvexport.errors import BackendError
from gsvexport.passes.base import run_passes
from gsvexport.passes.split_leaky_relu import SplitLeakyRelu


def integers(model, feeds, kind=EIGHT):
    """The integer graph with the true ranges of `feeds`, what it gives for them, and what float gives."""
    legal = run_passes(model, [SplitLeakyRelu()]).model
    whole = emit(legal, {})
    arrays = {name: array.transpose(0, 2, 1)[:, None] for name, array in feeds.items()}
    exact = Runner("exact", interpreter(dump(whole), 1, keep=True))
    expected = exact.run(arrays)
    ranges = {
        tensor.name: (float(exact.tensor(index).min()), float(exact.tensor(index).max()))
        for index, tensor in enumerate(whole.tensors)
        if tensor.data is None
    }
    found = quantise(whole, ranges, kind)
    return found, Runner("integers", interpreter(dump(found), 1)).run(arrays), expected


def steps(found, expected):
    """The largest difference, in 255ths of what the expected values span."""
    return np.abs(found - expected).max() / (np.ptp(expected) / 255)


W, B = normal(4, 3, 3) / 3, normal(4)
CASES = {
    "Conv": ([("Conv", ["x", "w", "b"], ["y"], {"kernel_shape": [3], "pads": [1, 1]})], {"w": W, "b": B}, 2),
    "LeakyRelu": ([("LeakyRelu", ["x"], ["y"], {"alpha": 0.1})], {}, 1.6),
    "Tanh": ([("Tanh", ["x"], ["y"], {})], {}, 3),
    "Sigmoid": ([("Sigmoid", ["x"], ["y"], {})], {}, 3),
    "Add": ([("Add", ["x", "z"], ["y"], {})], {}, 2),
    "Sub": ([("Sub", ["x", "z"], ["y"], {})], {}, 2),
    "Mul": ([("Mul", ["x", "z"], ["y"], {})], {}, 3),
    "constant": ([("Add", ["x", "c"], ["y"], {})], {"c": normal(1, 3, 1)}, 2),
    "scalar": ([("Mul", ["x", "s"], ["y"], {})], {"s": np.array(-0.3, np.float32)}, 2),
    "Max": ([("Max", ["x", "z"], ["y"], {})], {}, 2),
    "Concat": ([("Concat", ["x", "z"], ["y"], {"axis": 1})], {}, 1.6),
    "pads": ([("Conv", ["x", "w"], ["y"], {"kernel_shape": [3], "pads": [2, 0]})], {"w": W}, 2),
}


@pytest.mark.parametrize("name", CASES)
def test_an_operator_is_within_few_steps_of_float(name):
    nodes, weights, most = CASES[name]
    feeds = {"x": normal(1, 3, 40) * 2}
    if "z" in nodes[0][1]:
        feeds["z"] = normal(1, 3, 40, seed=1) + np.float32(1)
    model = graph(nodes, {key: list(value.shape) for key, value in feeds.items()}, {"y": ["a", "b", "c"]}, weights)
    graph_found, found, expected = integers(model, feeds)
    np.testing.assert_allclose(expected[:, 0].transpose(0, 2, 1), run(model, feeds)["y"], atol=1e-5)
    assert steps(found, expected) <= most
    assert faults(parse(dump(graph_found), "it")) == []


@pytest.mark.parametrize("name", CASES)
def test_sixteen_bits_leave_the_error_of_the_weights_alone(name):
    nodes, weights, _ = CASES[name]
    feeds = {"x": normal(1, 3, 40) * 2}
    if "z" in nodes[0][1]:
        feeds["z"] = normal(1, 3, 40, seed=1) + np.float32(1)
    model = graph(nodes, {key: list(value.shape) for key, value in feeds.items()}, {"y": ["a", "b", "c"]}, weights)
    graph_found, found, expected = integers(model, feeds, SIXTEEN)
    assert steps(found, expected) <= (1 if nodes[0][0] == "Conv" else 0.05)
    assert faults(parse(dump(graph_found), "it"), "int16x8") == []
    assert {graph_found.tensors[index].dtype for index in (*graph_found.inputs, *graph_found.outputs)} == {"int16"}


def chain():
    """A convolution, a leaky ReLU whose result one more reads, and a residual sum."""
    nodes = [
        ("Conv", ["x", "w", "b"], ["a"], {"kernel_shape": [3], "pads": [1, 1]}),
        ("LeakyRelu", ["a"], ["l"], {"alpha": 0.1}),
        ("Conv", ["l", "v"], ["c"], {"kernel_shape": [1]}),
        ("Add", ["a", "c"], ["s"], {}),
        ("Tanh", ["s"], ["y"], {}),
    ]
    weights = {"w": W, "b": B, "v": normal(4, 4, 1)}
    return graph(nodes, {"x": [1, 3, 40]}, {"y": [1, 4, 40]}, weights)


def test_constraints_of_the_kernels_hold():
    found, _, _ = integers(chain(), {"x": normal(1, 3, 40)})
    tensors = found.tensors
    for operator in found.operators:
        ends = [tensors[index] for index in (*operator.inputs, *operator.outputs)]
        if operator.kind == "MAXIMUM":
            assert len({end.quantisation for end in ends}) == 1
        if operator.kind == "TANH":
            assert (ends[-1].quantisation.scale, ends[-1].quantisation.zero_point) == ((1 / 128,), (0,))
        if operator.kind == "CONV_2D":
            x, w, b, _ = ends
            assert (w.dtype, b.dtype, w.quantisation.axis) == ("int8", "int32", 0)
            assert set(w.quantisation.zero_point) == {0}
            assert np.abs(w.data.astype(int)).max() <= 127
            scales = np.float32(x.quantisation.scale[0]) * np.array(w.quantisation.scale, np.float32)
            np.testing.assert_allclose(b.quantisation.scale, scales, rtol=1e-6)
    versions = {operator.kind: operator.version for operator in found.operators}
    assert versions == {"CONV_2D": 3, "MUL": 2, "QUANTIZE": 2, "MAXIMUM": 2, "ADD": 2, "TANH": 2}
    assert {tensors[index].dtype for index in (*found.inputs, *found.outputs)} == {"int8"}


def test_a_tensor_without_a_range_and_an_operator_without_integers_are_named():
    whole = emit(run_passes(chain(), [SplitLeakyRelu()]).model, {})
    with pytest.raises(BackendError) as caught:
        quantise(whole, {"x": (-1, 1)})
    assert "no range of a" in caught.value.problems
    odd = Graph((Tensor("x", (1, 1, 2, 2), "float32"),), (Operator("CUMSUM", 1, (0,), (0,)),), (0,), (0,))
    with pytest.raises(BackendError) as caught:
        quantise(odd, {"x": (-1, 1)})
    assert caught.value.problems == ("no integer form of CUMSUM",)


def test_what_is_not_all_integers_is_found():
    found, _, _ = integers(chain(), {"x": normal(1, 3, 40)})
    exact = emit(run_passes(chain(), [SplitLeakyRelu()]).model, {})
    assert any("float32" in fault for fault in faults(exact))
    open_ended = Graph(
        (Tensor("x", (1, 1, 40, 3), "int8", None, found.tensors[0].quantisation, (1, 1, -1, 3)), *found.tensors[1:]),
        found.operators, found.inputs, found.outputs,
    )  # fmt: skip
    assert any("free axis" in fault for fault in faults(open_ended))
    bare = Graph((Tensor("x", (1, 2), "int8"),), (), (0,), (0,))
    assert any("no scale" in fault for fault in faults(bare))
    cast = Graph(found.tensors, (*found.operators, Operator("DEQUANTIZE", 2, (0,), (0,))), found.inputs, found.outputs)
    assert any("DEQUANTIZE" in fault for fault in faults(cast))
