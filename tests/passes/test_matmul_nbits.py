import numpy as np
import pytest
from passes.graphs import graph, normal, operators, run, snr

from gsvexport.errors import PassError
from gsvexport.passes.base import run_passes
from gsvexport.passes.matmul_nbits import MatMulNBits, pack, quantise_blocks


def product(rows=64, columns=32):
    return graph(
        [("MatMul", ["x", "w"], ["y"], {})],
        {"x": [1, "T", rows]},
        {"y": [1, "T", columns]},
        {"w": normal(rows, columns)},
    )


@pytest.mark.parametrize(("bits", "expected"), [(8, 38), (4, 15)])
@pytest.mark.parametrize("length", [1, 9])
@pytest.mark.parametrize("rows", [64, 80])
def test_signal_to_noise_of_random_weights(bits, expected, length, rows):
    before = product(rows)
    after = run_passes(before, [MatMulNBits(bits, 32)]).model
    assert operators(after) == {"MatMulNBits": 1}
    feeds = {"x": normal(1, length, rows, seed=1)}
    assert snr(run(after, feeds)["y"], run(before, feeds)["y"]) > expected


def test_the_most_negative_integer_is_never_used():
    weight = normal(64, 16)
    weight[0] = -np.abs(weight).max() * 2
    for bits in (4, 8):
        q, _ = quantise_blocks(weight, bits, 32)
        assert q.min() == -(2 ** (bits - 1) - 1)


def test_integers_times_scales_give_the_weight_back():
    weight = normal(48, 8)
    q, scales = quantise_blocks(weight, 8, 32)
    back = (q * scales[:, :, None]).reshape(8, -1)[:, :48].T
    assert np.abs(back - weight).max() <= scales.max() / 2 + 1e-7


def test_four_bit_scales_are_at_least_as_good_as_the_largest_value():
    weight = normal(256, 8)
    q, scales = quantise_blocks(weight, 4, 64)
    blocks = weight.T.reshape(8, -1, 64)
    plain = np.abs(blocks).max(axis=2) / 7
    naive = np.rint(blocks / plain[..., None]) * plain[..., None]
    assert np.square(q * scales[..., None] - blocks).sum() <= np.square(naive - blocks).sum()


def test_two_integers_share_a_byte_low_half_first():
    assert pack(np.array([[[-7, 7, 0, 1]]], np.int8), 4).tolist() == [[[0x1 | 0xF << 4, 0x8 | 0x9 << 4]]]


def test_a_product_that_feeds_a_named_output_is_kept():
    result = run_passes(product(), [MatMulNBits(8, 32, keep_outputs=("y",))])
    assert operators(result.model) == {"MatMul": 1}
    assert "1 stay float" in result.applied[0][1].notes[0]


def test_impossible_parameters_are_refused():
    with pytest.raises(PassError, match="bits must be 4 or 8"):
        run_passes(product(), [MatMulNBits(3, 32)])
