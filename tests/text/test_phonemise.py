"""What every language's text goes through: sentences, their length, their signs."""

import subprocess
import sys
import time

import pytest

from gsvexport.demo import sentences
from gsvexport.errors import InputError
from gsvexport.text.phonemise import LIMIT, SIGNS, languages, phonemise
from gsvexport.text.symbols import symbols


def said(text, **options):
    return [" ".join(phones) for phones in phonemise(text, "en", "v2", **options)]


def test_sentences_end_with_a_sign_and_short_ones_begin_with_a_comma():
    assert said("Good day! Is it? It is") == ["G UH1 D D EY1 !", "IH1 Z IH1 T ?", "IH1 T IH1 Z ."]
    assert said("Oh.") == [", OW1 ."]
    assert said("... Well, - yes") == ["W EH1 L , Y EH1 S ."]
    assert said("Wait… what") == ["W EY1 T … W AH1 T ."]


@pytest.mark.parametrize("text", ["", " \n", "...", "?!", "“”", "-", "'"])
def test_a_text_without_sound_is_refused(text):
    with pytest.raises(InputError, match="no sound"):
        phonemise(text, "en", "v2")


@pytest.mark.parametrize("language", ["ko", "", "../en", "EN"])
def test_other_languages_are_refused_with_the_known_ones_and_the_way_out(language):
    with pytest.raises(InputError, match="phones=") as caught:
        phonemise("hello", language, "v2")
    assert caught.value.limit == ", ".join(languages()) == "en, ja, zh"


def test_the_demo_voices_sentences_get_the_phones_that_it_was_trained_with():
    table = symbols("v2")
    for sentence in sentences():
        assert phonemise(sentence.text, "en", "v2") == [[table[number] for number in sentence.phones]]


def test_long_sentences_are_cut_at_signs_or_between_words():
    clause = "the quick brown fox jumps over the lazy dog"
    pieces = phonemise(", ".join([clause] * 20) + ".", "en", "v2")
    assert len(pieces) > 3
    assert all(len(piece) <= LIMIT and piece[-1] in SIGNS for piece in pieces)
    assert all(piece[-1] == "," for piece in pieces[:-1])
    endless = phonemise(" ".join([clause] * 20), "en", "v2", limit=60)
    sounds = [phone for piece in endless for phone in piece if phone not in SIGNS]
    assert sounds == phonemise(clause, "en", "v2")[0][:-1] * 20
    assert all(len(piece) <= 60 for piece in endless)


def test_a_word_longer_than_the_limit_is_cut_too():
    pieces = phonemise("ba" * 3000, "en", "v2")
    assert all(len(piece) <= LIMIT for piece in pieces)
    assert sum(len(piece) for piece in pieces) >= 6000


def test_a_book_takes_seconds():
    start = time.process_time()
    pieces = phonemise("In 1984, Mr. Smith paid $3.50 for 12 gizmos. " * 2000, "en", "v2")
    assert len(pieces) == 2000
    assert time.process_time() - start < 20


def test_nothing_but_the_standard_library_is_loaded_and_quickly():
    code = (
        "import sys, time; start = time.process_time(); from gsvexport.text.phonemise import phonemise;"
        "phonemise('Hello there, world!', 'en', 'v2'); print(time.process_time() - start);"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, loaded = done.stdout.splitlines()
    assert float(seconds) < 1  # 0.1 s on an idle core
    assert not {"numpy", "onnx", "onnxruntime", "torch", "pypinyin", "jieba", "pyopenjtalk"} & set(loaded.split())
