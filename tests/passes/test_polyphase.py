import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from passes.graphs import graph, normal, operators, run

from gsvexport.passes.base import run_passes
from gsvexport.passes.conv2d import Conv2d
from gsvexport.passes.polyphase import Polyphase


def upsampler(channels, outputs, stride, padding, length, *, extra=0):
    kernel = stride + 2 * padding + extra
    settings = {"strides": [stride], "pads": [padding] * 2, "kernel_shape": [kernel]}
    return graph(
        [("ConvTranspose", ["x", "w", "b"], ["y"], settings)],
        {"x": [1, channels, length]},
        {"y": [1, outputs, "N"]},
        {"w": normal(channels, outputs, kernel), "b": normal(outputs)},
    )


@given(
    channels=st.integers(1, 5),
    outputs=st.integers(1, 5),
    stride=st.integers(1, 10),
    padding=st.integers(0, 6),
    length=st.integers(1, 12),
)
def test_every_upsampling_is_exact(channels, outputs, stride, padding, length):
    before = upsampler(channels, outputs, stride, padding, length)
    after = run_passes(before, [Conv2d(), Polyphase()]).model
    assert "ConvTranspose" not in operators(after)
    feeds = {"x": normal(1, channels, length, seed=1)}
    expected = run(before, feeds)["y"]
    assert expected.shape[2] == stride * length
    np.testing.assert_allclose(run(after, feeds)["y"], expected, atol=2e-5)


@pytest.mark.parametrize(("rate", "kernel"), [(10, 16), (10, 20), (8, 16), (2, 8), (2, 2), (5, 11)])
def test_upstreams_upsamplers_are_exact(rate, kernel):
    before = upsampler(8, 4, rate, (kernel - rate) // 2, 7)
    after = run_passes(before, [Conv2d(), Polyphase()]).model
    feeds = {"x": normal(1, 8, 7, seed=1)}
    np.testing.assert_allclose(run(after, feeds)["y"], run(before, feeds)["y"], atol=2e-5)


def test_an_output_of_another_length_is_left_alone_and_said():
    before = upsampler(2, 2, 4, 1, 5, extra=1)
    result = run_passes(before, [Conv2d(), Polyphase()])
    assert operators(result.model)["ConvTranspose"] == 1
    assert "not stride times as long" in " ".join(result.applied[-1][1].notes)
