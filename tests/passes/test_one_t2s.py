"""The joined graph against the source's two stages, on a voice with odd sizes; the cache's tail holds garbage."""

import numpy as np
import onnx_ir as ir
import pytest
from passes.graphs import run as run_in_memory

from gsvexport.errors import PassError
from gsvexport.passes.base import run_passes
from gsvexport.passes.one_t2s import OneT2S

CAPACITY = 24


def run(model, feeds):
    return run_in_memory(ir.external_data.load_to_model(model.clone()), feeds)


@pytest.fixture(scope="module")
def joined(source, stages):
    dims = source.model.dims
    return run_passes(stages["prefill"], [OneT2S(dims.H, dims.D, dims.L)]).model


def feeds(dims, ids, positions, text, cached, bert, caches):
    return {
        "ids": np.asarray(ids, np.int32)[None],
        "positions": np.asarray(positions, np.int32)[None],
        "text": np.array([text], np.int32),
        "cached": np.array([cached], np.int32),
        "bert": bert,
        "keys": caches[0],
        "values": caches[1],
    }


def garbage(dims, capacity):
    random = np.random.default_rng(9)
    return [random.normal(0, 50, (dims.L, 1, capacity, dims.D)).astype(np.float32) for _ in range(2)]


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
    found = run(joined, feeds(dims, ids, places, 9, 0, padded, garbage(dims, 1)))
    for name, ours in (("logits", "logits"), ("keys", "new_keys"), ("values", "new_values")):
        np.testing.assert_allclose(found[ours], expected[name], atol=1e-5)

    caches, grown = garbage(dims, CAPACITY), [expected["keys"], expected["values"]]
    for cache, rows_found in zip(caches, grown, strict=True):
        cache[:, :, :rows] = rows_found
    none = np.zeros((1, 1024, 1), np.float32)
    for index in range(4):
        place = prompt + index
        token = {"token": codes[None, place : place + 1], "position": np.array([place])}
        expected = run(stages["step"], {**token, "keys": grown[0], "values": grown[1]})
        ids = dims.phones + codes[place : place + 1]
        found = run(joined, feeds(dims, ids, [place], 0, rows + index, none, caches))
        np.testing.assert_allclose(found["logits"], expected["logits"], atol=1e-5)
        for kind, cache in enumerate(caches):
            name = ("new_keys", "new_values")[kind]
            np.testing.assert_allclose(found[name], expected[name], atol=1e-5)
            cache[:, :, rows + index] = found[name][:, :, 0]
            grown[kind] = np.concatenate([grown[kind], expected[name]], axis=2)


def test_no_shape_depends_on_data(joined):
    """Only capacity and rows, which an engine knows from its inputs' shapes, may decide a shape."""
    data = {"ids", "positions", "text", "cached"}
    for node in joined.graph:
        if node.op_type in ("Shape",):
            continue
        if data & {value.name for value in node.inputs if value is not None}:
            data |= {value.name for value in node.outputs}
    shaping = {"Reshape": (1,), "Slice": (1, 2, 3), "Range": (0, 1, 2), "Expand": (1,), "Unsqueeze": (1,)}
    for node in joined.graph:
        for index in shaping.get(node.op_type, ()):
            assert node.inputs[index].name not in data, f"{node.name} is shaped by data"


def test_another_graph_is_refused(stages):
    with pytest.raises(PassError, match="not the source's prefill"):
        run_passes(stages["step"], [OneT2S(2, 32, 2)])
