"""What every language's text goes through: sentences, their length, their signs."""

import subprocess
import sys
import time

import pytest

from gsvexport.demo import sentences
from gsvexport.errors import InputError
from gsvexport.text.phonemise import LIMIT, SIGNS, languages, phonemise
from gsvexport.text.runs import runs
from gsvexport.text.symbols import symbols


def said(text, **options):
    return [" ".join(phones) for phones in phonemise(text, "en", "v2", **options)]


def test_sentences_end_with_a_sign_and_short_texts_begin_with_a_full_stop():
    assert said("Good day! Is it? It is") == ["G UH1 D D EY1 !", "IH1 Z IH1 T ? IH1 T IH1 Z ."]
    assert said("Oh.") == [", . OW1 ."]
    assert said("Yes! They came.") == [". Y EH1 S ! DH EY1 K EY1 M ."]
    assert said("... Well, - yes") == [". W EH1 L , Y EH1 S ."]
    assert said("Wait… what") == ["W EY1 T W AH1 T ."]


@pytest.mark.parametrize("text", ["", " \n", "...", "?!", "“”", "-", "'"])
def test_a_text_without_sound_is_refused(text):
    with pytest.raises(InputError, match="no sound"):
        phonemise(text, "en", "v2")


@pytest.mark.parametrize("language", ["fr", "", "../en", "EN"])
def test_other_languages_are_refused_with_the_known_ones_and_the_way_out(language):
    with pytest.raises(InputError, match="phones=") as caught:
        phonemise("hello", language, "v2")
    assert caught.value.limit == ", ".join([*languages(), "auto"]) == "en, ja, ko, yue, zh, auto"


def test_the_demo_voices_sentences_get_the_phones_that_it_was_trained_with():
    table = symbols("v2")
    since = {  # upstream's conventions, which the demo voice's training did not know
        "A gentle breeze moved the yellow leaves.": ("EY1 JH", "AH0 JH"),
        "Nobody noticed the shadow behind the door.": ("T AH0 S T", "T IH0 S T"),
    }
    for sentence in sentences():
        (found,) = said(sentence.text)
        for new, old in [since[sentence.text]] if sentence.text in since else []:
            found = found.replace(new, old)
        assert found == " ".join(table[number] for number in sentence.phones)


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


def test_short_sentences_go_with_their_neighbours():
    assert said("Yes. No. I think that it is late. OK.") == [
        ". Y EH1 S . N OW1 .", "AY1 TH IH1 NG K DH AE1 T IH1 T IH1 Z L EY1 T . OW1 K EY1 .",
    ]  # fmt: skip


def test_a_very_long_number_and_a_very_long_word_are_read():
    assert len(said("1" * 400)) > 3
    assert said("a" * 60)


@pytest.mark.parametrize(
    ("language", "text", "runs_of"),
    [
        ("zh", "我今天在YouTube上看了3个demo。", "zh 我今天在|en YouTube|zh 上看了3个|en demo。"),
        ("zh", "iPhone 15的价格，K711次", "en iPhone 15|zh 的价格，|en K|zh 711次"),
        ("zh", "会议在Monday 9:30开始", "zh 会议在|en Monday 9:30|zh 开始"),
        ("zh", "长141km，重2 kg，12MB", "zh 长141km，重2 kg，12|en MB"),
        ("zh", "他说：“Let's go。”就走了", "zh 他说：“|en Let's go。”|zh 就走了"),
        ("ja", "「I love you」と彼は", "en 「I love you」|ja と彼は"),
        ("ja", "ＡＢＣとUSB", "ja ＡＢＣと|en USB"),
        ("ko", "그는 Python로 app을", "ko 그는 |en Python|ko 로 |en app|ko 을"),
        ("en", "The teacher said hello.", "en The teacher said hello."),
        ("auto", "你好，ありがとう，thank you。", "zh 你好，|ja ありがとう，|en thank you。"),
        (
            "auto",
            "安녕. I am Jack. 我来自中国。",
            "zh 安|ko 녕. |en I am Jack. |zh 我来自中国。",
        ),
        ("auto", "明日、行きます。東京です。", "ja 明日、行きます。東京です。"),
        ("auto", "你也喜欢アニメ吗？", "zh 你也喜欢|ja アニメ|zh 吗？"),
    ],
)
def test_a_text_is_cut_into_runs_of_languages(language, text, runs_of):
    found = runs(text, language, frozenset({"km", "kg"}))
    assert "|".join(f"{run.language} {run.text}" for run in found) == runs_of
    assert "".join(run.text for run in found) == text
    assert all(text[run.start :].startswith(run.text) for run in found)


def test_short_english_runs_begin_with_a_comma():
    (sentence,) = phonemise("这个bug是谁写的？", "zh", "v2")
    assert " ".join(sentence[4:8]) == ", B AH1 G"
    (sentence,) = phonemise("他用Python写。", "zh", "v2")
    assert " ".join(sentence[4:6]) == "P AY1"


def test_a_text_in_several_languages_is_read_by_itself():
    pytest.importorskip("pyopenjtalk", reason="the extra `ja` is not installed")
    (one, *_) = phonemise("你好，ありがとう，thank you。", "auto", "v2")
    assert {"n", "i2", "[", "TH"} <= set(one)


@pytest.mark.parametrize("language", ["ko", "yue"])
def test_a_table_without_a_languages_phones_is_refused(language):
    with pytest.raises(InputError, match="phone table v1"):
        phonemise("好", language, "v1")


def test_all_unreadable_characters_are_named_at_once_with_their_places_in_the_whole_text():
    with pytest.raises(InputError) as caught:
        phonemise("好\u0436 hello \u0436 好\ue123", "zh", "v2")
    assert caught.value.problems == (
        r"'\u0436' (cyrillic small letter zhe) at 2, 10", r"'\ue123' (no name) at 13",
    )  # fmt: skip
