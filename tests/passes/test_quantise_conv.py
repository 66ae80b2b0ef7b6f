import numpy as np
import pytest
from passes.graphs import graph, normal, operators, run, snr

from gsvexport.passes.base import constant, run_passes
from gsvexport.passes.quantise_conv import QuantiseConv, affine, channel_scales


def convolution():
    return graph(
        [
            ("Conv", ["x", "w", "b"], ["a"], {"kernel_shape": [1, 3], "pads": [0, 1, 0, 1]}),
            ("Relu", ["a"], ["y"], {}),
        ],
        {"x": [1, 8, 1, "T"]},
        {"y": [1, 6, 1, "T"]},
        {"w": normal(6, 8, 1, 3), "b": normal(6)},
    )


X = normal(1, 8, 1, 200, seed=1)
RANGES = {"x": (float(X.min()), float(X.max())), "a": (-25.0, 25.0)}


@pytest.mark.parametrize(("bits", "expected"), [(8, 30), (7, 28)])
def test_signal_to_noise_with_true_ranges(bits, expected):
    before = convolution()
    after = run_passes(before, [QuantiseConv(RANGES, bits)]).model
    assert snr(run(after, {"x": X})["y"], run(before, {"x": X})["y"]) > expected


def test_weights_are_symmetric_int8_for_each_channel_and_the_bias_is_int32():
    after = run_passes(convolution(), [QuantiseConv(RANGES)]).model
    by_type = {constant(v).dtype.name: constant(v) for v in after.graph.initializers.values() if constant(v).size > 6}
    assert by_type.keys() == {"int8"}
    assert np.abs(by_type["int8"].astype(int)).reshape(6, -1).max(axis=1).tolist() == [127] * 6
    assert any(constant(v).dtype == np.int32 and constant(v).size == 6 for v in after.graph.initializers.values())


def test_a_convolution_without_a_range_stays_float():
    result = run_passes(convolution(), [QuantiseConv({"x": (-1, 1)})])
    assert operators(result.model) == {"Conv": 1, "Relu": 1}
    assert "1 stay float" in result.applied[0][1].notes[0]


def test_a_skipped_convolution_stays_float():
    assert operators(run_passes(convolution(), [QuantiseConv(RANGES, skip=("Conv-a",))]).model)["QuantizeLinear"] == 0


def test_a_clipped_range_shows_in_the_numbers():
    before = convolution()
    narrow = {**RANGES, "a": (-1.0, 1.0)}
    after = run_passes(before, [QuantiseConv(narrow)]).model
    assert snr(run(after, {"x": X})["y"], run(before, {"x": X})["y"]) < 10


@pytest.mark.parametrize(("low", "high"), [(-1.0, 3.0), (0.5, 2.0), (-3.0, -1.0), (0.0, 0.0)])
def test_zero_is_always_exact(low, high):
    scale, zero = affine(low, high)
    assert scale > 0
    assert 0 <= zero <= 255
    assert (0 - zero) * scale <= min(low, 0) + scale
    assert (255 - zero) * scale >= max(high, 0) - scale


def test_a_channel_of_zeros_has_a_usable_scale():
    assert np.isfinite(1 / channel_scales(np.zeros((2, 3, 1, 1), np.float32), 127)).all()


def test_convolutions_that_follow_each_other_directly_share_the_tensor_between_them():
    before = graph(
        [
            ("Conv", ["x", "w1"], ["a"], {"kernel_shape": [1, 1]}),
            ("Conv", ["a", "w2"], ["y"], {"kernel_shape": [1, 1]}),
        ],
        {"x": [1, 8, 1, "T"]},
        {"y": [1, 4, 1, "T"]},
        {"w1": normal(6, 8, 1, 1), "w2": normal(4, 6, 1, 1)},
    )
    ranges = {"x": RANGES["x"], "a": (-15.0, 15.0), "y": (-40.0, 40.0)}
    after = run_passes(before, [QuantiseConv(ranges)]).model
    assert operators(after) == {"QuantizeLinear": 3, "DequantizeLinear": 5, "Conv": 2}
    assert snr(run(after, {"x": X})["y"], run(before, {"x": X})["y"]) > 25
