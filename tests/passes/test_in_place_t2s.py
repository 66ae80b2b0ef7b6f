"""The joined graph that writes its cache, against the source's two stages; what is not written holds garbage."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from passes.graphs import operators
from passes.graphs import run as run_in_memory

from gsvexport.errors import PassError
from gsvexport.passes.base import run_passes
from gsvexport.passes.explicit_attention import ExplicitAttention
from gsvexport.passes.in_place_t2s import InPlaceT2S, aliases
from gsvexport.passes.types import annotate_types

CAPACITY, WINDOW = 32, 24
KINDS = ("keys", "values")


def run(model, feeds):
    return run_in_memory(ir.external_data.load_to_model(model.clone()), feeds)


@pytest.fixture(scope="module")
def joined(source, stages):
    dims = source.model.dims
    return run_passes(stages["prefill"], [InPlaceT2S(dims.H, dims.D, dims.L, CAPACITY)]).model


def garbage(dims):
    random = np.random.default_rng(9)
    shape = (1, dims.H, CAPACITY, dims.D // dims.H)
    return {name: random.normal(0, 50, shape).astype(np.float32) for name in aliases(dims.L).values()}


def feeds(ids, positions, text, cached, bert, window, caches):
    numbers = {"ids": [ids], "positions": [positions], "text": [text], "cached": [cached], "slots": np.arange(window)}
    return {**{name: np.asarray(value, np.int32) for name, value in numbers.items()}, "bert": bert, **caches}


def rows_of(found, dims, kind, rows):
    """[L, 1, rows, D] of one kind, from the caches of all layers."""
    layers = [found[f"new_{kind}_{layer}"][0, :, rows] for layer in range(dims.L)]
    return np.stack([one.transpose(1, 0, 2).reshape(1, -1, dims.D) for one in layers])


@pytest.mark.parametrize("prompt", [0, 7])
def test_a_sentence_and_its_codes_come_out_as_from_the_two_stages(source, stages, joined, prompt):
    dims, random = source.model.dims, np.random.default_rng(3)
    phones, codes = random.integers(0, dims.phones, 9), random.integers(0, dims.codes, prompt + 4)
    bert = random.normal(0, 1, (1, 1024, 9)).astype(np.float32)
    expected = run(stages["prefill"], {"phones": phones[None], "bert": bert, "prompt": codes[None, :prompt]})
    rows = 9 + prompt
    ids = np.concatenate([phones, dims.phones + codes[:prompt]])
    places = np.concatenate([np.arange(9), np.arange(prompt)])
    padded = np.pad(bert, ((0, 0), (0, 0), (0, prompt)))
    found = run(joined, feeds(ids, places, 9, 0, padded, rows, garbage(dims)))
    np.testing.assert_allclose(found["logits"], expected["logits"], atol=1e-5)
    for kind in KINDS:
        np.testing.assert_allclose(rows_of(found, dims, kind, slice(0, rows)), expected[kind], atol=1e-5)

    grown, none = {kind: expected[kind] for kind in KINDS}, np.zeros((1, 1024, 1), np.float32)
    for index in range(4):
        place = prompt + index
        token = {"token": codes[None, place : place + 1], "position": np.array([place])}
        expected = run(stages["step"], {**token, **grown})
        caches = {given: found[made] for made, given in aliases(dims.L).items()}
        given = feeds(dims.phones + codes[place : place + 1], [place], 0, rows + index, none, WINDOW, caches)
        found = run(joined, given)
        np.testing.assert_allclose(found["logits"], expected["logits"], atol=1e-5)
        for kind in KINDS:
            new = rows_of(found, dims, kind, slice(rows + index, rows + index + 1))
            np.testing.assert_allclose(new, expected[f"new_{kind}"], atol=1e-5)
            grown[kind] = np.concatenate([grown[kind], expected[f"new_{kind}"]], axis=2)
    for name, cache in garbage(dims).items():  # nothing but the new rows was written
        np.testing.assert_array_equal(found[f"new_{name}"][:, :, rows + 4 :], cache[:, :, rows + 4 :])


def test_each_layer_has_one_attention_and_writes_two_caches(source, joined):
    count = operators(joined)
    assert (count["Attention"], count["TensorScatter"]) == (source.model.dims.L, 2 * source.model.dims.L)
    assert "Softmax" not in count
    assert {port.name for port in joined.graph.outputs} == {"logits", *aliases(source.model.dims.L)}


def test_no_shape_depends_on_data(joined):
    """Only lengths of inputs may decide a shape, so that a run can be recorded and repeated."""
    data = {"ids", "positions", "text", "cached", "slots"}
    for node in joined.graph:
        if node.op_type != "Shape" and data & {value.name for value in node.inputs if value is not None}:
            data |= {value.name for value in node.outputs}
    shaping = {"Reshape": (1,), "Slice": (1, 2, 3), "Range": (0, 1, 2), "Expand": (1,), "Unsqueeze": (1,)}
    for node in joined.graph:
        for index in shaping.get(node.op_type, ()):
            assert node.inputs[index].name not in data, f"{node.name} is shaped by data"


def test_explicit_attention_is_what_onnx_says_attention_is(joined):
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    random = np.random.default_rng(1)
    q, k, v = (random.normal(0, 1, (1, 2, rows, 4)).astype(np.float32) for rows in (3, 8, 8))
    mask = np.arange(8)[None, None, None] <= np.array([5, 6, 7])[None, None, :, None]
    given = {"q": q, "k": k, "v": v, "m": mask}
    ports = [helper.make_tensor_value_info(n, 9 if n == "m" else 1, a.shape) for n, a in given.items()]
    node = helper.make_node("Attention", list(given), ["out"], name="a", scale=1.0)
    out = helper.make_tensor_value_info("out", 1, q.shape)
    whole = helper.make_model(
        helper.make_graph([node], "stage", ports, [out]), opset_imports=[helper.make_opsetid("", 24)], ir_version=12
    )
    onnx.checker.check_model(whole)
    [expected] = ReferenceEvaluator(whole).run(None, given)
    explicit = run_passes(ir.from_proto(whole), [ExplicitAttention()]).model
    assert "Attention" not in operators(explicit)
    np.testing.assert_allclose(run_in_memory(explicit, given)["out"], expected, atol=1e-6)
    np.testing.assert_allclose(run_in_memory(ir.from_proto(whole), given)["out"], expected, atol=1e-6)


def test_an_attention_with_more_to_it_is_not_made_explicit(joined):
    other = joined.clone()
    annotate_types(other)
    next(node for node in other.graph if node.op_type == "Attention").attributes["scale"] = ir.AttrFloat32("scale", 0.5)
    with pytest.raises(PassError, match="is more than"):
        run_passes(other, [ExplicitAttention()])


def test_another_graph_is_refused(stages):
    with pytest.raises(PassError, match="not the source's prefill"):
        run_passes(stages["step"], [InPlaceT2S(2, 32, 2, CAPACITY)])
