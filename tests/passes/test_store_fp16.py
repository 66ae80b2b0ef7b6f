import numpy as np
import onnx_ir as ir
from passes.graphs import graph, normal, run

from gsvexport.passes.base import constant, run_passes
from gsvexport.passes.store_fp16 import StoreFp16


def sum_with(weight):
    return graph([("Add", ["x", "w"], ["y"], {})], {"x": [64, 64]}, {"y": [64, 64]}, {"w": weight})


def test_float16_weights_lose_nothing_and_take_half_the_room():
    weight = normal(64, 64).astype(np.float16).astype(np.float32)
    before = sum_with(weight)
    after = run_passes(before, [StoreFp16()]).model
    feeds = {"x": normal(64, 64, seed=1)}
    np.testing.assert_array_equal(run(after, feeds)["y"], run(before, feeds)["y"])
    assert [constant(v).dtype for v in after.graph.initializers.values()] == [np.float16]


def test_a_weight_beyond_float16_stays_and_is_named():
    weight = normal(64, 64)
    weight[0, 0] = 1e5
    result = run_passes(sum_with(weight), [StoreFp16()])
    assert result.applied[0][1].changes == 0
    assert "w exceeds float16" in " ".join(result.applied[0][1].notes)


def test_small_weights_are_not_worth_it():
    assert run_passes(sum_with(normal(1, 64)), [StoreFp16()]).applied[0][1].changes == 0


def test_a_table_is_looked_up_before_it_becomes_floats():
    before = graph(
        [
            ("Shape", ["x"], ["n"], {}),
            ("Gather", ["w", "n"], ["found"], {}),
            ("Slice", ["w", "zero", "n"], ["first"], {}),
            ("ReduceSum", ["first"], ["sum"], {"keepdims": 0}),
            ("Add", ["found", "sum"], ["y"], {}),
        ],
        {"x": ["T"]},
        {"y": [1, 64]},
        {"w": normal(64, 64), "zero": np.zeros(1, np.int64)},
    )
    after = run_passes(before, [StoreFp16()]).model
    for node in after.graph:
        assert node.op_type != "Cast" or node.inputs[0].producer() is not None  # of nothing that is constant
    exact = run_passes(before, []).model
    for value in exact.graph.initializers.values():
        if value.name == "w":
            value.const_value = ir.tensor(constant(value).astype(np.float16).astype(np.float32), name="w")
    feeds = {"x": np.zeros(7, np.float32)}
    np.testing.assert_array_equal(run(after, feeds)["y"], run(exact, feeds)["y"])
