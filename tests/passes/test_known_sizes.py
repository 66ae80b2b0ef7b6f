import numpy as np
import onnx_ir as ir
from passes.graphs import graph, run

from gsvexport.passes.base import run_passes
from gsvexport.passes.known_sizes import KnownSizes


def test_known_axes_become_numbers_and_lengths_stay_names():
    model = graph([("Relu", ["x"], ["y"], {})], {"x": [1, "G", "T"]}, {"y": [1, "G", "T"]}, {})
    done = run_passes(model, [KnownSizes((("G", 3), ("V", 9)))])
    after = done.model.graph
    assert [list(port.shape) for port in (*after.inputs, *after.outputs)] == [[1, 3, ir.SymbolicDim("T")]] * 2
    assert done.applied[0][1].changes == 2
    found = run(done.model, {"x": np.full((1, 3, 5), -1, np.float32)})["y"]
    assert found.shape == (1, 3, 5)
    assert not found.any()


def test_nothing_changes_where_every_axis_is_a_number_or_a_length():
    model = graph([("Relu", ["x"], ["y"], {})], {"x": [2, "T"]}, {"y": [2, "T"]}, {})
    assert run_passes(model, [KnownSizes((("G", 3),))]).applied[0][1].changes == 0
