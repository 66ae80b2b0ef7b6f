import json
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

import gsvexport
from gsvexport import Sampling
from gsvexport.artifact import container
from gsvexport.artifact.manifest import Manifest, StageEntry
from gsvexport.errors import ArtifactError, BackendError, InputError
from gsvexport.runtime import pipeline
from gsvexport.text.phonemise import phonemise
from gsvexport.text.symbols import phone_ids

PHONES = [10, 20, 30, 40, 50]
GREEDY = Sampling(greedy=True)
# Every test asks for 11 codes at most: so many come before EOS may end a sentence.


def conditioning(case, letters=("a",)):
    names = {"a": ("s2_a_refer", "s2_a_sv_emb"), "multi": ("s2_multi_refer2", "s2_multi_sv_emb2")}
    speakers = [case.arrays[names[one][1]] for one in letters if names[one][1] in case.arrays]
    return case.voice.condition([case.arrays[names[one][0]] for one in letters], speakers)


def speak(case, phones=PHONES, **options):
    return case.voice.synthesize(phones=phones, **{"max_tokens": 11, "conditioning": conditioning(case), **options})


def test_speech_is_sound_of_the_right_length_and_rate(referee):
    audio = speak(referee)
    assert audio.rate == 32000
    assert audio.samples.dtype == np.float32
    assert audio.samples.shape == (11 * 2 * 640,)
    assert 1e-3 < audio.samples.std() < 1
    assert np.abs(audio.samples).max() <= 1


def test_a_seed_repeats_itself_and_another_one_differs(baked):
    first, again, other = (baked.voice.synthesize(phones=PHONES, seed=s, max_tokens=11).samples for s in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first[:5000], other[:5000])


def test_codes_and_noise_have_streams_of_their_own(baked):
    def samples(noise_scale, seed, limit=11):
        options = {"noise_scale": noise_scale, "seed": seed, "max_tokens": limit, "sampling": GREEDY}
        return baked.voice.synthesize(phones=PHONES, **options).samples

    # Greedy and without noise nothing is left to chance; with noise the seed decides.
    np.testing.assert_array_equal(samples(0, 1), samples(0, 2))
    assert not np.array_equal(samples(0.5, 1), samples(0.5, 2))


def test_speed_changes_the_length_and_not_the_codes(baked):
    for speed, latent_frames in ((1, 22), (2.0, 12), (0.7, 32), (1.25, 18)):
        audio = baked.voice.synthesize(phones=PHONES, speed=speed, max_tokens=11)
        assert len(audio.samples) == latent_frames * 640


def test_several_references_give_the_mean(referee):
    single, both = conditioning(referee), conditioning(referee, ("a", "multi"))
    np.testing.assert_allclose(single["ge"], referee.arrays["s2_a_ge"], rtol=0, atol=2e-5)
    np.testing.assert_allclose(both["ge"], referee.arrays["s2_multi_ge"], rtol=0, atol=2e-5)
    if "ge_text" in both:
        other = conditioning(referee, ("multi",))["ge_text"]
        np.testing.assert_allclose(both["ge_text"], (single["ge_text"] + other) / 2, rtol=0, atol=1e-6)
    assert not np.array_equal(speak(referee, conditioning=both).samples, speak(referee).samples)


def test_a_single_reference_needs_no_list(referee):
    speaker = [referee.arrays["s2_a_sv_emb"][0]] if "s2_a_sv_emb" in referee.arrays else ()
    found = referee.voice.condition(referee.arrays["s2_a_refer"], speaker)
    np.testing.assert_array_equal(found["ge"], conditioning(referee)["ge"])


def test_references_and_speakers_must_match(referee):
    with pytest.raises(InputError, match="0 spectrograms"):
        referee.voice.condition([])
    speakers = [] if "s2_a_sv_emb" in referee.arrays else [np.zeros((1, 20480), np.float32)]
    with pytest.raises(InputError, match=r"1 spectrograms and . speaker"):
        referee.voice.condition(referee.arrays["s2_a_refer"], speakers)
    with pytest.raises(InputError, match=r"reference\.spectrogram"):
        referee.voice.condition(np.zeros((1, 80, 5), np.float32), [np.zeros((1, 20480))] * (not speakers and 1))


def test_the_baked_prompt_is_put_in_front(baked):
    voice, prompt = baked.voice, baked.arrays["t2s_a_prompt"]
    before = baked.prompt_phones
    bert = np.random.default_rng(0).normal(size=(1024, len(PHONES))).astype(np.float32)
    together = np.concatenate([np.zeros((1024, len(before)), np.float32), bert], axis=1)
    found, logits = voice.tokens(PHONES, bert, sampling=GREEDY, max_tokens=15, return_logits=True)
    expected, same = voice.tokens([*before, *PHONES], together, prompt, GREEDY, max_tokens=15, return_logits=True)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(logits, same)
    free = voice.tokens(PHONES, bert, np.empty(0), GREEDY, max_tokens=15, return_logits=True)[1]
    assert not np.allclose(free[0], logits[0])


def test_the_baked_conditioning_is_what_the_reference_stage_gives(baked):
    from gsvexport.signal.audio import read_audio, spectrogram

    samples = read_audio(baked.folder.parent / "reference.wav", 32000)
    speakers = [baked.arrays["s2_a_sv_emb"]] if "s2_a_sv_emb" in baked.arrays else ()
    found = baked.voice.condition(spectrogram(samples, baked.voice.model.spectrogram), speakers)
    for name, array in found.items():
        np.testing.assert_allclose(baked.voice.baked[name], array, rtol=0, atol=1e-5)


def test_a_voice_without_a_reference_says_what_it_needs(referee):
    with pytest.raises(InputError, match="no prompt was given and none is baked"):
        referee.voice.tokens(PHONES)
    with pytest.raises(InputError, match=r"cannot speak without ge.*"):
        referee.voice.synthesize(phones=PHONES)


def test_plain_shapes_and_batched_shapes_are_the_same(referee):
    voice, prompt = referee.voice, referee.arrays["t2s_a_prompt"]
    bert = np.zeros((1024, 5), np.float32)
    plain = voice.tokens(PHONES, bert, prompt[0], max_tokens=11)
    batched = voice.tokens(np.array([PHONES]), bert[np.newaxis], prompt, max_tokens=11)
    without = voice.tokens(PHONES, prompt=prompt, max_tokens=11)
    assert plain.tolist() == batched.tolist() == without.tolist()


def test_prompt_and_codes_stay_within_the_position_table(referee):
    prompt = np.zeros((1, referee.voice.model.dims.positions - 3), np.int64)
    assert len(referee.voice.tokens([1], prompt=prompt, max_tokens=50)) == 3
    with pytest.raises(InputError, match="no room"):
        referee.voice.tokens([1], prompt=np.zeros((1, 4000), np.int64))
    with pytest.raises(InputError, match="Y is at most 4000"):
        referee.voice.tokens([1], prompt=np.zeros((1, 4001), np.int64))


def test_every_bad_argument_is_reported_at_once(baked):
    with pytest.raises(InputError) as caught:
        baked.voice.synthesize(
            phones=[1, 5000], speed=9, noise_scale=float("nan"), seed=-1, max_tokens=0, bert=np.zeros((1024, 1))
        )
    text = "\n".join(caught.value.problems)
    for part in (
        "prefill.phones: 5000",
        "acoustic.phones: 5000",
        "speed is 9",
        "noise_scale is nan",
        "seed",
        "max_tokens",
    ):
        assert part in text


def test_a_text_is_spoken_sentence_by_sentence_with_a_pause(baked):
    whole = baked.voice.synthesize("Hello there. It is me.", seed=3, max_tokens=11).samples
    first = phone_ids(phonemise("Hello there.", "en", baked.voice.model.symbols)[0], baked.voice.model.symbols)
    length = 11 * 2 * 640
    assert len(whole) == 2 * length + round(0.3 * 32000)
    np.testing.assert_array_equal(whole[:length], baked.voice.synthesize(phones=first, seed=3, max_tokens=11).samples)
    assert not whole[length:-length].any()
    assert whole[-length:].std() > 1e-3
    again = baked.voice.synthesize("Hello there. Hello there.", seed=3, max_tokens=11).samples
    assert not np.array_equal(again[:length], again[-length:])  # each sentence has a stream of its own


def test_text_in_a_language_that_cannot_be_read_is_refused(baked, monkeypatch):
    monkeypatch.setattr(baked.voice, "model", replace(baked.voice.model, language="fr"))
    with pytest.raises(InputError, match="'fr' cannot be turned into phones"):
        baked.voice.synthesize("hello")


def test_wrong_things_to_say_are_refused_with_the_way_out(baked):
    with pytest.raises(InputError, match="comes alone"):
        baked.voice.synthesize("hello", PHONES)
    with pytest.raises(InputError, match="comes alone"):
        baked.voice.synthesize("hello", bert=np.zeros((1024, 5), np.float32))
    with pytest.raises(InputError, match="nothing to say"):
        baked.voice.synthesize()
    with pytest.raises(InputError, match=r"axis 1 is 0 long"):
        baked.voice.synthesize(phones=[])
    with pytest.raises(InputError, match=r"axis 1 is 4001 long"):
        baked.voice.synthesize(phones=[1] * 4001)
    with pytest.raises(InputError, match="too long together with the baked prompt"):
        baked.voice.synthesize(phones=[1] * 3998)


def test_eos_is_no_prompt_code(referee):
    with pytest.raises(InputError, match="1024 at place 1 ends a sentence"):
        referee.voice.tokens(PHONES, prompt=[3, 1024])


@pytest.mark.parametrize("wrong", [5, "abc", [[1], [2, 3]], [1.5], None])
def test_phones_that_are_no_ids_are_refused(baked, wrong):
    with pytest.raises(InputError, match=r"prefill\.phones"):
        baked.voice.tokens(wrong)


def test_text_features_that_do_not_fit_are_refused(baked):
    for wrong in (np.zeros((1024, 4)), np.zeros((5, 1024)), [[1], [2, 3]]):
        with pytest.raises(InputError, match="bert"):
            baked.voice.tokens(PHONES, wrong)


def test_run_names_the_stages_there_are(baked):
    with pytest.raises(InputError, match="holds no stage 'decoder'"):
        baked.voice.run("decoder", {})


def test_a_closed_voice_opens_again(tmp_path, baked):
    with gsvexport.load(baked.folder) as voice:
        before = voice.synthesize(phones=PHONES, max_tokens=11)
    np.testing.assert_array_equal(voice.synthesize(phones=PHONES, max_tokens=11).samples, before.samples)
    voice.close()


def pack(case, folder, backend="onnxruntime"):
    """The source's files as an artifact."""
    stages = {name: StageEntry(file, backend, "fp32") for name, file in case.voice.model.files.items()}
    manifest = Manifest("referee", "0", {"name": "test"}, "0" * 64, case.voice.model.baked_key, {}, stages, {})
    container.write(container.with_members(manifest, case.folder), case.folder, folder / "voice.gsv")
    return folder / "voice.gsv"


def test_an_artifact_speaks_like_its_source(tmp_path, baked, monkeypatch):
    monkeypatch.setenv("GSVEXPORT_CACHE", str(tmp_path / "cache"))
    with gsvexport.load(pack(baked, tmp_path), threads=1) as packed, gsvexport.load(packed.path, threads=1) as unpacked:
        for voice in (packed, unpacked):
            samples = voice.synthesize(phones=PHONES, max_tokens=11).samples
            np.testing.assert_array_equal(samples, baked.voice.synthesize(phones=PHONES, max_tokens=11).samples)


def test_the_manifest_says_which_backend_runs_a_stage(tmp_path, baked, monkeypatch):
    monkeypatch.setenv("GSVEXPORT_CACHE", str(tmp_path / "cache"))
    with pytest.raises(BackendError, match="no backend is called 'abacus'"):
        gsvexport.load(pack(baked, tmp_path, backend="abacus")).tokens(PHONES)


def test_threads_that_come_at_once_share_one_session(baked):
    opened, together = [], threading.Barrier(4)
    original = pipeline.open_session

    def slow(backend, folder, file, **options):
        opened.append(file)
        time.sleep(0.05)
        return original(backend, folder, file, **options)

    with pipeline.LoadedVoice(baked.folder, threads=1, opener=slow) as voice, ThreadPoolExecutor(4) as pool:

        def say(seed):
            together.wait()
            return voice.synthesize(phones=PHONES, seed=seed, max_tokens=11).samples

        found = list(pool.map(say, range(4)))
    assert sorted(opened) == ["acoustic.onnx", "prefill.onnx", "step.onnx", "vocoder.onnx"]
    for seed, samples in enumerate(found):
        np.testing.assert_array_equal(samples, baked.voice.synthesize(phones=PHONES, seed=seed, max_tokens=11).samples)


@pytest.mark.parametrize("stage", ["step", "vocoder"])
def test_an_artifact_that_lacks_a_stage_says_so_before_it_works(tmp_path, baked, stage):
    copy = tmp_path / "source"
    shutil.copytree(baked.folder, copy)
    model = json.loads((copy / "model.json").read_text())
    del model["files"][stage]
    (copy / "model.json").write_text(json.dumps(model))
    with gsvexport.load(copy) as voice, pytest.raises(InputError, match=f"holds no stage '{stage}'"):
        voice.synthesize(phones=PHONES)


def test_loading_what_is_no_voice_says_so(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        gsvexport.load(tmp_path / "absent.gsv")
    with pytest.raises(ArtifactError, match=r"model\.json"):
        gsvexport.load(tmp_path)
    (tmp_path / "file.gsv").write_bytes(b"no artifact")
    with pytest.raises(ArtifactError):
        gsvexport.load(tmp_path / "file.gsv")


def test_stored_constants_that_do_not_fit_are_all_listed(tmp_path, baked):
    copy = tmp_path / "source"
    shutil.copytree(baked.folder, copy)
    np.save(copy / "baked/ge.npy", np.zeros((1, 3, 1), np.float32))
    np.save(copy / "baked/prompt.npy", np.array([[5000]]))
    (copy / "baked/prompt_phones.npy").write_bytes(b"\x93NUMPY")
    model = json.loads((copy / "model.json").read_text())
    model["baked"]["mood"] = "baked/mood.npy"
    (copy / "model.json").write_text(json.dumps(model))
    with pytest.raises(ArtifactError) as caught:
        gsvexport.load(copy)
    text = "\n".join(caught.value.problems)
    for part in (
        "axis 1 is 3 long",
        "5000 at place 0",
        "baked/prompt_phones.npy",
        "no stage takes a constant called 'mood'",
    ):
        assert part in text


def test_a_pickled_constant_is_not_executed(tmp_path, baked):
    copy = tmp_path / "source"
    shutil.copytree(baked.folder, copy)
    np.save(copy / "baked/ge.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ArtifactError, match="allow_pickle=False"):
        gsvexport.load(copy)


def test_a_missing_graph_is_named_when_it_is_needed(tmp_path, baked):
    copy = tmp_path / "source"
    shutil.copytree(baked.folder, copy)
    (copy / "step.onnx").unlink()
    with pytest.raises(BackendError, match="'step'"):
        gsvexport.load(copy).tokens(PHONES)
