"""Integers with channels last: the same numbers as the pairs that they are made of, and no other layout in between."""

import numpy as np
import pytest
from passes.graphs import graph, normal, operators, run, snr

from gsvexport.calibrate.probe import observe
from gsvexport.calibrate.ranges import Estimator
from gsvexport.passes.base import constant, run_passes
from gsvexport.passes.channels_last import DOMAIN, ChannelsLast
from gsvexport.passes.conv2d import Conv2d
from gsvexport.passes.merge_equal import MergeEqual
from gsvexport.passes.polyphase import Polyphase
from gsvexport.passes.quantise_conv import QuantiseConv
from gsvexport.passes.quantise_sums import QuantiseSums
from gsvexport.passes.small_sums_first import SmallSumsFirst
from gsvexport.passes.wide_conv import WideConv

X = normal(1, 4, 30, seed=5)
BLOCKS, LAYERS = 2, 2


def vocoder(dilation=2, alpha=0.1):
    """conv → leaky ReLU → upsampling → two residual blocks, averaged → leaky ReLU → conv."""
    nodes = [
        ("Conv", ["in", "pre"], ["p"], {"kernel_shape": [3], "pads": [1, 1]}),
        ("LeakyRelu", ["p"], ["pl"], {"alpha": alpha}),
        ("ConvTranspose", ["pl", "up", "ub"], ["x"], {"strides": [3], "pads": [1, 1], "kernel_shape": [5]}),
    ]
    weights = {"pre": normal(6, 4, 3) / 3, "up": normal(6, 5, 5, seed=2) / 3, "ub": normal(5), "post": normal(1, 5, 3)}
    ends = []
    for block in range(BLOCKS):
        value = "x"
        for layer in range(LAYERS):
            name = f"{block}{layer}"
            weights |= {f"w{name}": normal(5, 5, 3, seed=block + 9 * layer) / 4, f"b{name}": normal(5, seed=layer)}
            window = {"kernel_shape": [3], "pads": [dilation] * 2, "dilations": [dilation]}
            nodes += [
                ("LeakyRelu", [value], [f"l{name}"], {"alpha": alpha}),
                ("Conv", [f"l{name}", f"w{name}", f"b{name}"], [f"c{name}"], window),
                ("Add", [value, f"c{name}"], [f"s{name}"], {}),
            ]
            value = f"s{name}"
        ends.append(value)
    weights["mean"] = np.array(1 / BLOCKS, np.float32)
    nodes += [
        ("Add", ends, ["t"], {}),
        ("Mul", ["t", "mean"], ["m"], {}),
        ("LeakyRelu", ["m"], ["a"], {"alpha": 0.01}),
        ("Conv", ["a", "post"], ["y"], {"kernel_shape": [3], "pads": [1, 1]}),
    ]
    plain = graph(nodes, {"in": [1, 4, "F"]}, {"y": [1, 1, "N"]}, weights)
    return run_passes(plain, [MergeEqual(), Conv2d(), Polyphase(), SmallSumsFirst(by_block=True)]).model


def ranges(model):
    """What each tensor spans."""
    names = [value.name for node in model.graph for value in node.outputs if node.op_type != "Shape"]
    return observe(model, names, [{"in": X}], Estimator("minmax")) | {"in": (float(X.min()), float(X.max()))}


def convolutions(model):
    return [node.name for node in model.graph if node.op_type == "Conv"]


def up(model):
    return tuple(name for name in convolutions(model) if name.endswith("/phases"))


def pairs(model, *, skip=(), wide=(), sums=True):
    known = ranges(model)
    passes = [WideConv(known, 8, wide), QuantiseConv(known, 8, tuple(skip))]
    return run_passes(model, passes + [QuantiseSums(known)] * sums).model


FORMS = ["all", "wide", "float between", "float blocks", "float ends"]


@pytest.fixture(scope="module")
def forms():
    model = vocoder()
    names = convolutions(model)
    return {
        "all": pairs(model),
        "wide": pairs(model, wide=up(model)),
        "float between": pairs(model, skip=up(model)),
        "float blocks": pairs(model, skip=[name for name in names if "c0" in name or "c1" in name]),
        "float ends": pairs(model, skip=[names[0], names[-1]], wide=up(model)),
    }


@pytest.mark.parametrize("form", FORMS)
def test_the_numbers_are_those_of_the_pairs(forms, form):
    result = run_passes(forms[form], [ChannelsLast()])
    assert result.applied[0][1].changes > 0
    expected, found = run(forms[form], {"in": X})["y"], run(result.model, {"in": X})["y"]
    # A float layer that became one product sums in another order.
    np.testing.assert_allclose(found, expected, atol=1e-5 if form != "all" else 1e-6)


@pytest.mark.parametrize("form", ["all", "wide", "float ends"])
def test_the_layout_changes_where_integers_begin_and_end_and_nowhere_between(forms, form):
    after = run_passes(forms[form], [ChannelsLast()]).model
    assert operators(after)["Transpose"] <= 4  # what 16 bits read, in parts, and the way back
    assert all(node.domain == DOMAIN for node in after.graph if node.op_type.startswith("QLinear"))


def test_float_layers_keep_their_own_layout(forms):
    after = run_passes(forms["float blocks"], [ChannelsLast()]).model
    assert operators(after)["Conv"] == BLOCKS * LAYERS
    # In front of two convolutions, behind one that gives x, and its leaky ReLU stays on that side.
    assert operators(after)["Transpose"] <= 4


def test_a_graph_without_integers_is_left_alone():
    model = vocoder()
    result = run_passes(model, [ChannelsLast()])
    assert result.applied[0][1].changes == 0
    assert operators(result.model) == operators(model)


@pytest.mark.parametrize("weight", [normal(6, 4, 3, 3), normal(4, 2, 1, 3)])
def test_a_convolution_that_is_no_row_or_has_groups_stays_as_it_is(weight):
    groups = 4 // weight.shape[1]
    pads = {"kernel_shape": list(weight.shape[2:]), "pads": [weight.shape[2] // 2, 1] * 2, "group": groups}
    shapes = {"x": [1, 4, 5, "T"]}, {"y": [1, weight.shape[0], 5, "T"]}
    model = graph([("Conv", ["x", "w"], ["y0"], pads), ("Relu", ["y0"], ["y"], {})], *shapes, {"w": weight})
    known = {"x": (-3.0, 3.0), "y0": (-20.0, 20.0)}
    before = run_passes(model, [QuantiseConv(known)]).model
    assert operators(run_passes(before, [ChannelsLast()]).model) == operators(before)


def test_sixteen_bits_lose_what_the_weights_lose_and_eight_far_more():
    model = vocoder()
    known = ranges(model)
    others = [name for name in convolutions(model) if name not in up(model)]
    expected = run(model, {"in": X})["y"]
    narrow = run_passes(model, [QuantiseConv(known, skip=tuple(others))]).model
    wide = run_passes(model, [WideConv(known, 8, up(model))])
    assert wide.applied[0][1].changes == 1
    eight, sixteen = (snr(run(one, {"in": X})["y"], expected) for one in (narrow, wide.model))
    assert sixteen > eight + 3


def test_sums_inside_blocks_are_integers_and_the_total_is_float():
    model = vocoder()
    before, after = pairs(model, sums=False), pairs(model)
    last = run_passes(after, [ChannelsLast()]).model
    # In each block x + c₁, which only its next layer reads, and c₁ + c₂.
    assert operators(last)["QLinearAdd"] == BLOCKS * LAYERS
    assert operators(last)["Add"] == 2  # of the blocks, and with x
    expected = run(model, {"in": X})["y"]
    assert snr(run(after, {"in": X})["y"], expected) > snr(run(before, {"in": X})["y"], expected) - 6


def test_a_sum_without_a_range_or_with_a_float_term_stays_float():
    model = vocoder()
    known = ranges(model)
    integers = run_passes(model, [QuantiseConv(known)]).model
    convolved = {name: span for name, span in known.items() if not name.startswith(("s", "t")) and "Add" not in name}
    assert run_passes(integers, [QuantiseSums(convolved)]).applied[0][1].changes == 0
    assert run_passes(model, [QuantiseSums(known)]).applied[0][1].changes == 0


def test_what_blocks_begin_with_is_computed_once():
    model = vocoder()
    leaky = [node for node in model.graph if node.op_type == "LeakyRelu"]
    assert len(leaky) == 1 + 1 + BLOCKS * (LAYERS - 1) + 1
    assert constant(leaky[0].inputs[0]) is None
