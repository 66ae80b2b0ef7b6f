"""The exported graphs, in ONNX Runtime, against upstream's own inputs and outputs, stage by stage."""

from __future__ import annotations

import numpy as np
import pytest
from conformance import conformance

import gsvexport
from gsvexport.compiler.source import write_source
from gsvexport.stages import SPECTROGRAM_BINS, frames
from gsvexport.voice.voice import read_voice

LOGITS, CACHE, ACOUSTIC = 1e-4, 2e-5, 2e-5  # the referee's own tolerances for float32
TOML = """[voice]
name = "conformance"
language = "en"
gpt = "gpt.ckpt"
sovits = "sovits.pth"
"""


@pytest.fixture(scope="session", params=["v1", "v2", "v2Pro", "v2ProPlus"])
def case(request, tmp_path_factory):
    """(an opened source, upstream's arrays) of one version."""
    data = conformance(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    for name in ("gpt.ckpt", "sovits.pth"):
        (folder / name).symlink_to(data.folder / name)
    (folder / "voice.toml").write_text(TOML)
    write_source(read_voice(folder), folder / "source")
    with gsvexport.load(folder / "source") as voice:
        yield voice, data.arrays


def assert_close(found, expected, tolerance):
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def condition(voice, arrays, letter, suffix=""):
    feeds = {"spectrogram": arrays[f"s2_{letter}_refer{suffix}"]}
    if voice.model.version.startswith("v2Pro"):
        feeds["speaker"] = arrays[f"s2_{letter}_sv_emb{suffix}"]
    return voice.run("reference", feeds)


def speak(voice, codes, phones, ge, speed=1.0, noise=None, noise_scale=0.0):
    length = frames(codes.shape[1], speed)
    if noise is None:
        noise = np.zeros((1, voice.model.dims.I, length), np.float32)
    feeds = {"codes": codes, "phones": phones, **ge, "noise": noise, "noise_scale": np.float32(noise_scale)}
    latent = voice.run("acoustic", feeds)["latent"]
    return latent, voice.run("vocoder", {"latent": latent, "ge": ge["ge"]})["audio"]


@pytest.mark.parametrize("letter", ["a", "b"])
def test_prefill_gives_upstreams_first_logits_and_caches(case, letter):
    voice, arrays = case
    get = {name: arrays[f"t2s_{letter}_{name}"] for name in ("phones", "bert", "prompt", "logits", "k0", "v0")}
    out = voice.run("prefill", {name: get[name] for name in ("phones", "bert", "prompt")})
    assert_close(out["logits"], get["logits"][:1], LOGITS)
    assert_close(out["keys"][0], get["k0"], CACHE)
    assert_close(out["values"][0], get["v0"], CACHE)
    assert_close(out["keys"][-1], arrays[f"t2s_{letter}_k_last_layer"], CACHE)
    assert_close(out["values"][-1], arrays[f"t2s_{letter}_v_last_layer"], CACHE)


@pytest.mark.parametrize("letter", ["a", "b"])
def test_step_follows_upstream_for_24_tokens(case, letter):
    voice, arrays = case
    prompt, tokens = arrays[f"t2s_{letter}_prompt"], arrays[f"t2s_{letter}_tokens"]
    feeds = {name: arrays[f"t2s_{letter}_{name}"] for name in ("phones", "bert", "prompt")}
    out = voice.run("prefill", feeds)
    keys, values = out["keys"], out["values"]
    for i, token in enumerate(tokens[:-1]):
        position = np.array([prompt.shape[1] + i])
        out = voice.run("step", {"token": [[token]], "position": position, "keys": keys, "values": values})
        keys = np.concatenate([keys, out["new_keys"]], axis=2)
        values = np.concatenate([values, out["new_values"]], axis=2)
        assert_close(out["logits"][0], arrays[f"t2s_{letter}_logits"][i + 1], LOGITS)
    assert_close(keys[0], arrays[f"t2s_{letter}_k0_end"], CACHE)


def test_prefill_without_a_prompt(case):
    voice, arrays = case
    empty = np.zeros((1, 0), np.int64)
    feeds = {"phones": arrays["t2s_free_phones"], "bert": arrays["t2s_free_bert"], "prompt": empty}
    assert_close(voice.run("prefill", feeds)["logits"], arrays["t2s_free_logits_first3"][:1], LOGITS)


@pytest.mark.parametrize("letter", ["a", "b"])
def test_prompt_picks_upstreams_codes_for_even_and_odd_lengths(case, letter):
    voice, arrays = case
    found = voice.run("prompt", {"ssl_content": arrays[f"vq_{letter}_ssl"]})["codes"]
    np.testing.assert_array_equal(found, arrays[f"vq_{letter}_codes"][0])


@pytest.mark.parametrize("letter", ["a", "b"])
def test_reference_gives_upstreams_conditioning(case, letter):
    voice, arrays = case
    ge = condition(voice, arrays, letter)
    assert_close(ge["ge"], arrays[f"s2_{letter}_ge"], ACOUSTIC)
    if "ge_text" in ge:
        assert_close(ge["ge_text"], arrays[f"s2_{letter}_ge512"], ACOUSTIC)


@pytest.mark.parametrize("letter", ["a", "b"])
def test_latent_and_audio_of_the_mean(case, letter):
    voice, arrays = case
    ge = condition(voice, arrays, letter)
    codes, phones = arrays[f"s2_{letter}_codes"][0], arrays[f"s2_{letter}_text"]
    latent, audio = speak(voice, codes, phones, ge, speed=float(arrays[f"s2_{letter}_speed"]))
    assert_close(latent, arrays[f"s2_{letter}_z"], ACOUSTIC)
    assert_close(audio, arrays[f"s2_{letter}_audio"][0], ACOUSTIC)


def test_audio_with_upstreams_noise(case):
    voice, arrays = case
    ge = condition(voice, arrays, "a")
    noise = arrays["s2_a_noise"]
    _, audio = speak(voice, arrays["s2_a_codes"][0], arrays["s2_a_text"], ge, noise=noise, noise_scale=0.5)
    assert_close(audio, arrays["s2_a_audio_noise05"][0], ACOUSTIC)


def test_audio_at_speed_07(case):
    voice, arrays = case
    ge = condition(voice, arrays, "a")
    _, audio = speak(voice, arrays["s2_a_codes"][0], arrays["s2_a_text"], ge, speed=0.7)
    assert_close(audio, arrays["s2_a_speed07_audio"][0], ACOUSTIC)


def test_two_codes_and_one_phone_are_enough(case):
    voice, arrays = case
    ge = condition(voice, arrays, "a")
    _, audio = speak(voice, arrays["s2_a_codes"][0][:, :2], arrays["s2_a_text"][:, :1], ge)
    assert_close(audio, arrays["s2_short_audio"][0], ACOUSTIC)


def test_two_references_are_averaged(case):
    voice, arrays = case
    spectrograms = [arrays["s2_a_refer"], arrays["s2_multi_refer2"]]
    assert all(s.shape[1] == SPECTROGRAM_BINS for s in spectrograms)
    speakers = [arrays["s2_a_sv_emb"], arrays["s2_multi_sv_emb2"]] if "s2_a_sv_emb" in arrays else []
    ge = voice.condition(spectrograms, speakers)
    assert_close(ge["ge"], arrays["s2_multi_ge"], ACOUSTIC)
    _, audio = speak(voice, arrays["s2_a_codes"][0], arrays["s2_a_text"], ge)
    assert_close(audio, arrays["s2_multi_audio"][0], ACOUSTIC)
