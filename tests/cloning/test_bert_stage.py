from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from stage import built

from gsvexport.errors import VoiceError
from gsvexport.graphs.bert import bert
from gsvexport.graphs.layers import Tensors
from gsvexport.text.features import LONGEST, text_features, token_ids, vocabulary
from gsvexport.text.phonemise import Sentence
from gsvexport.text.words import Word
from gsvexport.voice.pretrained import read_bert

TEXTS = ("你好,世界.", "他说:了一二三!", "〇年…", "A一Éb?", "𠀀不在表里.")


@pytest.fixture(scope="module")
def folder(networks):
    return networks[0] / networks[1]["bert"]


@pytest.fixture(scope="module")
def stage(folder):
    network = read_bert(folder)
    return built("bert", lambda g: bert(g, Tensors("bert", network.file.tensors), network.dims))


def test_features_are_the_third_last_state_of_transformers_own_class(folder, stage):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = transformers.BertModel.from_pretrained(folder, dtype=torch.float32).eval()
    known = vocabulary(read_bert(folder).vocabulary)
    for text in TEXTS:
        ids = token_ids(text, known)
        with torch.no_grad():
            states = model(torch.from_numpy(ids), output_hidden_states=True).hidden_states
        found = stage(input_ids=ids)["features"]
        assert found.shape == (1, 1024, len(text))
        np.testing.assert_allclose(found, states[-3][:, 1:-1].numpy().swapaxes(1, 2), atol=2e-5)


@pytest.mark.parametrize("text", ["你好,世界.", "他说了一二三!", "好…不好?", "𠀀不在表里."])
def test_tokens_are_those_of_upstreams_tokenizer(folder, text):
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.BertTokenizer(str(folder / "vocab.txt"))
    assert token_ids(text, vocabulary((folder / "vocab.txt").read_bytes()))[0].tolist() == tokenizer(text)["input_ids"]


def test_each_phone_gets_the_features_of_its_character():
    words = (
        Word(("n", "i3", "h", "ao3"), "你好", (2, 2)),
        Word((",",), ",", (1,)),
        Word(("HH", "AY1")),
        Word((".",), ".", (1,)),
    )
    seen = []

    def run(stage, feeds):
        seen.append(feeds["input_ids"][0].tolist())
        return {"features": np.repeat(feeds["input_ids"][:, None, 1:-1], 1024, axis=1).astype(np.float32)}

    known = {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "你": 5, "好": 6, ",": 7, ".": 8}
    found = text_features(Sentence(words), known, run)
    assert found[0, 0].tolist() == [5, 5, 6, 6, 7, 0, 0, 8]
    assert seen == [[1, 5, 6, 7, 2], [1, 8, 2]]


def test_a_very_long_run_is_read_in_parts():
    count = LONGEST + 10
    sentence = Sentence((Word(("a",) * 2 * count, "你" * count, (2,) * count),))
    sizes = []

    def run(stage, feeds):
        sizes.append(feeds["input_ids"].size - 2)
        return {"features": np.ones((1, 1024, sizes[-1]), np.float32)}

    assert text_features(sentence, {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2}, run).all()
    assert sizes == [LONGEST, 10]


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"hidden_size": 768}, "voices take 1024"),
        ({"vocab_size": 100}, "vocab.txt has 6000 tokens"),
        ({"num_hidden_layers": 2}, "third last state"),
        ({"num_hidden_layers": 9}, "missing tensor: encoder.layer.3"),
        ({"hidden_act": "relu"}, "only 'gelu'"),
    ],
)
def test_another_network_is_refused(folder, tmp_path, config, told):
    shutil.copytree(folder, tmp_path / "bert")
    values = json.loads((tmp_path / "bert/config.json").read_text())
    (tmp_path / "bert/config.json").write_text(json.dumps(values | config))
    with pytest.raises(VoiceError) as error:
        read_bert(tmp_path / "bert")
    assert told in str(error.value)


def test_a_vocabulary_without_its_special_tokens_is_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "bert")
    (tmp_path / "bert/vocab.txt").write_text("你\n好\n")
    with pytest.raises(VoiceError, match=r"no \[CLS\]"):
        read_bert(tmp_path / "bert")
