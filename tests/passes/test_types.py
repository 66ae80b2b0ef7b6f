import numpy as np
import onnx_ir as ir
import pytest
from passes.graphs import graph, normal

from gsvexport.errors import PassError
from gsvexport.passes.types import annotate_types, type_errors


def test_every_tensor_gets_the_type_that_its_operator_gives():
    model = graph(
        [
            ("Shape", ["x"], ["shape"], {}),
            ("Cast", ["shape"], ["whole"], {"to": ir.DataType.INT32}),
            ("Less", ["x", "w"], ["less"], {}),
            ("Where", ["less", "x", "w"], ["y"], {}),
        ],
        {"x": [4]},
        {"y": [4]},
        {"w": normal(4)},
    )
    annotate_types(model)
    found = {value.name: value.dtype.name for node in model.graph for value in node.outputs}
    assert found == {"shape": "INT64", "whole": "INT32", "less": "BOOL", "y": "FLOAT"}


def test_two_types_in_one_operator_are_found_with_node_and_tensor():
    model = graph([("Add", ["x", "w"], ["y"], {})], {"x": [4]}, {"y": [4]}, {"w": np.zeros(4, np.float16)})
    with pytest.raises(PassError) as error:
        annotate_types(model)
    assert "Add-y (Add) input 1, w: FLOAT16 beside FLOAT" in str(error.value)


def test_a_type_that_an_operator_does_not_take_is_found():
    model = graph(
        [("Conv", ["x", "w"], ["y"], {})], {"x": [1, 1, 4]}, {"y": [1, 1, 4]}, {"w": np.zeros((1, 1, 1), int)}
    )
    assert any("INT64 is not allowed" in problem for problem in type_errors(model))


def test_a_port_that_is_called_what_it_is_not_is_found():
    model = graph([("Shape", ["x"], ["y"], {})], {"x": [4]}, {"y": [1]}, {})
    assert list(type_errors(model)) == ["Shape-y (Shape): y is called FLOAT, it is INT64"]


def test_an_operator_without_a_schema_is_found():
    model = graph([("Unheard", ["x"], ["y"], {"domain": "some.where"})], {"x": [4]}, {"y": [4]}, {})
    model.graph.opset_imports["some.where"] = 1
    assert "some.where.Unheard has no schema" in next(type_errors(model))
