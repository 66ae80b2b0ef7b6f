"""Synthetic voices are what upstream would have written: names, shapes, containers; and they behave like voices."""

from __future__ import annotations

import hashlib
import io
import sys
import types
import zipfile

import numpy as np
import pytest
from conformance import conformance

from gsvexport.errors import InputError
from gsvexport.stages import VERSIONS
from gsvexport.synthetic import TRAINER_PATH, sovits_weights, t2s_weights, voice_sizes, write_voice
from gsvexport.synthetic.container import HParams, write_checkpoint
from gsvexport.synthetic.matching import lora_weights
from gsvexport.voice.checkpoint import read_checkpoint
from gsvexport.voice.voice import read_voice

BUFFERS = "quantizer."  # statistics and codebook, which are no parameters


def shapes(tensors):
    return {name: array.shape for name, array in tensors.items()}


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.mark.parametrize("version", VERSIONS)
def test_names_and_shapes_are_those_of_upstreams_files(version):
    folder, mel = conformance(version).folder, VERSIONS[version].mel is not None
    gpt, sovits = read_checkpoint(folder / "gpt.ckpt"), read_checkpoint(folder / ("base.pth" if mel else "sovits.pth"))
    model = sovits.config["model"]
    vocoder = {} if mel else {"upsample_initial": model["upsample_initial_channel"]}
    matching = {"wns_layers": 2, "cfm_width": 128, "cfm_layers": 2, "cfm_heads": 2, "cfm_text_layers": 2} if mel else {}
    sizes = voice_sizes(
        version,
        "full",
        t2s_layers=gpt.config["model"]["n_layer"],
        t2s_width=gpt.config["model"]["hidden_dim"],
        t2s_heads=gpt.config["model"]["head"],
        inter=model["inter_channels"],
        filter=model["filter_channels"],
        layers=model["n_layers"],
        gin=model["gin_channels"],
        **vocoder,
        **matching,
    )
    assert shapes(t2s_weights(sizes, 0)) == shapes(gpt.tensors)
    whole = sovits_weights(sizes, 0)
    assert shapes(whole) == shapes(sovits.tensors)
    if mel:
        assert shapes(lora_weights(whole, sizes, 4, 0)) == shapes(read_checkpoint(folder / "sovits.pth").tensors)


@pytest.mark.parametrize(
    ("version", "t2s", "sovits"),
    [
        ("v1", 77_493_762, 40_778_112),
        ("v2", 77_606_402, 40_815_744),
        ("v2Pro", 77_606_402, 65_788_032),
        ("v2ProPlus", 77_606_402, 84_698_368),
    ],
)
def test_full_size_has_upstreams_parameter_counts(version, t2s, sovits):
    sizes = voice_sizes(version, "full")
    if version in ("v1", "v2"):  # the others have v2's GPT
        assert sum(array.size for array in t2s_weights(sizes, 0).values()) == t2s
    weights = sovits_weights(sizes, 0)
    assert sum(array.size for name, array in weights.items() if not name.startswith(BUFFERS)) == sovits


@pytest.mark.parametrize("version", VERSIONS)
def test_our_reader_finds_the_sizes_and_version_that_were_asked_for(tmp_path, version):
    voice = read_voice(write_voice(tmp_path, version, t2s_layers=1, filter=48, heads=3, kernel=5, layers=4))
    assert voice.version == voice.acoustics.version == version
    assert (voice.t2s.layers, voice.t2s.width, voice.t2s.heads) == (1, 64, 4)
    found = voice.acoustics
    assert (found.filter, found.heads, found.kernel, found.text_layers, found.ssl_layers) == (48, 3, 5, 4, 2)
    reference = voice.reference
    assert reference is not None
    assert reference.prompt_codes.shape == (100,)
    assert len(reference.speaker) == VERSIONS[version].speaker


def test_a_voice_without_a_reference_is_one_too(tmp_path):
    assert read_voice(write_voice(tmp_path, reference=False)).reference is None


def test_equal_arguments_give_equal_bytes(tmp_path):
    first, second, other = (
        digests(write_voice(tmp_path / str(n), "v2Pro", seed=seed)) for n, seed in enumerate((1, 1, 2))
    )
    assert first == second
    assert all(first[name] != other[name] for name in first)


@pytest.mark.parametrize(
    ("version", "header", "root"),
    [("v1", b"PK", "17"), ("v2", b"PK", "17"), ("v2Pro", b"05", "archive"), ("v2ProPlus", b"06", "archive")],
)
def test_torch_reads_what_upstream_would_have_written(tmp_path, monkeypatch, version, header, root):
    torch = pytest.importorskip("torch")
    write_voice(tmp_path, version, filter=32)

    class Stub:
        """Upstream's class sets attributes."""

    Stub.__module__, Stub.__qualname__ = "utils", "HParams"
    utils = types.ModuleType("utils")
    utils.HParams = Stub
    monkeypatch.setitem(sys.modules, "utils", utils)

    data = (tmp_path / "sovits.pth").read_bytes()
    assert data[:2] == header
    repaired = io.BytesIO(b"PK" + data[2:])
    with zipfile.ZipFile(repaired) as archive:
        assert all(name.startswith(root) for name in archive.namelist())
        assert archive.testzip() is None
    repaired.seek(0)
    found = torch.load(repaired, weights_only=False)
    assert list(found) == ["weight", "config", "info"]
    assert type(found["config"]) is type(found["config"].model) is Stub
    assert found["config"].model.filter_channels == 32
    assert not any(name.startswith("enc_q") for name in found["weight"])
    assert "quantizer.vq.layers.0._codebook.embed_avg" in found["weight"]
    ours = read_checkpoint(tmp_path / "sovits.pth").tensors
    assert list(ours) == list(found["weight"])
    assert all(np.array_equal(ours[name], tensor.numpy()) for name, tensor in found["weight"].items())
    gpt = torch.load(tmp_path / "gpt.ckpt", weights_only=True)
    assert gpt["config"]["model"]["phoneme_vocab_size"] == (512 if version == "v1" else 732)


def test_weight_norm_is_not_folded(tmp_path):
    tensors = sovits_weights(voice_sizes("v2", "tiny"), 0)
    ups = [name for name in tensors if name.endswith("weight_v")]
    assert ups
    for name in ups:
        length = np.sqrt(np.square(tensors[name], dtype=np.float64).sum(axis=(1, 2), keepdims=True))
        ratio = tensors[name.replace("weight_v", "weight_g")] / length
        assert ratio.std() > 0.1, name


def test_the_container_refuses_what_upstream_never_stores(tmp_path):
    with pytest.raises(TypeError, match="set"):
        write_checkpoint(tmp_path / "file", {"config": HParams(value={1, 2})}, root=None)


def test_every_impossible_size_is_named_at_once():
    with pytest.raises(InputError) as caught:
        voice_sizes("v2", "tiny", gin=64, heads=5, upsample_rates=(10, 8), upsample_initial=66, resblock="3")
    named = ["heads", "gin", "resblock", "upsample_rates", "upsample_kernels", "upsample_initial"]
    assert [problem.split()[0] for problem in caught.value.problems] == named
    with pytest.raises(InputError) as caught:
        voice_sizes("v5", "huge", filters=3)
    assert len(caught.value.problems) == 3
    assert "did you mean 'filter'?" in str(caught.value)


def test_files_carry_a_trainers_path_as_real_ones_do(tmp_path):
    write_voice(tmp_path)
    for name in ("gpt.ckpt", "sovits.pth"):
        assert TRAINER_PATH in str(read_checkpoint(tmp_path / name).config)


def greedy(t2s, torch, phones, prompt, limit):
    """Tokens by arg-max over what was not said yet, until EOS, which may not come in the first 11 steps."""
    logits, keys, values = t2s.prefill(phones, torch.zeros(1, 1024, phones.shape[1]), prompt)
    said = []
    while len(said) < limit:
        scores = logits[0].clone()
        scores[said] = -torch.inf
        token = int(scores[: 1024 if len(said) < 11 else 1025].argmax())
        if token == 1024:
            break
        position = torch.tensor([prompt.shape[1] + len(said)])
        said.append(token)
        logits, key, value = t2s.step(torch.tensor([[token]]), position, keys, values)
        keys, values = torch.cat([keys, key], 2), torch.cat([values, value], 2)
    return said


# test_other_mel_dimensions.py hears the others
@pytest.mark.parametrize("version", [name for name, version in VERSIONS.items() if version.mel is None])
def test_every_layer_keeps_a_speaking_level(tmp_path, version):
    torch = pytest.importorskip("torch")
    from gsvexport.voice.networks import load_networks

    random = np.random.default_rng(0)
    with torch.inference_mode():
        for seed in range(2):
            voice = read_voice(write_voice(tmp_path, version, seed=seed))
            t2s, synthesizer = load_networks(voice)
            phones = torch.from_numpy(random.integers(0, 322, (1, 30)))
            prompt = torch.from_numpy(voice.reference.prompt_codes)[None]
            tokens = greedy(t2s, torch, phones, prompt, 400)
            assert 11 <= len(tokens) < 400
            spectrogram = torch.from_numpy(np.abs(random.standard_normal((1, 1025, 60))).astype(np.float32) * 3)
            speaker = torch.from_numpy(voice.reference.speaker[0])[None] if voice.reference.speaker else None
            ge = synthesizer.reference(spectrogram, speaker)
            noise = torch.from_numpy(random.standard_normal((1, voice.acoustics.inter, 2 * len(tokens))))
            latent = synthesizer.acoustic(
                torch.tensor([tokens]), phones, ge[0], ge[1] if speaker is not None else None, noise.float(), 0.5
            )
            audio = synthesizer.vocoder(latent, ge[0])
            assert 0.3 < ge[0].std() < 3
            assert 0.5 < latent.std() < 3
            assert 0.01 < audio.std() < 0.5
            assert abs(float(audio.mean())) < 0.01
            assert len(torch.unique(synthesizer.prompt(torch.randn(1, 768, 100) * 0.3))) > 25


def test_a_voice_without_end_never_scores_eos_above_another_code(tmp_path):
    torch = pytest.importorskip("torch")
    from gsvexport.voice.networks import load_networks

    t2s, _ = load_networks(read_voice(write_voice(tmp_path, eos_gain=0)))
    with torch.inference_mode():
        assert len(greedy(t2s, torch, torch.arange(20)[None], torch.arange(10)[None], 100)) == 100
