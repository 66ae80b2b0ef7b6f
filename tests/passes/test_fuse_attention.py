"""Fused attention against the plain graphs of a tiny T2S network, at several lengths."""

import numpy as np
import pytest
from passes.graphs import operators

from gsvexport.backends.onnxruntime.in_place import InPlaceStep, LayeredPrefill
from gsvexport.backends.onnxruntime.session import open_session
from gsvexport.errors import PassError
from gsvexport.graphs import t2s
from gsvexport.graphs.builder import GraphBuilder, Weights
from gsvexport.graphs.layers import Tensors
from gsvexport.graphs.save import save_graphs
from gsvexport.passes.base import run_passes
from gsvexport.passes.fuse_attention import FusePrefill, FuseStep
from gsvexport.runtime.tokens import GrowingCacheDecoder, new_decoder
from gsvexport.stages import stages
from gsvexport.synthetic.sizes import voice_sizes
from gsvexport.synthetic.weights import t2s_weights
from gsvexport.voice.dims import T2SDims

DIMS = T2SDims(layers=2, width=64, heads=4, vocab=1025, phones=732, eos=1024)


@pytest.fixture(scope="module")
def sessions(tmp_path_factory):
    """Plain and fused (prefill, step) sessions of one random network."""
    tensors = Tensors("gpt", t2s_weights(voice_sizes("v2", "tiny", t2s_layers=2, t2s_width=64, t2s_heads=4), 0))
    weights = Weights()
    plain = {
        "prefill": t2s.prefill(GraphBuilder(stages("v2")["prefill"], weights), tensors, DIMS),
        "step": t2s.step(GraphBuilder(stages("v2")["step"], weights), tensors, DIMS),
    }
    fused = {
        "prefill": run_passes(plain["prefill"], [FusePrefill(DIMS.heads, DIMS.width)]).model,
        "step": run_passes(plain["step"], [FuseStep(DIMS.heads, DIMS.width)]).model,
    }
    opened = []
    for name, graphs in (("plain", plain), ("fused", fused)):
        folder = tmp_path_factory.mktemp(name)
        save_graphs(folder, graphs)
        opened.append([open_session(folder / f"{stage}.onnx", threads=1) for stage in graphs])
    assert isinstance(opened[1][0], LayeredPrefill)
    assert isinstance(opened[1][1], InPlaceStep)
    assert operators(fused["step"])["GroupQueryAttention"] == operators(fused["prefill"])["MultiHeadAttention"] == 2
    return opened


def sentence(phones, prompt, seed=0):
    random = np.random.default_rng(seed)
    return {
        "phones": random.integers(0, 700, (1, phones)),
        "bert": random.standard_normal((1, 1024, phones), dtype=np.float32),
        "prompt": random.integers(0, 1024, (1, prompt)),
    }


@pytest.mark.parametrize(("phones", "prompt"), [(1, 0), (13, 0), (1, 1), (9, 21), (40, 7)])
def test_stages_keep_their_ports_and_numbers(sessions, phones, prompt):
    (plain_prefill, plain_step), (prefill, step) = sessions
    feeds = sentence(phones, prompt)
    expected, found = plain_prefill.run(feeds), prefill.run(feeds)
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], atol=2e-5)
    feeds = {"token": np.array([[5]]), "position": np.array([prompt]), **{k: expected[k] for k in ("keys", "values")}}
    expected, found = plain_step.run(feeds), step.run(feeds)
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], atol=2e-5)


def test_a_long_sentence_gives_the_same_logits_while_the_cache_grows(sessions):
    feeds = sentence(20, 10)
    decoders = [new_decoder(*pair) for pair in sessions]
    assert isinstance(decoders[0], GrowingCacheDecoder)
    assert not isinstance(decoders[1], GrowingCacheDecoder)
    logits = [decoder.prefill(**feeds) for decoder in decoders]
    for i in range(600):
        np.testing.assert_allclose(logits[1], logits[0], atol=5e-5)
        logits = [decoder.step(int(logits[0][:1024].argmax()) if i % 3 else i, 10 + i) for decoder in decoders]


def test_a_second_sentence_forgets_the_first(sessions):
    decoder = new_decoder(*sessions[1])
    first = decoder.prefill(**sentence(9, 5)).copy()
    decoder.step(3, 5)
    decoder.prefill(**sentence(30, 2, seed=1))
    np.testing.assert_array_equal(decoder.prefill(**sentence(9, 5)), first)


def test_text_that_comes_later_is_seen_but_audio_that_comes_later_is_not(sessions):
    prefill = sessions[1][0]
    feeds = sentence(12, 6)
    base = prefill.run(feeds)["values"]
    other_text = prefill.run({**feeds, "phones": np.concatenate([feeds["phones"][:, :-1], [[1]]], axis=1)})["values"]
    assert np.abs(other_text[1, 0, 0] - base[1, 0, 0]).max() > 1e-4, "the first text row must see the last one"
    other_audio = prefill.run({**feeds, "prompt": np.concatenate([feeds["prompt"][:, :-1], [[1]]], axis=1)})["values"]
    np.testing.assert_allclose(other_audio[:, :, :-1], base[:, :, :-1], atol=1e-6)


def test_a_softmax_that_is_no_attention_is_refused():
    from passes.graphs import graph

    model = graph([("Softmax", ["x"], ["y"], {})], {"x": [2, 3]}, {"y": [2, 3]}, {})
    with pytest.raises(PassError, match="not the middle of an attention"):
        run_passes(model, [FuseStep(4, 64)])
