"""Voices of other dimensions than upstream has: the exported graphs against the torch networks, which share no code."""

from __future__ import annotations

import numpy as np
import pytest

import gsvexport
from gsvexport.compiler.source import write_source
from gsvexport.stages import frames
from gsvexport.synthetic import write_voice
from gsvexport.voice.voice import read_voice

torch = pytest.importorskip("torch", reason="the networks need the extra 'torch'")

VOICES = {
    "deep-narrow": {"version": "v2", "t2s_layers": 3, "t2s_width": 48, "t2s_heads": 6},
    "one-layer-one-head": {"version": "v1", "t2s_layers": 1, "t2s_width": 32, "t2s_heads": 1, "heads": 1, "layers": 2},
    "odd-layers": {"version": "v2", "layers": 3, "heads": 4, "filter": 40, "kernel": 5, "inter": 24},
    "even-kernel": {"version": "v2", "kernel": 4, "heads": 3},
    "three-upsamplers": {
        "version": "v2",
        "upsample_rates": (16, 8, 5),
        "upsample_kernels": (32, 16, 11),
        "upsample_initial": 48,
        "resblock_kernels": (3, 5),
        "resblock_dilations": ((1, 2, 4), (2, 3, 7)),
    },
    "resblock-2": {
        "version": "v2ProPlus",
        "resblock": "2",
        "resblock_kernels": (3, 7),
        "resblock_dilations": ((1, 3), (1, 3)),
        "gin": 96,
    },
    "one-kernel": {"version": "v2Pro", "resblock_kernels": (5,), "resblock_dilations": ((1, 4, 2),), "gin": 80},
}
ATOL = 2e-5


@pytest.fixture(scope="module", params=VOICES, ids=list(VOICES))
def pair(request, tmp_path_factory):
    """(an opened source, its networks in float32) of one voice."""
    from gsvexport.voice.networks import load_networks

    folder = tmp_path_factory.mktemp(request.param)
    voice = read_voice(write_voice(folder / "voice", size="tiny", seed=3, **VOICES[request.param]))
    write_source(voice, folder / "source")
    with gsvexport.load(folder / "source") as loaded, torch.inference_mode():
        yield loaded, *load_networks(voice)


def tensors(feeds):
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in feeds.items()}


def assert_equal(found, expected, atol=ATOL):
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=0, atol=atol)


@pytest.mark.parametrize(("phones", "prompt"), [(1, 0), (17, 9), (5, 40)])
def test_prefill_and_step(pair, phones, prompt):
    voice, t2s, _ = pair
    random = np.random.default_rng(phones)
    feeds = {
        "phones": random.integers(0, 300, (1, phones)),
        "bert": random.standard_normal((1, 1024, phones), dtype=np.float32),
        "prompt": random.integers(0, 1024, (1, prompt)),
    }
    found, (logits, keys, values) = voice.run("prefill", feeds), t2s.prefill(**tensors(feeds))
    for name, expected in (("logits", logits), ("keys", keys), ("values", values)):
        assert_equal(found[name], expected, 1e-4 if name == "logits" else ATOL)
    feeds = {"token": np.array([[7]]), "position": np.array([prompt]), "keys": found["keys"], "values": found["values"]}
    found, expected = voice.run("step", feeds), t2s.step(**tensors(feeds))
    for name, array in zip(("logits", "new_keys", "new_values"), expected, strict=True):
        assert_equal(found[name], array, 1e-4 if name == "logits" else ATOL)


@pytest.mark.parametrize(("codes", "phones", "speed"), [(1, 1, 1.0), (12, 5, 1.0), (9, 30, 1.3), (30, 4, 0.6)])
def test_acoustic_and_vocoder(pair, codes, phones, speed):
    voice, _, synthesizer = pair
    random = np.random.default_rng(codes)
    ge = {name: voice.baked[name] for name in ("ge", "ge_text") if name in voice.baked}
    length = frames(codes, speed)
    feeds = {
        "codes": random.integers(0, 1024, (1, codes)),
        "phones": random.integers(0, 300, (1, phones)),
        **ge,
        "noise": random.standard_normal((1, voice.model.dims.I, length), dtype=np.float32),
        "noise_scale": np.array(0.5, np.float32),
    }
    latent = voice.run("acoustic", feeds)["latent"]
    assert_equal(latent, synthesizer.acoustic(**{"ge_text": None, **tensors(feeds)}))
    feeds = {"latent": latent, "ge": ge["ge"]}
    audio = voice.run("vocoder", feeds)["audio"]
    assert audio.shape == (1, length * voice.model.hop)
    assert_equal(audio, synthesizer.vocoder(**tensors(feeds)))


@pytest.mark.parametrize("length", [2, 61])
def test_prompt_and_reference(pair, length):
    voice, _, synthesizer = pair
    random = np.random.default_rng(length)
    ssl = random.standard_normal((1, 768, length), dtype=np.float32)
    found = voice.run("prompt", {"ssl_content": ssl})["codes"]
    assert found.tolist() == synthesizer.prompt(torch.from_numpy(ssl)).tolist()
    feeds = {"spectrogram": np.abs(random.standard_normal((1, 1025, length), dtype=np.float32))}
    if voice.model.version.startswith("v2Pro"):
        feeds["speaker"] = random.standard_normal((1, 20480), dtype=np.float32)
    found = voice.run("reference", feeds)
    for name, expected in zip(("ge", "ge_text"), synthesizer.reference(**tensors(feeds)), strict=False):
        assert_equal(found[name], expected)
