"""The corpora in calibration/, and the choice of sentences from them."""

import re

import pytest

from gsvexport.calibrate.corpus import Sentence, choose, find_corpora, folder, languages, read_corpus
from gsvexport.calibrate.coverage import missing_phones
from gsvexport.errors import InputError
from gsvexport.text.symbols import phone_ids, symbols

LANGUAGES = ["en", "ja", "ko", "yue", "zh"]
CORPORA = {name: read_corpus(folder() / f"{name}.toml") for name in LANGUAGES}
# How many symbols a language's inventory has; regenerate.py says where they come from.
SIZES = {"en": 69, "ja": 41, "ko": 28, "yue": 243, "zh": 175}


def texts(language):
    return [sentence.text for sentence in CORPORA[language].sentences]


def test_there_is_a_corpus_for_every_language_upstream_speaks():
    assert languages() == LANGUAGES


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_corpus_says_every_phone_that_its_language_needs(language):
    corpus = CORPORA[language]
    assert corpus.language == language
    assert len(corpus.inventory) == len(set(corpus.inventory)) == SIZES[language]
    assert missing_phones((sentence.phones for sentence in corpus.sentences), corpus.inventory) == ()


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_corpus_varies_length_punctuation_digits_and_script(language):
    corpus = CORPORA[language]
    lengths = [len(sentence.phones) for sentence in corpus.sentences]
    assert len(lengths) >= 24
    assert min(lengths) <= 6
    assert max(lengths) >= 150
    assert len(set(texts(language))) == len(lengths), "a sentence is there twice"
    marks = {phone for sentence in corpus.sentences for phone in sentence.phones} & set(",.!?…-")
    assert marks >= set(",.!?…")
    assert any(re.search(r"\d", text) for text in texts(language))
    other = r"[\u4e00-\u9fff]" if language == "en" else r"[A-Za-z]"
    assert any(re.search(other, text) for text in texts(language)), "no sentence mixes languages"


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_phone_is_in_the_table_and_no_sound_is_unknown(language):
    for sentence in CORPORA[language].sentences:
        phone_ids(sentence.phones, "v2")
        allowed = {"UNK"} if language == "ja" else set()  # the border of accent phrases
        assert not {"UNK", "_"}.intersection(sentence.phones) - allowed


def test_a_japanese_voice_with_the_old_table_has_sentences_to_say():
    old = set(symbols("v1"))
    sayable = [sentence for sentence in CORPORA["ja"].sentences if old.issuperset(sentence.phones)]
    missing = missing_phones((sentence.phones for sentence in sayable), CORPORA["ja"].inventory)
    assert len(sayable) >= 10
    assert set(missing) <= {"[", "]", "UNK"}


def test_english_and_mandarin_need_only_the_old_table_and_korean_and_cantonese_do_not():
    old = set(symbols("v1"))
    assert {name for name in LANGUAGES if old.issuperset(CORPORA[name].inventory)} == {"en", "zh"}


@pytest.mark.parametrize(
    ("language", "text", "phones"),
    [
        ("en", "Yes.", "Y EH1 S ."),
        ("zh", "谢谢您。", "x ie4 x ie4 n in2 ."),
        ("ja", "はい。", ". h a ] i ."),
        ("ja", "どちらへ行きますか？", "d o ch i r a e i k i m a s U k a ?"),
        ("ko", "왜요?", "ㅇ ㅗ ㅐ ㅇ ㅣ ㅗ ?"),
        ("yue", "點解呀？", "Yd Yim2 Yg Yaai2 Yaa3 ?"),
    ],
)
def test_phones_follow_the_scheme_of_their_language(language, text, phones):
    found = {sentence.text: " ".join(sentence.phones) for sentence in CORPORA[language].sentences}
    assert found[text] == phones


def test_names_of_corpora_are_resolved():
    assert [corpus.language for corpus in find_corpora("voice", "ko")] == ["ko"]
    assert [corpus.language for corpus in find_corpora("all", "ko")] == LANGUAGES
    assert [corpus.language for corpus in find_corpora("voice+en+ko", "ko")] == ["ko", "en"]


def test_a_corpus_of_your_own_is_a_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('language = "en"\ninventory = "AH0 K"\n[[sentence]]\ntext = "a"\nphones = "AH0"\n')
    (corpus,) = find_corpora(str(path), "ja")
    assert corpus.sentences == (Sentence("mine:1", "a", ("AH0",)),)


def test_unknown_corpora_are_all_named_with_the_nearest():
    with pytest.raises(InputError) as caught:
        find_corpora("voice+yuee", "fr")
    assert len(caught.value.problems) == 2
    assert "'fr' (the voice's language)" in caught.value.problems[0]
    assert "did you mean 'yue'?" in caught.value.problems[1]


def test_everything_wrong_with_a_corpus_is_reported_at_once(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text('language = "en"\ninventory = "AH9"\n[[sentence]]\ntext = "a"\nphone = "AH0"\nphones = "AHO K"\n')
    with pytest.raises(InputError) as caught:
        read_corpus(path)
    text = "\n".join(caught.value.problems)
    assert "inventory: unknown phone 'AH9'" in text
    assert "sentence 1: unknown key 'phone'" in text
    assert "sentence 1: unknown phone 'AHO'; did you mean" in text
    path.write_text("language = 3\nsentences = []\n")
    with pytest.raises(InputError) as caught:
        read_corpus(path)
    assert len(caught.value.problems) == 4  # the unknown key, and three that are missing or of another kind


def sentence(name, phones):
    return Sentence(name, name, tuple(phones.split()))


def test_the_extremes_of_length_lead_and_then_what_is_new():
    short, long = sentence("short", "a"), sentence("long", "a b c a b c")
    little, much = sentence("little", "a b d"), sentence("much", "e f d")
    chosen = choose([little, short, much, long], "abcdef", 4)
    assert [one.name for one in chosen] == ["short", "long", "much", "little"]
    assert choose([little, short, much, long], "abcdef", 6)[4:] == [short, long]


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_default_number_of_sentences_covers_a_language(language):
    from gsvexport.calibrate import Settings

    corpus = CORPORA[language]
    chosen = choose(corpus.sentences, corpus.inventory, Settings().sentences)
    missing = missing_phones((one.phones for one in chosen), corpus.inventory)
    assert len(missing) == 0, missing


def test_the_digest_changes_with_the_phones(tmp_path):
    path = tmp_path / "one.toml"
    digests = set()
    for phones in ("AH0", "AH1"):
        path.write_text(f'language = "en"\ninventory = "K"\n[[sentence]]\ntext = "a"\nphones = "{phones}"\n')
        digests.add(read_corpus(path).digest)
    assert len(digests) == 2
