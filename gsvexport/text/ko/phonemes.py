"""Korean → the letters of its syllables as they are spoken; diphthongs are two of them, and a space is one, too.

A morphological analyser (mecab-ko) tells stems, endings and counters, on which some rules of pronunciation depend.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from typing import Any

from gsvexport.errors import missing_package
from gsvexport.text.ko.normal import PAUSE, UNITS, normalise, plain
from gsvexport.text.ko.numbers import native, sino
from gsvexport.text.ko.sounds import pronounced, respelled
from gsvexport.text.words import Word

__all__ = ["UNITS", "unreadable", "words"]

SPACE = "空"
# Counters that take native numerals; others take Sino-Korean ones.
_COUNTERS = (
    "군데 권 개 그루 닢 대 두 마리 모 모금 뭇 발 발짝 방 번 벌 보루 살 수 술 시 쌈 움큼 정 짝 채 척 첩 축 켤레 톨 통 "
    "가지 송이 자루 그릇"
)
_NOUNS = frozenset(("시간", "달", "곳", "사람"))  # which count, too
_NATIVE = frozenset(_COUNTERS.split()) | _NOUNS
_VOWELS = dict(
    zip(
        "ㅘㅙㅚㅝㅞㅟㅢㅑㅒㅕㅖㅛㅠ",
        ["ㅗㅏ", "ㅗㅐ", "ㅗㅣ", "ㅜㅓ", "ㅜㅔ", "ㅜㅣ", "ㅡㅣ", "ㅣㅏ", "ㅣㅐ", "ㅣㅓ", "ㅣㅔ", "ㅣㅗ", "ㅣㅜ"],
        strict=True,
    )
)
_STEMS = frozenset("ᆫᆬᆷᆱᆰᆲᆴ")
_SIGNS = frozenset(",.!?…-")


def unreadable(text: str) -> list[int]:
    """The places of characters that can neither be read nor skipped."""
    return [place for place, char in enumerate(text) if plain(char) is None]


def words(text: str, table: str) -> list[Word]:
    """The words, spaces and signs of a run of Korean.

    Raises:
        EnvironmentProblem: the extra `ko` is not installed.
    """
    found: list[Word] = []
    spoken = pronounced(_marked(respelled(normalise(text))))
    for token in re.findall(rf"[\u1100-\u11ff\u3131-\u3163]+|[{PAUSE} ,.!?…-]", spoken):
        if token in _SIGNS or token == PAUSE:
            found.append(Word((token,)))
        elif token == " ":
            found.append(Word((SPACE,)))
        else:
            found.append(Word(tuple(letter for char in token for letter in _letters(char))))
    return found


@functools.cache
def _letters(jamo: str) -> str:
    """A conjoining letter as the tables have it."""
    name = (
        unicodedata.name(jamo)
        .replace("CHOSEONG", "LETTER")
        .replace("JUNGSEONG", "LETTER")
        .replace("JONGSEONG", "LETTER")
    )
    letter = unicodedata.lookup(name)
    return _VOWELS.get(letter, letter)


def _marked(text: str) -> str:
    """The text with marks of stems (/P) and endings (/E), and its numbers as words."""
    counters: dict[int, str] = {}  # place after a number → the counter that stands there
    marks: dict[int, str] = {}  # place of a syllable → the mark after it
    place = 0
    for token, tag in _tokens(text):
        while text[place : place + 1] == " ":
            place += 1
        last = tag.split("+")[-1]
        end = place + len(token)
        coda = unicodedata.normalize("NFD", token[-1])[2:]
        if last == "NNBC" or token in _NOUNS:
            counters[place] = token
        elif last[0] == "E" and coda == "ᆯ":
            marks[end - 1] = "/E"
        elif last[0] == "V" and coda in _STEMS:
            marks[end - 1] = "/P"
        place = end
    found, place = "", 0
    while place < len(text):
        if match := re.compile(r"\d+").match(text, place):
            place = match.end()
            found += native(match[0]) if counters.get(place) in _NATIVE else sino(match[0])
            continue
        found += text[place] + marks.get(place, "")
        place += 1
    return found


def _tokens(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = _analyser().pos(text)
    return found if "".join(token for token, _ in found) == text.replace(" ", "") else []


@functools.cache
def _analyser() -> Any:
    try:
        import mecab
    except ImportError as error:
        raise missing_package("python-mecab-ko", "reading Korean", "ko") from error
    return mecab.MeCab()
