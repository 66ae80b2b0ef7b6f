"""T2S with a cache that its engine writes in place, against a scripted double of TensorRT (`tensorrt_double.py`)."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from gsvexport.backends.tensorrt import finalize, plans, session
from gsvexport.backends.tensorrt.emulate import opener
from gsvexport.errors import BackendError
from gsvexport.runtime import pipeline
from gsvexport.runtime.sampling import Sampling
from gsvexport.runtime.tokens import GrowingCacheDecoder

NEW, OLD = "10.16.2.10", "10.3.0"
GREEDY = Sampling(greedy=True)
PHONES = list(range(1, 13))
TOLD = {"checks": [], "passed": True, "recorded": True, "recorded_reason": "", "speed": {}, "memory": {}}


def quiet(text):
    pass


def graphs(double):
    return [one["graph"] for one in double.log()]


def kept():
    """The names of T2S's engines that there are."""
    return [json.loads(path.read_text())["key"]["graph"] for path in plans.plan_folder().glob("t2s-*.json")]


@pytest.fixture
def built(monkeypatch):
    """Only build: what follows is not what the test is about."""
    monkeypatch.setattr(finalize, "_checked", lambda *arguments: dict(TOLD))


@pytest.fixture(scope="module")
def plain(unpacked):
    """The same graph, emulated, through the generic decoder: what the device has to say."""
    with pipeline.load(unpacked, any_machine=True, opener=opener("FP16 values with FP32 sums", in_place=True)) as voice:
        voice._new_decoder = GrowingCacheDecoder
        yield voice


@pytest.fixture
def voice(unpacked, device, monkeypatch):
    device(version=NEW)
    with monkeypatch.context() as patch:
        patch.setattr(finalize, "_checked", lambda *arguments: dict(TOLD))
        finalize.finalize(unpacked, quiet, plans.IN_PLACE)
    with pipeline.load(unpacked, any_machine=True) as found:
        yield found


def forced(decoder, count):
    """Logits of a sentence whose codes are given."""
    bert = np.zeros((1, 1024, len(PHONES)), np.float32)
    rows = [decoder.prefill(np.array([PHONES]), bert, np.zeros((1, 0), np.int64))]
    return np.stack(rows + [decoder.step(index % 50, index) for index in range(count)])


def test_it_is_built_proven_and_measured_where_it_is_asked_for(unpacked, device):
    double = device(version=NEW)
    report = finalize.finalize(unpacked, quiet, plans.IN_PLACE)
    assert graphs(double) == ["acoustic.onnx", "t2s.kv.onnx", "vocoder.onnx"]
    assert report["cache"] == {"asked": "in-place", "used": "in-place", "reason": ""}
    judged = {(one["stage"], one["metric"]): one["status"] for one in report["checks"]}
    assert set(judged.values()) == {"pass"}
    assert {("prefill", "cache_error"), ("step", "cache_error"), ("step", "kl"), ("t2s", "half_share")} <= set(judged)
    assert report["recorded"]
    assert report["speed"]["step_ms_graph"]["recorded"]


@pytest.mark.parametrize(
    ("version", "asked", "graph"),
    [
        (NEW, "auto", "t2s.kv.onnx"),
        (NEW, "read-only", "t2s.onnx"),
        ("10.15", "auto", "t2s.kv.onnx"),
        ("10.14.1", "auto", "t2s.onnx"),
        (OLD, "auto", "t2s.onnx"),
    ],
)
def test_in_place_is_the_default_wherever_tensorrt_can(unpacked, device, built, version, asked, graph):
    double = device(version=version)
    report = finalize.finalize(unpacked, quiet, asked)
    assert graphs(double) == ["acoustic.onnx", graph, "vocoder.onnx"]
    assert report["cache"]["used"] == ("in-place" if "kv" in graph else "read-only")
    assert report["cache"]["reason"] == ""


def test_by_itself_it_falls_back_to_a_read_only_cache_and_says_so(unpacked, device, built):
    double, said = device(version=NEW, builds=["ok", "usage"]), []
    report = finalize.finalize(unpacked, said.append)
    assert graphs(double) == ["acoustic.onnx", "t2s.kv.onnx", "t2s.onnx", "vocoder.onnx"]
    assert report["cache"]["used"] == "read-only"
    assert "TensorRT 10.16.2.10 refuses" in report["cache"]["reason"]
    assert any("API Usage Error" in text for text in said)
    assert session.finished(unpacked)


@pytest.mark.parametrize("version", [OLD, "10.14.1.48", "8.5.2"])
def test_an_older_release_stays_with_a_read_only_cache_and_says_so(unpacked, device, built, version):
    double, said = device(version=version), []
    report = finalize.finalize(unpacked, said.append, plans.IN_PLACE)
    assert not any("kv" in name for name in graphs(double))
    assert report["cache"]["used"] == "read-only"
    [line] = [text for text in said if "10.15 and later can" in text]
    assert f"TensorRT {version} cannot" in line
    assert finalize.summary({**report, "checks": []}).startswith(line)


def test_an_artifact_without_the_form_says_so(unpacked, device, built, tmp_path):
    copy = Path(shutil.copytree(unpacked, tmp_path / "artifact"))
    recipe = json.loads((copy / "tensorrt.json").read_text())
    recipe["engines"]["t2s"].pop("in_place")  # as older artifacts are
    (copy / "tensorrt.json").write_text(json.dumps(recipe))
    device(version=NEW)
    report = finalize.finalize(copy, quiet, plans.IN_PLACE)
    assert "the artifact has no form" in report["cache"]["reason"]
    assert finalize.reads(copy) == {"tensorrt.json", "t2s.trt8.onnx", "acoustic.trt8.onnx", "vocoder.trt8.onnx"}


def test_the_last_kind_that_passed_is_the_one_that_speaks(unpacked, device, monkeypatch):
    members = json.loads((unpacked / "manifest.json").read_text())["members"]
    ours, other = members["t2s.kv.onnx"]["sha256"], members["t2s.onnx"]["sha256"]
    device(version=NEW)
    passed = [True]
    monkeypatch.setattr(finalize, "_checked", lambda *arguments: {**TOLD, "passed": passed[0]})
    finalize.finalize(unpacked, quiet, plans.READ_ONLY)
    assert kept() == [other]
    passed[0] = False
    finalize.finalize(unpacked, quiet, plans.IN_PLACE)  # what worked before stays
    assert set(kept()) == {ours, other}
    assert session.finished(unpacked)
    with pipeline.load(unpacked, any_machine=True) as voice:
        assert not voice._session("step")._engine.aliases
    passed[0] = True
    finalize.finalize(unpacked, quiet, plans.IN_PLACE)
    assert kept() == [ours]
    with pipeline.load(unpacked, any_machine=True) as voice:
        assert voice._session("step")._engine.aliases
    finalize.reject(unpacked)
    with pipeline.load(unpacked, any_machine=True) as voice, pytest.raises(BackendError):
        voice.tokens(PHONES)


def test_an_engine_that_shares_no_memory_is_refused(unpacked, device):
    device(version=NEW, copies=["new_keys_1"])
    with pytest.raises(BackendError, match="new_keys_1 is not written in place"):
        finalize.finalize(unpacked, quiet, plans.IN_PLACE)


def test_one_that_cannot_be_built_says_what_else_there_is(unpacked, device, built):
    device(version=NEW, builds=["ok"] + ["no_tactic"] * 9)
    with pytest.raises(BackendError, match="without --cache in-place"):
        finalize.finalize(unpacked, quiet, plans.IN_PLACE)


def test_a_wrong_answer_fails(unpacked, device):
    device(version=NEW, wrong=["t2s"])
    report = finalize.finalize(unpacked, quiet, plans.IN_PLACE)
    assert not report["passed"]
    assert not session.finished(unpacked)


def test_tokens_are_those_of_the_generic_decoder_and_no_row_is_copied(voice, plain, device):
    expected, logits = plain.tokens(PHONES, sampling=GREEDY, max_tokens=30, return_logits=True)
    double = device(version=NEW)
    found, mine = voice.tokens(PHONES, sampling=GREEDY, max_tokens=30, return_logits=True)
    assert np.array_equal(found, expected)
    assert np.abs(mine - logits).max() < 2e-2  # a step reads 256 rows here and as many as there are there
    assert double.RUNTIME.plain == 2  # a prefill and the first step
    assert double.RUNTIME.launched == 28
    assert double.RUNTIME.rows_copied == 0


def test_a_longer_sentence_reads_more_of_the_same_cache(voice, plain, device):
    steps = 260
    t2s = voice._session("prefill")._t2s
    assert sorted(t2s.capacities) == [256, 512]
    double = device(version=NEW)
    decoder = t2s.decoder()
    found = forced(decoder, steps)
    assert (decoder.capacity, decoder.rows) == (512, len(PHONES) + steps)
    assert double.RUNTIME.rows_copied == 0
    expected = forced(GrowingCacheDecoder(plain._session("prefill"), plain._session("step")), steps)
    # Another number of masked rows changes the order of sums; a wrong row changes the first digits.
    assert np.abs(found - expected).max() < 2e-2


def test_sentences_at_the_same_time_keep_their_caches_apart(voice):
    t2s = voice._session("prefill")._t2s
    alone = forced(t2s.decoder(), 6)
    one, other = t2s.decoder(), t2s.decoder()
    rows = [one.prefill(np.array([PHONES]), np.zeros((1, 1024, 12), np.float32), np.zeros((1, 0), np.int64))]
    other.prefill(np.array([[7, 8, 9]]), np.zeros((1, 1024, 3), np.float32), np.zeros((1, 0), np.int64))
    for index in range(6):
        rows.append(one.step(index % 50, index))
        other.step(9, index)
    assert np.array_equal(np.stack(rows), alone)
    again = t2s.decoder()  # a buffer that was used before holds rows of another sentence
    assert np.array_equal(forced(again, 6), alone)


def test_both_stages_run_with_the_ports_of_the_stage_table(voice, plain):
    prompt = np.random.default_rng(0).integers(50, size=(1, 5))
    feeds = {"phones": np.array([PHONES]), "bert": np.zeros((1, 1024, len(PHONES)), np.float32), "prompt": prompt}
    first, expected = voice.run("prefill", feeds), plain.run("prefill", feeds)
    step = {"token": np.array([[3]]), "position": np.array([5]), "keys": first["keys"], "values": first["values"]}
    for found, wanted in ((first, expected), (voice.run("step", step), plain.run("step", step))):
        assert found.keys() == wanted.keys()
        for name, array in wanted.items():
            assert found[name].dtype == array.dtype
            assert found[name].shape == array.shape
            assert np.abs(found[name] - array).max() < 1e-2


def test_finishing_verifies_the_artifact_with_its_engines(unpacked, device, tmp_path):
    from gsvexport.device.finish import finish

    device(version=NEW)
    report, *_ = finish(unpacked, out=tmp_path / "report.json", cache="in-place", any_machine=True)
    assert report["passed"], report
    assert report["cache"]["used"] == "in-place"
    stages = {one["stage"] for one in report["verification"]["checks"] if one["status"] == "pass"}
    assert {"prefill", "step", "free_run"} <= stages
