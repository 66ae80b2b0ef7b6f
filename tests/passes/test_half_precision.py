import numpy as np
import onnx_ir as ir
import pytest
from passes.graphs import graph, normal, operators, run

from gsvexport.passes.base import run_passes
from gsvexport.passes.half_precision import HalfPrecision
from gsvexport.passes.types import type_errors

HALF, SINGLE = ("MatMul", "Conv"), ("Softmax", "LayerNormalization", "Exp")


def halved(model, **settings):
    result = run_passes(model, [HalfPrecision(HALF, SINGLE, **settings)])
    assert not list(type_errors(result.model))
    return result.model, result.applied[0][1]


def types(model):
    return {node.op_type: node.outputs[0].dtype.name for node in model.graph if node.op_type != "Cast"}


def attention(weight):
    nodes = [
        ("MatMul", ["x", "w"], ["scores"], {}),
        ("Softmax", ["scores"], ["p"], {"axis": -1}),
        ("MatMul", ["p", "w2"], ["y"], {}),
    ]
    return graph(nodes, {"x": [3, 8]}, {"y": [3, 8]}, {"w": weight, "w2": normal(8, 8, seed=3)})


def test_products_are_half_and_softmax_is_single_with_casts_between():
    model, outcome = halved(attention(normal(8, 8)))
    assert types(model) == {"MatMul": "FLOAT16", "Softmax": "FLOAT"}
    assert operators(model)["Cast"] == 4  # x in, scores up, p down, y out
    assert "2 operators in FP16, 1 in FP32" in outcome.notes[0]


def test_the_ports_keep_their_types_and_the_numbers_stay_close():
    before = attention(normal(8, 8))
    model, _ = halved(before)
    feeds = {"x": normal(3, 8, seed=1)}
    found, expected = run(model, feeds)["y"], run(before, feeds)["y"]
    assert found.dtype == np.float32
    assert 0 < np.abs(found - expected).max() < 5e-3


def test_half_ports_are_half_and_need_no_cast():
    nodes = [("MatMul", ["x", "w"], ["y"], {})]
    model, _ = halved(graph(nodes, {"x": [2, 4]}, {"y": [2, 4]}, {"w": normal(4, 4)}), half_ports=("x", "y"))
    assert operators(model) == {"MatMul": 1}
    assert [port.dtype for port in (model.graph.inputs[0], model.graph.outputs[0])] == [ir.DataType.FLOAT16] * 2


def test_a_sum_with_a_single_operand_is_made_in_single():
    nodes = [
        ("Softmax", ["x"], ["p"], {}),
        ("MatMul", ["p", "w"], ["m"], {}),
        ("Add", ["p", "m"], ["y"], {}),
    ]
    model, _ = halved(graph(nodes, {"x": [4, 4]}, {"y": [4, 4]}, {"w": normal(4, 4)}))
    assert types(model)["Add"] == "FLOAT"


def test_a_value_that_two_operators_want_in_half_is_cast_once():
    nodes = [("MatMul", ["x", "w"], ["a"], {}), ("MatMul", ["x", "v"], ["b"], {}), ("Add", ["a", "b"], ["y"], {})]
    model, _ = halved(graph(nodes, {"x": [2, 4]}, {"y": [2, 4]}, {"w": normal(4, 4), "v": normal(4, 4, seed=2)}))
    assert operators(model) == {"Cast": 2, "MatMul": 2, "Add": 1}


def test_counting_beyond_2048_stays_exact():
    """Positions become floats, are scaled and floored: in float16, 4001 and 4002 are one number."""
    nodes = [
        ("Shape", ["x"], ["n"], {"start": 1, "end": 2}),
        ("Cast", ["n"], ["count"], {"to": ir.DataType.FLOAT}),
        ("Mul", ["count", "half"], ["middle"], {}),
        ("Floor", ["middle"], ["floor"], {}),
        ("Sub", ["middle", "floor"], ["rest"], {}),
        ("MatMul", ["x", "w"], ["m"], {}),
        ("Mul", ["m", "rest"], ["y"], {}),
    ]
    before = graph(nodes, {"x": [1, 8003]}, {"y": [1, 1]}, {"half": np.float32([0.5]), "w": normal(8003, 1)})
    model, _ = halved(before)
    found = {node.name: node.outputs[0].dtype.name for node in model.graph}
    assert [found[name] for name in ("Mul-middle", "Floor-floor", "Sub-rest")] == ["FLOAT"] * 3
    assert found["Mul-y"] == "FLOAT16"
    feeds = {"x": normal(1, 8003, seed=1)}
    np.testing.assert_allclose(run(model, feeds)["y"], run(before, feeds)["y"], rtol=0.02)


def test_a_weight_beyond_float16_keeps_its_operator_single_and_is_named():
    weight = normal(8, 8)
    weight[0, 0] = 1e5
    model, outcome = halved(attention(weight))
    assert [node.outputs[0].dtype.name for node in model.graph if node.op_type == "MatMul"] == ["FLOAT", "FLOAT16"]
    assert "exceeds 65504" in outcome.notes[-1]
    assert np.isfinite(run(model, {"x": normal(3, 8)})["y"]).all()


def test_nodes_that_were_measured_to_be_too_large_stay_single():
    model, _ = halved(attention(normal(8, 8)), keep=("MatMul-scores",))
    assert [node.outputs[0].dtype.name for node in model.graph if node.op_type == "MatMul"] == ["FLOAT", "FLOAT16"]


def test_an_exact_output_is_computed_in_single_behind_what_only_moves_it():
    nodes = [("MatMul", ["x", "w"], ["m"], {}), ("Unsqueeze", ["m", "axis"], ["y"], {})]
    before = graph(nodes, {"x": [2, 4]}, {"y": [1, 2, 4]}, {"w": normal(4, 4), "axis": np.array([0])})
    assert types(halved(before, exact_outputs=("y",))[0])["MatMul"] == "FLOAT"
    assert types(halved(before)[0])["MatMul"] == "FLOAT16"


def test_weights_that_vanish_are_counted():
    weight = normal(8, 8)
    weight[0, :3] = 1e-9
    assert any(note.startswith("3 weights") for note in halved(attention(weight))[1].notes)


@pytest.mark.parametrize("op", ["Relu", "Tanh", "Neg"])
def test_operators_without_a_rule_follow_their_input(op):
    nodes = [("MatMul", ["x", "w"], ["m"], {}), (op, ["m"], ["y"], {})]
    model, _ = halved(graph(nodes, {"x": [2, 4]}, {"y": [2, 4]}, {"w": normal(4, 4)}))
    assert types(model)[op] == "FLOAT16"
