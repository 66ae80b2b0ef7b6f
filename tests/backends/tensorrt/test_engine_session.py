"""Speaking with finished engines, against a scripted double of TensorRT (`tensorrt_double.py`)."""

import shutil
import threading

import numpy as np
import pytest

from gsvexport.backends.tensorrt import finalize, plans
from gsvexport.backends.tensorrt.emulate import opener
from gsvexport.errors import BackendError, InputError
from gsvexport.runtime import pipeline
from gsvexport.runtime.sampling import Sampling
from gsvexport.runtime.tokens import GrowingCacheDecoder

GREEDY = Sampling(greedy=True)
PHONES = list(range(1, 13))


@pytest.fixture(scope="module")
def plain(unpacked):
    """The same graphs, emulated, through the generic decoder: what the device has to say."""
    with pipeline.load(unpacked, any_machine=True, opener=opener("FP16 values with FP32 sums")) as voice:
        voice._new_decoder = GrowingCacheDecoder
        yield voice


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Where engines are kept from test to test."""
    return tmp_path_factory.mktemp("kept") / "engines"


@pytest.fixture
def finished(unpacked, device, monkeypatch, kept):
    """A device with all engines; `finished(**words)` plays another one with the same engines."""
    device()
    if kept.exists():
        shutil.copytree(kept, plans.plan_folder())
        return device
    told = {"checks": [], "passed": True, "recorded": True, "recorded_reason": "", "speed": {}, "memory": {}}
    with monkeypatch.context() as patch:
        patch.setattr(finalize, "_checked", lambda *arguments: dict(told))
        finalize.finalize(unpacked, lambda text: None)
    shutil.copytree(plans.plan_folder(), kept)
    return device


@pytest.fixture
def voice(unpacked, finished):
    with pipeline.load(unpacked, any_machine=True) as found:
        yield found


def forced(decoder, count):
    """Logits of a sentence whose codes are given."""
    bert = np.zeros((1, 1024, len(PHONES)), np.float32)
    rows = [decoder.prefill(np.array([PHONES]), bert, np.zeros((1, 0), np.int64))]
    return np.stack(rows + [decoder.step(index % 50, index) for index in range(count)])


def test_tokens_are_those_of_the_generic_decoder(voice, plain, finished):
    expected, logits = plain.tokens(PHONES, sampling=GREEDY, max_tokens=30, return_logits=True)
    double = finished()
    found, mine = voice.tokens(PHONES, sampling=GREEDY, max_tokens=30, return_logits=True)
    assert np.array_equal(found, expected)
    assert np.array_equal(mine, logits)  # one arithmetic behind both
    assert double.RUNTIME.plain == 2  # a prefill and the first step
    assert double.RUNTIME.launched == 28
    assert double.RUNTIME.rows_copied == 2 + 2 * 29  # keys and values: once for the prefill, once for each step


def test_a_full_cache_moves_into_the_next_capacity(voice, plain):
    steps = 260
    t2s = voice._session("prefill")._t2s
    assert sorted(t2s.capacities) == [256, 512]
    decoder = t2s.decoder()
    found = forced(decoder, steps)
    assert (decoder.capacity, decoder.rows) == (512, len(PHONES) + steps)
    expected = forced(GrowingCacheDecoder(plain._session("prefill"), plain._session("step")), steps)
    # Padding changes the order of sums, so the last digits of FP16 differ; a wrong row changes the first ones.
    assert np.abs(found - expected).max() < 2e-2
    assert np.array_equal(found.argmax(-1)[:200], expected.argmax(-1)[:200])


def test_beyond_the_largest_capacity_the_limit_and_its_key_are_named(voice):
    decoder = voice._session("prefill")._t2s.decoder()
    forced(decoder, 250)
    decoder.rows = 511
    decoder.step(1, 499)
    with pytest.raises(InputError, match=r"limits\.tokens") as error:
        decoder.step(1, 500)
    assert "512" in str(error.value)


def test_a_sentence_beyond_the_largest_prefill_is_refused(voice):
    longest = voice._session("prefill")._t2s.longest
    with pytest.raises(InputError, match=r"limits\.phones"):
        voice.tokens([1] * (longest + 1), prompt=[], max_tokens=1)


def test_lengths_that_no_profile_takes_say_which_there_are(voice):
    feeds = {
        "codes": np.zeros((1, 3), np.int64),
        "phones": np.array([PHONES]),
        "noise": np.zeros((1, voice.model.dims.I, 5000), np.float32),
        "noise_scale": np.float32(0.5),
        **{name: array for name, array in voice.baked.items() if name.startswith("ge")},
    }
    with pytest.raises(InputError, match=r"limits\.tokens") as error:
        voice.run("acoustic", feeds)
    assert "codes-64" in str(error.value)


def test_a_long_sentence_goes_through_the_vocoder_in_windows(voice, plain):
    assert voice.model.vocoder_context is not None
    engine = voice._session("vocoder")._engine
    assert list(engine.profiles) == ["codes-64"]  # longer ones would cost scratch memory
    longest = engine.profiles["codes-64"]["latent"][2][2]
    latent = np.random.default_rng(1).standard_normal((1, voice.model.dims.I, 3 * longest)).astype(np.float32)
    feeds = {"latent": latent, "ge": voice.baked["ge"]}
    found, expected = voice.run("vocoder", feeds)["audio"], plain.run("vocoder", feeds)["audio"]
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-3  # the same arithmetic in another order of sums
    cut = plain.run("vocoder", {**feeds, "latent": latent[:, :, : longest + 1]})["audio"]
    assert np.array_equal(
        cut.shape, voice.run("vocoder", {**feeds, "latent": latent[:, :, : longest + 1]})["audio"].shape
    )


def test_all_contexts_of_all_engines_share_one_block_of_scratch_memory(voice, finished):
    voice.synthesize(phones=PHONES, seed=1, max_tokens=20)
    sessions = {id(voice._session(stage)): voice._session(stage) for stage in ("step", "acoustic", "vocoder")}
    spaces = {id(one._engine.space) for one in sessions.values()}
    assert len(sessions) == 3
    assert len(spaces) == 1
    space = voice._session("step")._engine.space
    used = [max(one._engine.scratch()[name] for name in one._engine._contexts) for one in sessions.values()]
    assert space.size >= max(used)  # more where a voice of before still lives


def test_a_record_is_made_again_when_the_scratch_memory_moves(voice, plain, finished):
    t2s = voice._session("step")._t2s
    decoder = t2s.decoder()
    alone = forced(decoder, 6)
    assert decoder.replays()
    engine = t2s.engine
    engine.space.reserve(engine.space.size + 1)  # what a larger profile of another engine does
    assert not decoder.replays()
    assert np.array_equal(forced(decoder, 6), alone)
    assert decoder.replays()


def test_inputs_that_contradict_each_other_are_an_error_with_their_reason(voice):
    feeds = {"phones": np.array([PHONES]), "bert": np.zeros((1, 1024, 5), np.float32), "prompt": np.zeros((1, 0), int)}
    with pytest.raises(BackendError, match=r"cannot tell its shapes.*Dimensions with name S must be equal"):
        voice._session("prefill").run(feeds)  # the pipeline looks before it asks


def test_every_stage_runs_with_the_ports_of_the_stage_table(voice, plain):
    rng = np.random.default_rng(0)
    prompt = rng.integers(50, size=(1, 5))
    feeds = {"phones": np.array([PHONES]), "bert": np.zeros((1, 1024, len(PHONES)), np.float32), "prompt": prompt}
    first, expected = voice.run("prefill", feeds), plain.run("prefill", feeds)
    step = {"token": np.array([[3]]), "position": np.array([5]), "keys": first["keys"], "values": first["values"]}
    for found, wanted in ((first, expected), (voice.run("step", step), plain.run("step", step))):
        assert found.keys() == wanted.keys()
        for name, array in wanted.items():
            assert found[name].dtype == array.dtype
            assert found[name].shape == array.shape
            assert np.abs(found[name] - array).max() < 1e-2
    sound = voice.synthesize(phones=PHONES, seed=1, max_tokens=20)
    assert np.array_equal(sound.samples, plain.synthesize(phones=PHONES, seed=1, max_tokens=20).samples)


def test_prefill_and_step_share_one_engine(voice):
    assert voice._session("prefill") is voice._session("step")


def test_a_step_that_cannot_be_recorded_gives_the_same_codes(unpacked, finished, plain):
    double = finished(capture="fails")
    with pipeline.load(unpacked, any_machine=True) as voice:
        found = voice.tokens(PHONES, sampling=GREEDY, max_tokens=12)
        assert np.array_equal(found, plain.tokens(PHONES, sampling=GREEDY, max_tokens=12))
        assert "StreamEndCapture" in voice._session("step")._t2s.problem
    assert double.RUNTIME.launched == 0


def test_sentences_at_the_same_time_keep_their_caches_apart(voice):
    t2s = voice._session("prefill")._t2s
    alone = forced(t2s.decoder(), 6)
    one, other = t2s.decoder(), t2s.decoder()
    first = one.prefill(np.array([PHONES]), np.zeros((1, 1024, 12), np.float32), np.zeros((1, 0), np.int64))
    other.prefill(np.array([[7, 8, 9]]), np.zeros((1, 1024, 3), np.float32), np.zeros((1, 0), np.int64))
    rows = [first]
    for index in range(6):
        rows.append(one.step(index % 50, index))
        other.step(9, index)
    assert np.array_equal(np.stack(rows), alone)
    found = {}
    threads = [threading.Thread(target=lambda n=n: found.update({n: forced(t2s.decoder(), 6)})) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(rows, alone) for rows in found.values())


def test_buffers_go_from_one_sentence_to_the_next(voice, finished):
    double = finished()
    t2s = voice._session("prefill")._t2s
    forced(t2s.decoder(), 2)
    before = len(double.RUNTIME.blocks)
    again = t2s.decoder()
    forced(again, 2)
    assert len(double.RUNTIME.blocks) == before
    assert again.replays()


def test_an_engine_that_is_missing_stale_or_failed_is_not_opened(unpacked, finished):
    notes = next(plans.plan_folder().glob("t2s-*.json"))
    plan = notes.with_suffix(".plan")
    known, data = notes.read_text(), plan.read_bytes()

    def says(text):
        with pipeline.load(unpacked, any_machine=True) as voice, pytest.raises(BackendError, match=text) as error:
            voice.tokens(PHONES)
        assert "gsvexport finalize" in str(error.value)

    notes.write_text(known.replace('"passed": true', '"passed": false'))
    says("failed its golden vectors")
    notes.write_text(known)
    plan.write_bytes(data + b" ")
    says("SHA-256 differs")
    plan.unlink()
    says("no TensorRT engine yet")
    finished(version="10.16.2.10")
    says("10.16.2.10")


def test_finishing_an_artifact_verifies_it_with_its_engines(unpacked, device, tmp_path):
    from gsvexport.device.finish import finish

    device()
    report, place, _ = finish(unpacked, out=tmp_path / "report.json", any_machine=True)
    assert report["passed"], report
    assert place.exists()
    stages = {one["stage"] for one in report["verification"]["checks"] if one["status"] == "pass"}
    assert {"prefill", "step", "acoustic", "vocoder", "free_run"} <= stages
