"""Which layers of a vocoder become integers, on a graph with two rates and a layer that cannot bear it."""

import numpy as np
import pytest
from passes.graphs import graph, normal, operators

from gsvexport.backends.onnxruntime import BACKEND, int8
from gsvexport.backends.onnxruntime.recipes import quantised, recipe
from gsvexport.errors import BackendError
from gsvexport.passes.base import run_passes
from gsvexport.passes.channels_last import ChannelsLast
from gsvexport.passes.conv2d import Conv2d
from gsvexport.passes.polyphase import Polyphase

FEEDS = [{"latent": normal(1, 4, 30, seed=n)} for n in range(3)]
RANGES = (-60.0, 60.0)


def vocoder():
    """latent → conv → upsample x5 → conv → audio, in the float form that int8 starts from."""
    plain = graph(
        [
            ("Conv", ["latent", "w1"], ["a"], {"kernel_shape": [3], "pads": [1, 1]}),
            ("ConvTranspose", ["a", "w2"], ["b"], {"kernel_shape": [9], "strides": [5], "pads": [2, 2]}),
            ("Conv", ["b", "w3"], ["c"], {"kernel_shape": [3], "pads": [1, 1]}),
            ("Conv", ["c", "w4"], ["audio"], {"kernel_shape": [1]}),
        ],
        {"latent": [1, 4, "F"]},
        {"audio": [1, 1, "N"]},
        {"w1": normal(4, 4, 3), "w2": normal(4, 4, 9), "w3": normal(4, 4, 3), "w4": normal(1, 4, 1)},
    )
    return run_passes(plain, [Conv2d(), Polyphase()]).model


def relative_noise(pairs):
    return max(float(np.sqrt(np.mean(np.square(found - one)) / np.mean(np.square(one)))) for one, found in pairs)


def quantise(model, damage):
    ranges = dict.fromkeys(int8.quantised_tensors(model), RANGES)
    return int8.quantise(model, ranges, FEEDS, ("dotprod",), damage)


def test_layers_are_grouped_by_the_rate_they_run_at():
    found = int8.groups(vocoder())
    assert {name: len(group.nodes) for name, group in found.items()} == {"x1": 1, "to x5": 1, "x5": 1, "last": 1}
    # Multiplications a frame: 4·4·3 at x1; 3 taps for each of 5 phases and 4·4·3 at 5 times the rate; 1·4 there, too.
    assert {name: group.cost for name, group in found.items()} == {"x1": 48, "to x5": 240, "x5": 240, "last": 20}
    assert [name for name, group in found.items() if group.leads_to == "x5"] == ["to x5"]


def test_everything_becomes_integer_where_the_gates_allow_it():
    result = quantise(vocoder(), lambda pairs: relative_noise(pairs) / 100)
    assert "none stays float" in result.notes[-1]
    assert "1 convolutions read 16 bits" in result.notes[0]
    assert "3 convolutions are INT8" in result.notes[1]
    assert operators(result.model)["QLinearConv"] == 3
    assert operators(result.model)["MatMulIntegerToFloat"] == 2


def test_what_frees_most_for_the_least_arithmetic_becomes_float_first_and_no_more_than_needed():
    model = vocoder()
    everything = quantise(model, relative_noise)
    alone = dict(item.rsplit(" ", 1) for item in everything.notes[-2].partition(": ")[2].split(", "))
    costs = {name: group.cost for name, group in int8.groups(model).items()}
    worst = max(alone, key=lambda name: float(alone[name]) ** 2 / costs[name])
    assert everything.notes[-1].startswith("none stays float")
    reached = float(everything.notes[-1].split("; ")[1].split(" ")[0])
    tight = quantise(model, lambda pairs: 0.71 * relative_noise(pairs) / reached)
    assert tight.notes[-1].startswith(f"float: {worst};")


def test_gates_that_integers_cannot_meet_leave_everything_float():
    result = quantise(vocoder(), lambda pairs: 1e6 * relative_noise(pairs))
    assert operators(result.model)["QuantizeLinear"] == 0
    assert result.notes[-1].startswith("float:")


def test_what_was_measured_and_decided_is_told_in_numbers_too():
    result = quantise(vocoder(), lambda pairs: relative_noise(pairs) / 100)
    decisions = result.decisions
    assert [(one.name, one.layers, one.cost) for one in decisions.groups] == [
        ("x1", 1, 48),
        ("to x5", 1, 240),
        ("x5", 1, 240),
        ("last", 1, 20),
    ]
    assert {one.precision for one in decisions.groups} == {"int8"}
    told = result.notes[-2].partition(": ")[2]
    assert told == ", ".join(f"{one.name} {one.alone:.3g}" for one in decisions.groups)
    assert 0 < decisions.reached <= decisions.allowed < 1
    refused = quantise(vocoder(), lambda pairs: 1e6 * relative_noise(pairs)).decisions
    assert {one.precision for one in refused.groups} == {"float"}


@pytest.mark.parametrize(
    ("features", "bits"), [(("avx2",), 7), (("avx2", "avx512-vnni"), 8), (("dotprod",), 8), ((), 7)]
)
def test_weights_have_seven_bits_where_products_saturate(features, bits):
    model = vocoder()
    ranges = dict.fromkeys(int8.quantised_tensors(model), RANGES)
    result = int8.quantise(model, ranges, FEEDS, features, lambda pairs: 0.0)
    assert f"({bits}-bit weights)" in result.notes[1]


@pytest.mark.parametrize(("features", "least"), [(("avx2", "avx512-vnni"), None), (("avx512-vnni", "amx"), 256)])
def test_convolutions_run_as_products_where_the_target_names_amx(features, least):
    (last,) = [one for one in quantised({}, features, ()) if isinstance(one, ChannelsLast)]
    assert last.products_from == least


def test_a_precision_that_a_role_cannot_have_is_refused_with_those_it_can():
    for role, known in BACKEND.precisions.items():
        if "int4-weights" not in known:
            with pytest.raises(BackendError, match="cannot lower stage"):
                recipe("stage", role, "int4-weights", None, [])
