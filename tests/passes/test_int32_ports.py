import numpy as np
import onnx_ir as ir
from passes.graphs import graph, normal, operators, run

from gsvexport.passes.base import run_passes
from gsvexport.passes.int32_ports import Int32Ports


def lookup(*nodes):
    model = graph(
        [*nodes, ("Gather", ["table", "row"], ["y"], {})], {"id": [3]}, {"y": [3, 4]}, {"table": normal(9, 4)}
    )
    model.graph.inputs[0].type = ir.TensorType(ir.DataType.INT64)
    return run_passes(model, [Int32Ports()]).model


def test_an_index_is_taken_as_it_is():
    model = lookup(("Identity", ["id"], ["row"], {}))
    assert model.graph.inputs[0].dtype == ir.DataType.INT32
    direct = graph([("Gather", ["table", "id"], ["y"], {})], {"id": [3]}, {"y": [3, 4]}, {"table": normal(9, 4)})
    direct.graph.inputs[0].type = ir.TensorType(ir.DataType.INT64)
    after = run_passes(direct, [Int32Ports()]).model
    assert operators(after) == {"Gather": 1}
    found = run(after, {"id": np.array([2, 0, 8], np.int32)})["y"]
    np.testing.assert_array_equal(found, normal(9, 4)[[2, 0, 8]])


def test_an_operator_that_wants_int64_gets_it():
    model = lookup(("Add", ["id", "id"], ["row"], {}))
    assert operators(model)["Cast"] == 1
    np.testing.assert_array_equal(run(model, {"id": np.array([1, 2, 4], np.int32)})["y"], normal(9, 4)[[2, 4, 8]])


def test_an_output_of_int64_is_int32_under_its_own_name():
    model = graph([("ArgMax", ["x"], ["codes"], {"axis": 1, "keepdims": 0})], {"x": [2, 4]}, {"codes": [2]}, {})
    model.graph.outputs[0].type = ir.TensorType(ir.DataType.INT64)
    after = run_passes(model, [Int32Ports()]).model
    [port] = after.graph.outputs
    assert (port.name, port.dtype) == ("codes", ir.DataType.INT32)
    found = run(after, {"x": np.array([[0, 3, 1, 2], [9, 1, 1, 1]], np.float32)})["codes"]
    assert found.dtype == np.int32
    assert found.tolist() == [1, 0]
