import numpy as np
from passes.graphs import graph, normal, operators, run, snr

from gsvexport.passes.base import constant, run_passes
from gsvexport.passes.store_int8 import StoreInt8


def test_weights_take_a_quarter_of_the_room_and_lose_little():
    before = graph(
        [("Conv", ["x", "w"], ["y"], {"kernel_shape": [5], "pads": [2, 2]})],
        {"x": [1, 16, "T"]},
        {"y": [1, 32, "T"]},
        {"w": normal(32, 16, 5)},
    )
    after = run_passes(before, [StoreInt8()]).model
    feeds = {"x": normal(1, 16, 40, seed=1)}
    assert snr(run(after, feeds)["y"], run(before, feeds)["y"]) > 38
    assert operators(after) == {"DequantizeLinear": 1, "Conv": 1}
    assert max(after.graph.initializers.values(), key=lambda v: constant(v).size).const_value.dtype.name == "INT8"
    assert run_passes(before, [StoreInt8(floats=("y",))]).applied[0][1].changes == 0


def test_small_weights_are_not_worth_it():
    before = graph(
        [("Conv", ["x", "w"], ["y"], {"kernel_shape": [1]})],
        {"x": [1, 4, "T"]},
        {"y": [1, 4, "T"]},
        {"w": np.ones((4, 4, 1), np.float32)},
    )
    assert run_passes(before, [StoreInt8()]).applied[0][1].changes == 0
