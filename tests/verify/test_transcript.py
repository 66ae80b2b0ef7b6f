"""One rule for what was to be said and what was heard: the same words count as the same, other words do not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsvexport.verify.transcript import edits, letters, words

SAME = [
    ("Don’t stop, Mr. O'Neil!", "do not stop mister O'Neil"),
    ("It's ten percent.", "it is 10 %"),
    ("He can't, won't and shan't.", "he cannot will not and shall not"),
    (
        "We've seen what they're doing, and I'm sure he'll come.",
        "we have seen what they are doing & I am sure he will come",
    ),
    ("Let's go at half past three.", "let us go at half past 3"),
    ("twenty-one", "21"),
    ("A hundred and five dollars", "$105"),
    ("nineteen ninety", "1990"),
    ("3:30 p.m.", "3:30 PM"),
    ("The neighbour's grey theatre programme", "the neighbor's gray theater program"),
    ("She realised that the colours travelled", "she realized that the colors traveled"),
    ("Okay — a naïve café.", "OK, a naive cafe"),
    ("‘Hello,’ she said; (quietly).", "hello she said quietly"),
]
DIFFERENT = ["rain", "ring", "called", "cold", "ship", "chip", "fifteen", "fifty", "can", "can't", "ours", "hours"]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_the_same_words_written_otherwise_are_the_same(one: str, other: str) -> None:
    assert words(one) == words(other)
    assert letters(one) == letters(other)


def test_other_words_stay_other_words() -> None:
    assert len({tuple(words(word)) for word in DIFFERENT}) == len(DIFFERENT)
    assert words("He has not come") != words("He has come")


@given(st.text(max_size=40))
def test_any_text_can_be_read_and_reading_it_again_changes_nothing(text: str) -> None:
    for language in ("en", "zh", "ja", "ko", "yue", "fr"):
        found = words(text, language)
        assert all(one and not one.isspace() for one in found)
        assert "".join(letters(text, language)) == "".join(found)


def test_what_the_front_end_cannot_read_is_left_out_and_takes_nothing_with_it() -> None:
    assert words("the 你好 end") == ["the", "end"]
    assert words("[Music]") == ["music"]  # nothing that was to be said: it counts as heard too much
    assert words("") == words("… — !") == []


@pytest.mark.parametrize(
    ("language", "one", "other"),
    [
        ("zh", "我有2个苹果，是10%。", "我有两个苹果 是百分之十"),
        ("ja", "今日は、いい天気。ﾊﾛｰ", "今日は いい天気 ハロー"),
        ("ko", "안녕하세요!", "안녕 하세요"),
        ("yue", "你好，世界！", "你好世界"),
        ("fr", "Ça va ? L’été…", "ça va l'été"),
    ],
)
def test_letters_of_other_languages_are_compared_without_spaces_and_signs(language: str, one: str, other: str) -> None:
    assert letters(one, language) == letters(other, language)


pieces = st.lists(st.sampled_from("abcd"), max_size=8)


@given(pieces, pieces)
def test_edits_are_a_distance(one: list[str], other: list[str]) -> None:
    count = edits(one, other)
    assert count == edits(other, one)
    assert (count == 0) == (one == other)
    assert abs(len(one) - len(other)) <= count <= max(len(one), len(other))
