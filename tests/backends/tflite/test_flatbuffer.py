"""TFLite files: what is written is what LiteRT and our own reader find, and damaged files are refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("ai_edge_litert")

from gsvexport.backends.tflite.flatbuffer import dump, parse
from gsvexport.backends.tflite.graph import Graph, Operator, Quantisation, Tensor
from gsvexport.errors import BackendError


def convolution():
    """x [1,1,4,2] → CONV_2D with three outputs → ADD of a constant."""
    weight = np.arange(18, dtype=np.float32).reshape(3, 1, 3, 2)
    options = {"padding": "SAME", "stride_h": 1, "stride_w": 1, "dilation_h_factor": 1, "dilation_w_factor": 1}
    return Graph(
        (
            Tensor("x", (1, 1, 4, 2), "float32"),
            Tensor("w", (3, 1, 3, 2), "float32", weight),
            Tensor("b", (3,), "float32", np.ones(3, np.float32)),
            Tensor("y", (1, 1, 4, 3), "float32"),
            Tensor("z", (1, 1, 4, 3), "float32", signature=(1, 1, -1, 3)),
        ),
        (
            Operator("CONV_2D", 3, (0, 1, 2), (3,), options, "y"),
            Operator("ADD", 2, (3, 2), (4,), {"fused_activation_function": "NONE"}, "z"),
        ),
        (0,),
        (4,),
        "a test",
    )


def integers():
    """A requantisation and an operator of somebody's own."""
    return Graph(
        (
            Tensor("a", (1, 4), "int8", quantisation=Quantisation((0.5,), (-3,))),
            Tensor("w", (2, 4), "int8", np.ones((2, 4), np.int8), Quantisation((0.5, 0.25), (0, 0), 0)),
            Tensor("b", (1, 4), "int8", quantisation=Quantisation((0.25,), (7,))),
        ),
        (
            Operator("QUANTIZE", 2, (0,), (2,), {}, "b"),
            Operator("CUSTOM", 1, (0, -1, 1), (2,), {"custom_code": "edgetpu-custom-op"}, "b"),
        ),
        (0,),
        (2,),
    )


@pytest.mark.parametrize("make", [convolution, integers])
def test_a_graph_survives_being_written(make):
    graph = make()
    data = dump(graph)
    found = parse(data, "it")
    assert (found.inputs, found.outputs, found.description) == (graph.inputs, graph.outputs, graph.description)
    for one, other in zip(graph.tensors, found.tensors, strict=True):
        assert (one.name, one.shape, one.dtype) == (other.name, other.shape, other.dtype)
        assert (one.quantisation, one.signature) == (other.quantisation, other.signature)
        np.testing.assert_equal(one.data, other.data)
    for one, other in zip(graph.operators, found.operators, strict=True):
        assert (one.kind, one.version, one.inputs, one.outputs) == (
            other.kind,
            other.version,
            other.inputs,
            other.outputs,
        )
        assert one.name == other.name
        assert dict(one.options).items() <= dict(other.options).items()
    assert dump(found) == data


def test_constants_are_aligned():
    start = np.arange(18, dtype=np.float32).tobytes()
    assert dump(convolution()).index(start) % 16 == 0


def test_litert_computes_what_the_graph_says():
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    runner = interpreter.Interpreter(model_content=dump(convolution()), num_threads=1).get_signature_runner()
    x = np.arange(8, dtype=np.float32).reshape(1, 1, 4, 2)
    weight, padded = np.arange(18, dtype=np.float32).reshape(3, 3, 2), np.pad(x[0, 0], ((1, 1), (0, 0)))
    expected = [[float((padded[t : t + 3] * weight[o]).sum()) + 2 for o in range(3)] for t in range(4)]
    np.testing.assert_allclose(runner(x=x)["z"][0, 0], expected)


def test_what_the_schema_has_not_is_refused():
    x = Tensor("x", (1,), "float32")
    wrong = [
        Graph((x,), (Operator("NO_SUCH", 1, (0,), (0,)),), (0,), (0,)),
        Graph((x,), (Operator("ADD", 1, (0,), (0,), {"colour": 1}),), (0,), (0,)),
        Graph((Tensor("x", (1,), "complex64"),), (), (0,), (0,)),
        Graph((Tensor("x", (2,), "float32", np.ones(3, np.float32)),), (), (0,), (0,)),
    ]
    for graph in wrong:
        with pytest.raises(BackendError):
            dump(graph)


@pytest.mark.parametrize("data", [b"", b"TFL3", b"\0" * 64, b"\x10\0\0\0TFL3" + b"\xff" * 64])
def test_what_is_no_file_of_this_kind_is_refused(data):
    with pytest.raises(BackendError, match=r"f\.tflite"):
        parse(data, "f.tflite")


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused_but_never_followed(data):
    content = bytearray(dump(data.draw(st.sampled_from([convolution(), integers()]))))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(8, len(content) - 1))] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]))
    cut = data.draw(st.integers(8, len(content)))
    try:
        graph = parse(bytes(content[:cut]), "it")
    except BackendError:
        return
    assert len(graph.tensors) < 100


def test_an_index_out_of_range_is_refused():
    graph = Graph((Tensor("x", (1,), "float32"),), (Operator("TANH", 1, (0,), (5,)),), (0,), (0,))
    with pytest.raises(BackendError, match="not among 1 tensors"):
        parse(dump(graph), "it")
