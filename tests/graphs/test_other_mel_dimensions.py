"""v3 and v4 voices of other dimensions than upstream has: the exported graphs against the torch networks."""

from __future__ import annotations

import wave

import numpy as np
import pytest

import gsvexport
from gsvexport.cli import run
from gsvexport.compiler.source import write_source
from gsvexport.errors import InputError, VoiceError
from gsvexport.stages import FEATURE_WIDTH, MEL_BANDS, VERSIONS, mel_mask
from gsvexport.synthetic import write_voice
from gsvexport.voice.voice import read_voice

VOICES = {
    "v3-resblock-2": {
        "version": "v3",
        "resblock": "2",
        "resblock_kernels": (3, 7),
        "resblock_dilations": ((1, 3), (2, 5)),
        "upsample_rates": (8, 8, 4),
        "upsample_kernels": (16, 10, 8),
        "cfm_layers": 1,
        "layers": 3,
    },
    "v4-one-head-lora": {
        "version": "v4",
        "lora_rank": 3,
        "cfm_width": 64,
        "cfm_heads": 1,
        "cfm_layers": 3,
        "cfm_text_layers": 2,
        "wns_layers": 1,
        "resblock_kernels": (5,),
        "resblock_dilations": ((1, 3, 5),),
    },
}
ATOL = 5e-5


@pytest.fixture(scope="module", params=VOICES, ids=list(VOICES))
def pair(request, tmp_path_factory):
    """(an opened source, its network in float32) of one voice."""
    torch = pytest.importorskip("torch", reason="the networks need the extra 'torch'")
    from gsvexport.voice.networks import load_networks

    folder = tmp_path_factory.mktemp(request.param)
    voice = read_voice(write_voice(folder / "voice", size="tiny", seed=3, **VOICES[request.param]))
    write_source(voice, folder / "source")
    with gsvexport.load(folder / "source") as loaded, torch.inference_mode():
        yield loaded, load_networks(voice)[1]


def same(voice, stage, feeds, compute):
    import torch

    found = next(iter(voice.run(stage, feeds).values()))
    expected = compute(**{name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in feeds.items()})
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=ATOL)
    return found


@pytest.mark.parametrize(("codes", "phones", "speed"), [(1, 1, 1.0), (9, 30, 1.3), (30, 4, 0.6)])
def test_features(pair, codes, phones, speed):
    voice, network = pair
    random = np.random.default_rng(codes)
    count, ones = mel_mask(codes, speed, VERSIONS[voice.model.version].mel)
    feeds = {
        "codes": random.integers(0, 1024, (1, codes)),
        "phones": random.integers(0, 300, (1, phones)),
        "ge": voice.baked["ge"],
        "mask": (np.arange(count) < ones).astype(np.float32)[None, None],
    }
    fea = same(voice, "features", feeds, network.features)
    assert fea.shape == (1, FEATURE_WIDTH, count)


@pytest.mark.parametrize("count", [1, 150, 1024])
def test_a_step_and_the_vocoder(pair, count):
    voice, network = pair
    random = np.random.default_rng(count)
    feeds = {
        name: random.standard_normal((1, width, count), dtype=np.float32)
        for name, width in (("state", MEL_BANDS), ("prompt_mel", MEL_BANDS), ("fea", FEATURE_WIDTH))
    }
    moments = {"time": random.random(1, np.float32), "span": random.random(1, np.float32)}
    velocity = same(voice, "cfm", {**feeds, **moments}, network.velocity)
    assert 0.1 < velocity.std() < 3
    if count < 1000:
        mel = 2 * feeds["state"] - 5
        audio = same(voice, "vocoder", {"mel": mel}, lambda mel: network.speak(mel))
        assert audio.shape == (1, count * voice.model.hop)
        assert audio.std() < 0.5


def test_a_step_takes_no_more_frames_than_its_tables_have(pair):
    voice, _ = pair
    feeds = {name: np.zeros((1, MEL_BANDS, 1025)) for name in ("state", "prompt_mel")}
    with pytest.raises(InputError, match="M is at most 1024"):
        voice.run("cfm", {**feeds, "fea": np.zeros((1, FEATURE_WIDTH, 1025)), "time": [0], "span": [1]})


def test_a_long_sentence_is_spoken_in_chunks_and_by_its_seed_alone(pair):
    voice, _ = pair
    calls = []
    run = voice.run

    def counted(stage, feeds):
        calls.append(stage)
        return run(stage, feeds)

    voice.run = counted
    how = {"phones": list(range(30, 60)), "steps": 2, "max_tokens": 40}
    try:
        audio = voice.synthesize(**how, seed=5, speed=0.25)  # so that 11 codes would be more than a chunk's half
    finally:
        del voice.run
    mel = VERSIONS[voice.model.version].mel
    prompt = min(voice.baked["prompt_mel"].shape[2], mel.prompt)
    frames = audio.samples.size // voice.model.hop
    assert calls.count("cfm") == 2 * -(-frames // (mel.chunk - prompt))
    assert calls.count("features") == 2
    np.testing.assert_array_equal(audio.samples, voice.synthesize(**how, seed=5, speed=0.25).samples)
    assert not np.array_equal(audio.samples, voice.synthesize(**how, seed=6, speed=0.25).samples[: audio.samples.size])
    guided = voice.synthesize(**how, seed=5, speed=0.25, cfg_rate=0.5)
    assert not np.array_equal(audio.samples, guided.samples)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"steps": 1.5}, "steps is 1.5"),
        ({"cfg_rate": -1}, "cfg_rate is -1"),
        ({"prompt": [1, 2]}, "continues its own prompt"),
    ],
)
def test_what_cannot_be_spoken(pair, how, said):
    voice, _ = pair
    with pytest.raises(InputError, match=said):
        voice.synthesize(phones=[1, 2, 3], **how)


def test_pieces_are_refused(pair):
    voice, _ = pair
    with pytest.raises(InputError, match="cannot speak in pieces"):
        voice.stream(phones=[1, 2, 3])


def test_say_takes_steps_and_guidance(pair, tmp_path):
    voice, _ = pair
    out = tmp_path / "out.wav"
    command = ["say", str(voice.path), "--phones", "HH AH0 L OW1 .", "--max-tokens", "12", "-o", str(out), "--steps"]
    assert run([*command, "2", "--cfg-rate", "0.5"]) == 0
    with wave.open(str(out)) as sound:
        assert sound.getframerate() == voice.rate
    assert run([*command, "500", "--force"]) == 2


# --- what such a voice needs besides its own file


@pytest.fixture
def lora(tmp_path):
    return write_voice(tmp_path, "v4", lora_rank=3, cfm_layers=1)


def problem(folder, old, new):
    path = folder / "voice.toml"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(VoiceError) as caught:
        read_voice(folder)
    return str(caught.value)


def test_a_lora_needs_its_base(lora):
    assert "base = " in problem(lora, 'base = "base.pth"\n', "")


def test_a_lora_needs_a_base_that_it_fits(lora, tmp_path):
    write_voice(tmp_path / "other", "v4", cfm_width=64, cfm_heads=1, cfm_layers=1)
    assert "does not fit its base" in problem(lora, "base.pth", "other/sovits.pth")


def test_the_vocoder_is_that_of_the_version(lora, tmp_path):
    write_voice(tmp_path / "other", "v3")
    assert "is not the vocoder of a v4 voice" in problem(lora, "vocoder.pth", "other/bigvgan/bigvgan_generator.pt")


def test_a_voice_without_its_vocoder_is_told_what_to_add(lora):
    assert 'vocoder = "vocoder.pth"' in problem(lora, 'vocoder = "vocoder.pth"', "")


def test_a_header_and_a_version_that_differ_are_refused(lora):
    assert "voice.toml says v3, header 04 says v4" in problem(lora, "[voice]", '[voice]\nversion = "v3"')


def test_a_voice_of_v4_needs_a_prompt(lora):
    text = (lora / "voice.toml").read_text()
    text = "\n".join(line for line in text.splitlines() if not line.startswith(("phones", "prompt_codes")))
    (lora / "voice.toml").write_text(text)
    with pytest.raises(VoiceError, match="continues a prompt"):
        read_voice(lora)
