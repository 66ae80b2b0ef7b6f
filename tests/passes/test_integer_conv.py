"""Convolutions on integers, each frame with a range of its own."""

import numpy as np
import onnx_ir as ir
import pytest
from passes.graphs import graph, normal, operators, run, snr

from gsvexport.backends.onnxruntime import dynamic
from gsvexport.passes.base import constant, run_passes
from gsvexport.passes.integer_conv import IntegerConv, fits


def convolution(width, outputs, taps, pads, bias=True, **attributes):
    given = ["x", "w", "b"] if bias else ["x", "w"]
    weights = {"w": normal(outputs, width, taps), "b": normal(outputs, seed=1)}
    return graph(
        [("Conv", given, ["y"], {"kernel_shape": [taps], "pads": pads, **attributes})],
        {"x": [1, width * attributes.get("group", 1), "T"]},
        {"y": [1, outputs, "F"]},
        {name: weights[name] for name in given[1:]},
    )


def lowered(model, bits=8):
    return run_passes(model, [IntegerConv(("Conv-y",), bits)]).model


@pytest.mark.parametrize(("bits", "least"), [(8, 35), (7, 31)])
@pytest.mark.parametrize(
    ("width", "outputs", "taps", "pads", "bias"),
    [(24, 40, 5, [2, 2], True), (40, 24, 3, [1, 1], True), (40, 24, 3, [2, 0], False), (24, 24, 1, [0, 0], True)],
)
def test_signal_to_noise_is_that_of_the_bits(width, outputs, taps, pads, bias, bits, least):
    before = convolution(width, outputs, taps, pads, bias)
    after = lowered(before, bits)
    assert operators(after)["Conv"] == 0
    feeds = {"x": normal(1, width, 50, seed=2)}
    wanted, found = (run(model, feeds)["y"] for model in (before, after))
    assert found.shape == wanted.shape
    assert snr(found, wanted) > least
    stored = constant(after.graph.initializers[f"w:f{bits}"])
    # Pairs of 7-bit weights and frames fit into 16 bits, whatever they are.
    assert (stored.min(), stored.max()) == ((1, 255) if bits == 8 else (1, 127))


@pytest.mark.parametrize(("width", "outputs"), [(16, 24), (24, 16)])
def test_a_loud_frame_does_not_coarsen_those_that_do_not_hear_it(width, outputs):
    model, x = lowered(convolution(width, outputs, 3, [1, 1])), normal(1, width, 20)
    x[:, :, 12:15] = 0
    louder = x.copy()
    louder[:, :, 5] *= 1e4
    quiet, loud = (run(model, {"x": one})["y"] for one in (x, louder))
    apart = [*range(4), *range(7, 20)]
    assert np.array_equal(quiet[:, :, apart], loud[:, :, apart])
    assert np.array_equal(quiet[0, :, 13], normal(outputs, seed=1))  # frames of zeros leave the bias


@pytest.mark.parametrize("attributes", [{"strides": [2]}, {"dilations": [2]}, {"group": 2}])
def test_what_is_no_plain_convolution_of_frames_is_left_alone(attributes):
    assert not any(fits(node) for node in convolution(16, 16, 3, [1, 1], **attributes).graph)
    assert all(fits(node) for node in convolution(16, 16, 3, [1, 1]).graph)


def test_layers_from_codes_to_the_latent_by_what_they_do(source):
    plain = ir.load(source.path / source.model.files["acoustic"])
    found = dynamic.groups(plain)
    couplings = {f"flow {2 * number}" for number in range(4)}
    assert set(found) == {"scores", "values", "feed-forward", "edges", "others", *couplings}
    assert 2 * found["edges"].cost < min(found[name].cost for name in couplings)
    tables = dynamic.tables(plain)
    assert len(tables) == 8  # keys and values of 4 layers
    apart = dynamic.exact(plain)
    [prior] = set(apart) - set(tables)  # its means and deviations
    assert not set(apart) & {name for group in found.values() for name in group.outputs}
    nodes = [name for group in found.values() for name in group.nodes]
    after = run_passes(plain, dynamic.dynamic("acoustic", ["avx2"], nodes, apart)).model
    assert not {"Conv", "MatMulNBits", "DequantizeLinear"} & set(operators(after))
    [product] = [node for node in after.graph if prior in [str(value.name) for value in node.outputs]]
    assert product.op_type == "MatMul"


def test_what_goes_back_to_floats_is_float(source):
    """Its weights, too: in 8 bits they alone made half of the noise."""
    model = ir.load(source.path / source.model.files["acoustic"])
    found = dynamic.groups(model)
    integers = [node for name, group in found.items() if name != "edges" for node in group.nodes]
    floats = (*dynamic.exact(model), *found["edges"].outputs)
    after = run_passes(model, dynamic.dynamic("acoustic", ["avx2"], integers, floats)).model
    assert operators(after)["Conv"] == len(found["edges"].nodes)
    assert not operators(after)["DequantizeLinear"]


def test_an_order_is_found_on_a_few_utterances_and_the_decision_made_on_more(source):
    """One of twelve is worse than all others; those that the order is found on do not tell."""
    path, random = source.path / source.model.files["acoustic"], np.random.default_rng(1)
    model, dims = ir.load(path), source.model.dims

    def utterance(number):
        codes = random.integers(dims.codes, size=(1, 4))
        ge = random.standard_normal((1, dims.G, 1), dtype=np.float32)
        noise = random.standard_normal((1, dims.I, 8), dtype=np.float32)
        phones = random.integers(dims.text_phones, size=(1, 3 + number % 2))
        every = {"codes": codes, "phones": phones, "ge": ge, "noise": noise, "noise_scale": np.array(0.5, np.float32)}
        return {name.name: every[name.name] for name in model.graph.inputs}

    heard = []

    def damage(pairs):
        heard.append(len(pairs))
        return 1.0 if len(pairs) == 12 and len(heard) < 12 else 0.1

    found = dynamic.quantise("acoustic", path, model, [utterance(n) for n in range(12)], ["avx2"], damage)
    groups = len(found.decisions.groups)
    assert heard == [12, *[3] * groups, *[12] * (11 - groups)]
    assert sum(group.precision == "float" for group in found.decisions.groups) == 11 - groups
