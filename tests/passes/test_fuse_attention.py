"""Fused attention against the plain graphs of a tiny T2S network, at several lengths."""

import numpy as np
import pytest
from passes.graphs import ROWS_OF_FOUR_BITS, operators

from gsvexport.backends.onnxruntime.in_place import InPlaceStep, LayeredPrefill
from gsvexport.backends.onnxruntime.session import open_session
from gsvexport.errors import BackendError, PassError
from gsvexport.graphs import t2s
from gsvexport.graphs.builder import GraphBuilder, Weights
from gsvexport.graphs.layers import Tensors
from gsvexport.graphs.save import save_graphs
from gsvexport.passes.base import run_passes
from gsvexport.passes.fuse_attention import FuseStep
from gsvexport.passes.matmul_nbits import MatMulNBits
from gsvexport.passes.prefill_attention import PrefillAttention
from gsvexport.passes.store_fp16 import StoreFp16
from gsvexport.runtime.side_by_side import new_rows
from gsvexport.runtime.tokens import GrowingCacheDecoder, new_decoder
from gsvexport.stages import stages
from gsvexport.synthetic.sizes import voice_sizes
from gsvexport.synthetic.weights import t2s_weights
from gsvexport.voice.dims import T2SDims

DIMS = T2SDims(layers=2, width=64, heads=4, vocab=1025, phones=732, eos=1024)


@pytest.fixture(scope="module")
def graphs():
    """Plain and fused prefill and step of one random network."""
    tensors = Tensors("gpt", t2s_weights(voice_sizes("v2", "tiny", t2s_layers=2, t2s_width=64, t2s_heads=4), 0))
    weights = Weights()
    plain = {
        "prefill": t2s.prefill(GraphBuilder(stages("v2")["prefill"], weights), tensors, DIMS),
        "step": t2s.step(GraphBuilder(stages("v2")["step"], weights), tensors, DIMS),
    }
    fused = {
        "prefill": run_passes(plain["prefill"], [PrefillAttention(DIMS.heads, DIMS.width)]).model,
        "step": run_passes(plain["step"], [FuseStep(DIMS.heads, DIMS.width)]).model,
    }
    return {"plain": plain, "fused": fused}


@pytest.fixture(scope="module")
def sessions(graphs, tmp_path_factory):
    """Plain and fused (prefill, step) sessions."""
    opened, fused = [], graphs["fused"]
    for name, pair in graphs.items():
        folder = tmp_path_factory.mktemp(name)
        save_graphs(folder, pair)
        opened.append([open_session(folder / f"{stage}.onnx", threads=1) for stage in pair])
    assert isinstance(opened[1][0], LayeredPrefill)
    assert isinstance(opened[1][1], InPlaceStep)
    assert operators(fused["step"])["GroupQueryAttention"] == 2
    assert operators(fused["prefill"])["Softmax"] == 6  # text, codes in four parts; and one row of the last layer
    return opened


@pytest.mark.parametrize(("phones", "prompt"), [(13, 0), (1, 1), (9, 21)])
def test_heads_may_be_taken_from_columns(graphs, sessions, tmp_path, phones, prompt):
    turned = run_passes(graphs["plain"]["prefill"], [PrefillAttention(DIMS.heads, DIMS.width, turned=True)]).model
    save_graphs(tmp_path, {"prefill": turned})
    feeds = sentence(phones, prompt)
    expected, found = sessions[0][0].run(feeds), open_session(tmp_path / "prefill.onnx", threads=1).run(feeds)
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], atol=2e-5)


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


@pytest.fixture(scope="module", params=["fp32", "int8", pytest.param("int4", marks=ROWS_OF_FOUR_BITS)])
def stored(request, sessions, graphs, tmp_path_factory):
    """Fused (prefill, step) sessions in each of the precisions that a target may ask for."""
    if request.param == "fp32":
        return sessions[1]
    bits, block = {"int8": (8, 64), "int4": (4, 32)}[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    passes = [MatMulNBits(bits, block, ("logits",)), StoreFp16()]
    save_graphs(folder, {name: run_passes(graph, passes).model for name, graph in graphs["fused"].items()})
    return [open_session(folder / f"{stage}.onnx", threads=1) for stage in ("prefill", "step")]


def test_each_row_has_the_very_logits_that_it_gets_alone(stored):
    """Sentences enter and leave between steps, and their caches grow."""
    prefill, step = stored
    rows = new_rows(prefill, step, 4)
    assert rows.most == 4
    said = [sentence(3 + 17 * index, 5 * (index % 3), seed=index) for index in range(9)]
    lengths = [40, 7, 300, 1, 23, 90, 60, 15, 33]
    alone = [_alone(stored, one, count) for one, count in zip(said, lengths, strict=True)]
    waiting, active = list(range(9)), []
    while waiting or active:
        while waiting and len(active) < rows.most:
            index = waiting.pop(0)
            np.testing.assert_array_equal(rows.enter(**said[index]), alone[index][0])
            active.append((index, 0))
        codes = [(7 * index + count) % 1024 for index, count in active]
        found = rows.step(codes, [said[index]["prompt"].shape[1] + count for index, count in active])
        for (index, count), logits in zip(active, found, strict=True):
            np.testing.assert_array_equal(logits, alone[index][count + 1])
        active = [(index, count + 1) for index, count in active]
        for place in reversed(range(len(active))):
            if active[place][1] == lengths[active[place][0]]:
                rows.leave(place)
                active[place] = active[-1]
                active.pop()


def _alone(stored, one, count):
    index, prompt = (one["phones"].shape[1] - 3) // 17, one["prompt"].shape[1]
    decoder = new_decoder(*stored)
    found = [decoder.prefill(**one)]
    return [*found, *(decoder.step((7 * index + place) % 1024, prompt + place) for place in range(count))]


def test_a_step_whose_rows_differ_beside_others_writes_one_sentence_at_a_time(stored, monkeypatch):
    prefill, step = stored
    monkeypatch.setattr(step, "_independent", {})
    run = step.graph
    monkeypatch.setattr(
        step,
        "graph",
        lambda feeds: {k: v + (len(v) > 2) * np.spacing(v) for k, v in run(feeds).items()},
    )
    assert new_rows(prefill, step, 4).most == 1
    assert new_rows(prefill, step, 2).most == 2


def test_more_sentences_than_rows_are_refused(stored):
    rows = new_rows(*stored, 2)
    for seed in range(2):
        rows.enter(**sentence(4, 0, seed))
    with pytest.raises(BackendError, match="2 sentences are being written"):
        rows.enter(**sentence(4, 0))
    with pytest.raises(BackendError, match="1 codes for 2 sentences"):
        rows.step([1], [0])
