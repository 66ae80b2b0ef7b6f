"""v3 and v4: the exported graphs and the runtime's flow matching against upstream's own inputs and outputs."""

from __future__ import annotations

import numpy as np
import pytest
from conformance import conformance, write_profile

import gsvexport
from gsvexport.compiler.source import write_source
from gsvexport.errors import InputError
from gsvexport.runtime import flow_matching
from gsvexport.signal.audio import mel_spectrogram
from gsvexport.stages import VERSIONS, denormalised, mel_mask, normalised
from gsvexport.voice.voice import read_voice

FEATURES, MATCHING, MEL, AUDIO = 2e-5, 2e-4, 2e-3, 5e-5  # the referee's own tolerances for float32


class Case:
    """An opened source, upstream's arrays, and the version's mel."""

    def __init__(self, voice, arrays, weights):
        self.voice, self.arrays, self.weights = voice, arrays, weights
        self.mel = VERSIONS[voice.model.version].mel

    def get(self, letter, name):
        return self.arrays[f"v34_{letter}_{name}"]

    def features(self, letter, which=""):
        speed = 1.0 if which else float(self.get(letter, "speed"))
        given = (self.get(letter, f"codes{which}")[0], self.get(letter, f"phones{which}"), self.get(letter, "ge"))
        return flow_matching.features(self.voice.run, *given, self.mel, speed)

    def whole(self, letter):
        return np.concatenate([self.get(letter, "fea_ref"), self.get(letter, "fea_todo")], axis=2)


class Noise:
    """Random numbers that are known."""

    def __init__(self, noise):
        self.noise = noise

    def normal(self, channels, frames):
        assert self.noise.shape == (1, channels, frames)
        return self.noise.astype(np.float32)


@pytest.fixture(scope="module", params=["v3", "v4"])
def case(request, tmp_path_factory):
    data = conformance(request.param)
    folder = write_profile(data, request.param, tmp_path_factory.mktemp(request.param))
    read = read_voice(folder)
    write_source(read, folder / "source")
    with gsvexport.load(folder / "source") as voice:
        yield Case(voice, data.arrays, read.sovits.tensors)


def close(found, expected, tolerance):
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def test_a_lora_is_merged_as_upstream_merges_it(case):
    marks = [name.split(".")[3] for name in case.weights if name.startswith("cfm.estimator.transformer_blocks.")]
    last = max(map(int, marks))
    for name, place in (("to_q_block0", "0.attn.to_q"), ("to_out_last", f"{last}.attn.to_out.0")):
        expected = next(array for key, array in case.arrays.items() if key.endswith(f"merged_{name}"))
        found = case.weights[f"cfm.estimator.transformer_blocks.{place}.weight"]
        close(found, expected, np.spacing(np.float32(np.abs(expected).max())))


@pytest.mark.parametrize("letter", ["a", "b"])
def test_conditioning_and_features(case, letter):
    close(case.voice.run("reference", {"spectrogram": case.get(letter, "refer")})["ge"], case.get(letter, "ge"), 2e-5)
    close(case.features(letter, "_ref"), case.get(letter, "fea_ref"), FEATURES)
    close(case.features(letter), case.get(letter, "fea_todo"), FEATURES)


@pytest.mark.parametrize("letter", ["a", "b"])
def test_the_first_velocity(case, letter):
    noise, prompt, fea = case.get(letter, "noise").copy(), case.get(letter, "prompt_mel_norm"), case.whole(letter)
    noise[..., : prompt.shape[2]] = 0
    known = np.zeros_like(noise)
    known[..., : prompt.shape[2]] = prompt
    span = np.float32([1 / int(case.get(letter, "n_steps"))])
    feeds = {"state": noise, "prompt_mel": known, "fea": fea, "time": np.zeros(1), "span": span}
    found = case.voice.run("cfm", feeds)["velocity"]
    close(found.transpose(0, 2, 1), case.get(letter, "v_step0"), MATCHING)


@pytest.mark.parametrize("letter", ["a", "b"])
@pytest.mark.parametrize(("rate", "name"), [(0.0, "cfm_out"), (0.7, "cfm_out_cfg07")])
def test_all_steps_with_and_without_guidance(case, letter, rate, name):
    steps, prompt = int(case.get(letter, "n_steps")), case.get(letter, "prompt_mel_norm")
    found = flow_matching.solve(case.voice.run, case.whole(letter), prompt, case.get(letter, "noise"), steps, rate)
    close(found, case.get(letter, name), MATCHING)


@pytest.mark.parametrize("letter", ["a", "b"])
def test_from_codes_to_sound(case, letter):
    mel = flow_matching.mel_of(
        case.voice.run,
        case.features(letter),
        case.features(letter, "_ref"),
        case.get(letter, "prompt_mel_norm"),
        case.mel,
        Noise(case.get(letter, "noise")),
        steps=int(case.get(letter, "n_steps")),
    )
    close(mel, case.get(letter, "mel_out"), MEL)
    close(
        case.voice.run("vocoder", {"mel": case.get(letter, "vocoder_in")})["audio"], case.get(letter, "audio")[0], AUDIO
    )
    assert case.voice.rate == {"v3": 24000, "v4": 48000}[case.voice.model.version]


def test_the_prompts_mel(case):
    found = mel_spectrogram(case.get("a", "prompt_wav")[0], case.mel)
    close(found, case.get("a", "prompt_mel"), 1e-4)
    for letter in "ab":
        cut = normalised(case.get(letter, "prompt_mel"))[..., : case.get(letter, "fea_ref").shape[2]]
        close(cut, case.get(letter, "prompt_mel_norm"), 1e-6)
        close(denormalised(cut), case.get(letter, "prompt_mel")[..., : cut.shape[2]], 1e-5)


def test_greedy_codes(case):
    get = {name: case.arrays[f"t2s_a_{name}"] for name in ("phones", "bert", "prompt", "tokens")}
    sampling = gsvexport.Sampling(greedy=True)
    found = case.voice.tokens(get["phones"], get["bert"], get["prompt"], sampling, max_tokens=len(get["tokens"]))
    np.testing.assert_array_equal(found, get["tokens"])


def test_a_voice_without_a_prompt_cannot_speak(case):
    with pytest.raises(InputError, match="prompt_mel"):
        case.voice.synthesize(phones=[1, 2, 3])


def test_the_mask_follows_upstreams_rounding():
    v3, v4 = (VERSIONS[name].mel for name in ("v3", "v4"))
    assert mel_mask(21, 1.0, v3) == (78, 78)  # 2·21·1.875 = 78.75
    assert mel_mask(21, 1.0, v4) == (84, 84)
    assert mel_mask(26, 1.25, v4) == (84, 84)
    assert mel_mask(10, 1.3, v4) == (32, 31)  # 2·(int(15.4) + 1), but int(30.8) + 1
