"""Integers with channels last: the same numbers as the pairs that they are made of, and no other layout in between."""

import numpy as np
import pytest
from passes.generator import BLOCKS, LAYERS, X, convolutions, pairs, ranges, up, vocoder
from passes.graphs import graph, normal, operators, run, snr

from gsvexport.passes.base import constant, run_passes
from gsvexport.passes.channels_last import DOMAIN, ChannelsLast
from gsvexport.passes.quantise_conv import QuantiseConv
from gsvexport.passes.quantise_sums import QuantiseSums
from gsvexport.passes.wide_conv import WideConv

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


def test_shifted_weights_give_the_same_numbers(forms):
    plain, shifted = (run_passes(forms["all"], [ChannelsLast(least)]).model for least in (None, 5))
    np.testing.assert_array_equal(run(shifted, {"in": X})["y"], run(plain, {"in": X})["y"])
    zeros = [set(constant(node.inputs[5])) for node in shifted.graph if node.op_type == "QLinearConv"]
    wide = [constant(node.inputs[3]).shape[1] >= 5 for node in shifted.graph if node.op_type == "QLinearConv"]
    assert zeros == [{-1} if one else {0} for one in wide]
    assert set(wide) == {True, False}


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
