import numpy as np
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
