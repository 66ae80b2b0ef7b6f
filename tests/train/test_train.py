"""The demo voice's training on a made-up corpus: no festival, no package beyond torch, a few steps of each part."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from gsvexport.demo import small
from gsvexport.text.phonemise import SIGNS, phonemise
from gsvexport.text.symbols import phone_ids
from gsvexport.train import corpus
from gsvexport.train.festival import PAUSE, Segment, festival_phone
from gsvexport.train.grid import plan, units
from gsvexport.train.speech import CHANNELS
from gsvexport.voice.checkpoint import read_checkpoint
from gsvexport.voice.voice import read_voice

torch = pytest.importorskip("torch")
courses, data, encoder, loop, pack, shape, t2s, tokens, vocoder, evaluate, recipe = (
    pytest.importorskip(f"gsvexport.train.{name}")
    for name in ("courses", "data", "encoder", "loop", "pack", "shape", "t2s", "tokens", "vocoder", "evaluate", "small")
)

TEXTS = {
    "r00000": "We are going home.",
    "v00000": "Where is it?",
    "t00000": "The red bag.",
    "s00000": "The sun is out.",
    "s00001": "You and me.",
    "s00002": "Where is it going, the red bag of the home we are in?",
}
TOML = """\
[voice]
name = "demo"
language = "en"
gpt = "gpt.ckpt"
sovits = "sovits.pth"
[reference]
audio = "reference.wav"
text = "We are going home."
prompt_codes = "reference_codes.npy"
"""


def festival_said(text):
    (phones,) = phonemise(text, "en", "v2")
    phones = phones[1:] if phones[0] in SIGNS else phones
    names = [PAUSE, *(PAUSE if not phone[0].isalpha() else festival_phone(phone) for phone in phones)]
    return [Segment(name, 0.08 * place, 0.08 * (place + 1)) for place, name in enumerate(names)]


def utterance(name, text, random):
    placed = plan(*units(text, festival_said(text)), np.full(2000, 170.0), 0.005)
    tokens = len(placed.unit)
    return corpus.Utterance(
        name,
        text,
        np.array(phone_ids(placed.phones, "v2"), np.int64),
        placed.keys(),
        placed.aligned(),
        (random.standard_normal(tokens * 1280) * 2000).astype(np.int16),
        random.standard_normal((2 * tokens, CHANNELS)).astype(np.float32),
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Corpus, vocabulary and statistics."""
    folder = tmp_path_factory.mktemp("train")
    random = np.random.default_rng(0)
    (folder / "corpus").mkdir()
    corpus.write(folder / "corpus" / "0000.npz", [utterance(name, text, random) for name, text in TEXTS.items()])
    data.learn_vocabulary(folder / "corpus", folder / "vocabulary.pt")
    data.prepare(folder / "corpus", folder / "prepared.pt", lambda line: None)
    known = data.load_vocabulary(folder / "vocabulary.pt")
    found = data.acoustic(folder / "corpus", folder / "prepared.pt")
    lines = t2s.read(folder / "corpus", shape.GPT.eos, known)
    return SimpleNamespace(folder=folder, known=known, data=found, lines=lines)


def parts(made):
    """Name → (a training of two steps that writes its checkpoint to `path`)."""

    def train_vocoder(path, schedule):
        vocoder.regress(shape.untrained().dec, made.data, path, schedule, "cpu", lambda line: None)

    def train_judged(path, schedule):
        predicted = [one.latent + 0.1 for one in made.data.train]
        vocoder.refine(shape.untrained().dec, made.data, predicted, path, schedule, "cpu", lambda line: None)

    def train_encoder(path, schedule):
        encoder.learn(shape.untrained(), made.data, made.known, path, schedule, "cpu", lambda line: None)

    def train_gpt(path, schedule):
        course, gpt = replace(courses.LEARN, positions=300), t2s.untrained(replace(shape.GPT, layers=1))
        t2s.learn(course, gpt, made.lines, path, schedule, "cpu", lambda line: None)

    def polish(path, schedule):
        t2s.learn(courses.POLISH, t2s.untrained(shape.GPT), made.lines, path, schedule, "cpu", lambda line: None)

    return {
        "vocoder": train_vocoder,
        "adversarial": train_judged,
        "encoder": train_encoder,
        "gpt": train_gpt,
        "polish": polish,
    }


@pytest.fixture
def short_crops(monkeypatch):
    monkeypatch.setattr(vocoder, "_FRAMES", 8)
    monkeypatch.setattr(vocoder, "_ADVERSARIAL_FRAMES", 8)
    monkeypatch.setattr(vocoder, "_BATCH", 2)
    monkeypatch.setattr(vocoder, "_ADVERSARIAL_BATCH", 2)


def assert_same(one, other):
    """Two checkpoints hold the same, to the last bit."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list):
        for first, second in zip(one, other, strict=True):
            assert_same(first, second)
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    else:
        assert one == other


class Killed(Exception):
    """What ends the first run."""


@pytest.mark.parametrize(
    "name",
    [
        "adversarial",
        "gpt",
        *(pytest.param(name, marks=pytest.mark.thorough) for name in ("vocoder", "encoder", "polish")),  # the same loop
    ],
)
def test_a_killed_training_ends_with_the_same_numbers(made, name, short_crops, tmp_path, monkeypatch):
    train = parts(made)[name]
    schedule = loop.Schedule(3, save=1, report=1, evaluate=100)
    train(tmp_path / "whole.pt", schedule)

    update, calls = loop.update, []

    def killing(*args):
        calls.append(None)
        if len(calls) > 2:
            raise Killed
        update(*args)

    monkeypatch.setattr(loop, "update", killing)
    with pytest.raises(Killed):
        train(tmp_path / "halves.pt", schedule)
    monkeypatch.setattr(loop, "update", update)
    assert loop.restore(tmp_path / "halves.pt", {}) in (1, 2)
    train(tmp_path / "halves.pt", schedule)
    assert_same(*(torch.load(tmp_path / f"{which}.pt", weights_only=True) for which in ("halves", "whole")))


def test_a_packed_voice_is_read_strictly_and_speaks(made, tmp_path):
    network, gpt = shape.untrained(), t2s.untrained(shape.GPT)
    encoder.set_codebook(network, made.known)
    pack.write(tmp_path / "voice", gpt, network, made.known, made.data, sharpness=1.0, steps={"gpt": 0})
    (tmp_path / "voice" / "voice.toml").write_text(TOML, encoding="utf-8")
    voice = read_voice(tmp_path / "voice")
    assert voice.version == "v2"
    assert voice.acoustics == shape.SOVITS
    assert voice.t2s == shape.GPT
    speaker = evaluate.Speaker(tmp_path / "voice")
    line = made.data.test[0]
    audio = speaker.audio(made.known.codes(line.keys), line.phones.tolist())
    assert audio.shape == (len(line.audio),)
    assert np.isfinite(audio).all()


def test_equal_voices_pack_to_equal_archives(made, tmp_path):
    network, gpt = shape.untrained(), t2s.untrained(shape.GPT)
    for name in ("a", "b"):
        pack.write(tmp_path / name, gpt, network, made.known, made.data, sharpness=1.0, steps={"gpt": 0})
    for file in pack.FILES:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


def test_true_codes_have_no_phone_errors(made):
    for line in made.data.train:
        codes = made.known.codes(line.keys)
        assert evaluate.phone_errors(codes, line.phones.tolist(), made.known)[0] == 0
        assert evaluate.phone_errors(codes[len(codes) // 2 :], line.phones.tolist(), made.known)[0] > 0


def test_the_voice_that_travels_can_be_trained_on(tmp_path):
    """Its vocabulary is found in its codebook, and its GPT comes out of training and packing as it went in."""
    shipped = small.folder()
    rows = read_checkpoint(shipped / "sovits.pth").tensors["quantizer.vq.layers.0._codebook.embed"].astype(np.float32)
    known = tokens.of_codebook(rows)
    codes = np.load(shipped / "reference_codes.npy")
    assert np.array_equal(known.codes(known.keys[codes]), codes)
    with pytest.raises(ValueError, match="no vocabulary"):
        tokens.of_codebook(-rows)
    network = t2s.untrained(shape.GPT)
    network.load_state_dict(pack.unpacked_gpt(shipped / "gpt.ckpt", recipe.SHARPNESS))
    pack.write_gpt(tmp_path / "gpt.ckpt", network, known, recipe.SHARPNESS, "")
    before, after = (read_checkpoint(path / "gpt.ckpt").tensors for path in (shipped, tmp_path))
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)
