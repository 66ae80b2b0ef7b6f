import numpy as np
import pytest
from passes.graphs import graph, normal, operators, run

from gsvexport.passes.base import run_passes
from gsvexport.passes.conv2d import Conv2d


def chain():
    """Two convolutions with an activation and a residual sum between them."""
    return graph(
        [
            ("Conv", ["x", "w1", "b1"], ["a"], {"pads": [1, 1], "kernel_shape": [3]}),
            ("LeakyRelu", ["a"], ["b"], {"alpha": 0.1}),
            ("Conv", ["b", "w2"], ["c"], {"pads": [2, 2], "dilations": [2], "kernel_shape": [3]}),
            ("Add", ["a", "c"], ["y"], {}),
        ],
        {"x": [1, 4, "T"]},
        {"y": [1, 6, "T"]},
        {"w1": normal(6, 4, 3), "b1": normal(6), "w2": normal(6, 6, 3, seed=1)},
    )


def test_a_chain_is_exact_and_reshaped_only_at_its_ends():
    before = chain()
    after = run_passes(before, [Conv2d()]).model
    feeds = {"x": normal(1, 4, 17)}
    np.testing.assert_allclose(run(after, feeds)["y"], run(before, feeds)["y"], atol=2e-5)
    assert operators(after)["Unsqueeze"] == operators(after)["Squeeze"] == 1
    assert operators(before)["Unsqueeze"] == 0, "the input graph must not change"


@pytest.mark.parametrize("stride", [1, 2, 5])
def test_transposed_convolutions_keep_stride_and_padding(stride):
    before = graph(
        [("ConvTranspose", ["x", "w"], ["y"], {"strides": [stride], "pads": [1, 1], "kernel_shape": [stride + 2]})],
        {"x": [1, 3, "T"]},
        {"y": [1, 5, "N"]},
        {"w": normal(3, 5, stride + 2)},
    )
    feeds = {"x": normal(1, 3, 9)}
    after = run_passes(before, [Conv2d()]).model
    np.testing.assert_allclose(run(after, feeds)["y"], run(before, feeds)["y"], atol=1e-6)


def test_an_operand_that_is_no_convolution_is_carried_along():
    before = graph(
        [
            ("Conv", ["x", "w"], ["a"], {"kernel_shape": [1]}),
            ("Split", ["x"], ["p", "q"], {"axis": 1}),
            ("Sub", ["p", "a"], ["d"], {}),
            ("Concat", ["d", "q"], ["y"], {"axis": 1}),
        ],
        {"x": [1, 4, "T"]},
        {"y": [1, 4, "T"]},
        {"w": normal(2, 4, 1)},
    )
    feeds = {"x": normal(1, 4, 5)}
    np.testing.assert_allclose(
        run(run_passes(before, [Conv2d()]).model, feeds)["y"], run(before, feeds)["y"], atol=1e-5
    )


def test_a_matrix_next_to_a_convolution_stays_as_it_is():
    before = graph(
        [
            ("Conv", ["x", "w"], ["a"], {"kernel_shape": [1]}),
            ("MatMul", ["a", "m"], ["y"], {}),
        ],
        {"x": [1, 4, 7]},
        {"y": [1, 2, 3]},
        {"w": normal(2, 4, 1), "m": normal(7, 3)},
    )
    feeds = {"x": normal(1, 4, 7)}
    np.testing.assert_allclose(
        run(run_passes(before, [Conv2d()]).model, feeds)["y"], run(before, feeds)["y"], atol=1e-6
    )
