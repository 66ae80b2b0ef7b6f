from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from stage import built
from test_bake import record

from gsvexport.demo.weights import SOVITS
from gsvexport.errors import InputError, VoiceError
from gsvexport.graphs.hubert import ssl
from gsvexport.graphs.layers import Tensors
from gsvexport.model import Spectrogram
from gsvexport.runtime.clone import cloned
from gsvexport.signal.cloning import keeps_pace, odd_pace
from gsvexport.synthetic import write_voice
from gsvexport.synthetic.pretrained import write_pretrained
from gsvexport.voice.pretrained import read_hubert
from gsvexport.voice.profile import given_reference
from gsvexport.voice.reference import read_reference
from gsvexport.voice.voice import read_voice


def stage(folder):
    network = read_hubert(folder)
    return built("ssl", lambda g: ssl(g, Tensors("hubert", network.file.tensors), network.dims))


@pytest.fixture(scope="module")
def folder(networks):
    return networks[0] / networks[1]["hubert"]


@pytest.fixture
def copy(folder, tmp_path):
    def make(**config):
        shutil.copytree(folder, tmp_path / "hubert")
        values = json.loads((tmp_path / "hubert/config.json").read_text())
        (tmp_path / "hubert/config.json").write_text(json.dumps(values | config))
        return tmp_path / "hubert"

    return make


def theirs(folder, audio):
    """The last hidden state of transformers' own HubertModel, from the same folder."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = transformers.HubertModel.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return [model(torch.from_numpy(one)).last_hidden_state.numpy().swapaxes(1, 2) for one in audio]


@pytest.mark.parametrize("samples", [(400, 719, 16000, 16001)])
def test_features_are_those_of_transformers_own_class(folder, samples):
    run = stage(folder)
    audio = [np.random.default_rng(n).standard_normal((1, n)).astype(np.float32) * 0.1 for n in samples]
    for one, expected in zip(audio, theirs(folder, audio), strict=True):
        found = run(audio_16k=one)["ssl_content"]
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=2e-5)


def test_both_file_formats_and_both_names_of_weight_norm_give_the_same(folder, tmp_path):
    from safetensors.numpy import load_file, save_file

    write_pretrained(tmp_path, ("hubert",), safetensors=True)
    other = tmp_path / "chinese-hubert-base"
    tensors = load_file(other / "model.safetensors")
    for old, new in (("weight_g", "original0"), ("weight_v", "original1")):
        name = "encoder.pos_conv_embed.conv."
        tensors[f"{name}parametrizations.weight.{new}"] = tensors.pop(f"{name}{old}")
    save_file({f"hubert.{name}": array for name, array in tensors.items()}, other / "model.safetensors")
    audio = np.random.default_rng(0).standard_normal((1, 2000)).astype(np.float32)
    np.testing.assert_array_equal(
        stage(folder)(audio_16k=audio)["ssl_content"], stage(other)(audio_16k=audio)["ssl_content"]
    )


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"hidden_size": 1024}, "voices take 768"),
        ({"feat_extract_norm": "layer", "do_stable_layer_norm": True}, "only 'group' is supported"),
        ({"num_hidden_layers": 3}, "missing tensor: encoder.layers.2"),
        ({"intermediate_size": 65}, "expected [65, 768]"),
        ({"num_attention_heads": 7}, "7 heads do not divide"),
        ({"conv_kernel": [10, 3]}, "differ in length"),
        ({"model_type": "wav2vec2"}, "not a hubert"),
        ({"num_hidden_layers": 1 << 40}, "whole number from 1 to 128"),
    ],
)
def test_another_network_is_refused(copy, config, told):
    with pytest.raises(VoiceError) as error:
        read_hubert(copy(**config))
    assert told in str(error.value)


def test_a_folder_without_weights_or_with_a_pickle_is_refused(copy):
    folder = copy()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x02cos\nsystem\n.")
    with pytest.raises(VoiceError, match="bare pickle"):
        read_hubert(folder)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(VoiceError, match="holds neither"):
        read_hubert(folder)
    (folder / "config.json").write_text("[" * 100_000)
    with pytest.raises(VoiceError, match="at most 65536 are read"):
        read_hubert(folder)


def test_one_of_another_pace_is_refused(copy, tmp_path):
    folder = write_voice(tmp_path / "voice", reference=False)
    with open(folder / "voice.toml", "a", encoding="utf-8") as file:
        file.write(f'\n[pretrained]\nhubert = "{copy(conv_stride=[5, 2, 2, 2, 2, 2, 1]).as_posix()}"\n')
    with pytest.raises(VoiceError, match=r"makes 100\.0 features a second, this voice takes 50\.0 \(640 samples"):
        read_voice(folder)


def test_the_pace_of_a_code():
    assert odd_pace(32000, 640) is None
    assert odd_pace(44100, 882) is None
    assert "lasts 23.2 ms, and HuBERT, which makes them of recordings, gives one each 40 ms" in odd_pace(22050, 256)
    assert keeps_pace(16000 / (31 * 3 * 2), 22050, 256)  # what a network for the real demo voice's codes could have
    assert not keeps_pace(50, 32000, 625)


def test_a_voice_of_another_pace_says_that_no_prompt_can_be_made(tmp_path):
    record(tmp_path / "one.wav")
    table = given_reference([tmp_path / "one.wav"], "Hello there, how are you?", None)
    with pytest.raises(VoiceError, match=r"cannot be made: a code of this voice lasts 23\.2 ms"):
        read_reference(table, "en", SOVITS, ())
    spectrogram = Spectrogram(SOVITS.rate, SOVITS.n_fft, SOVITS.hop, SOVITS.window_length)
    model = SimpleNamespace(language="en", version="v2", spectrogram=spectrogram)
    with pytest.raises(InputError, match=r"(?s)no prompt can be made of the recording.*leave out its text"):
        cloned(SimpleNamespace(model=model, stages={}), np.zeros(22050), 22050, "Hello there.", None, None)
