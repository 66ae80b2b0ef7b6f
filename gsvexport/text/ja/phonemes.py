"""Japanese → Open JTalk's phonemes, with marks of pitch where the table has them.

Table v2 has "[" and "]" where the pitch rises and falls. Upstream's front end for it also gives a mark between accent
phrases that the table lacks, so voices have learned UNK there, and it voices all vowels; for v1 it gives neither marks
nor that change (upstream's `text/japanese.py`, and its pull request 1660 about UNK).
"""

from __future__ import annotations

import functools
import re
from itertools import pairwise
from types import ModuleType
from typing import Any

from gsvexport.errors import missing_package
from gsvexport.text.en.phonemes import sentences as english
from gsvexport.text.ja.normal import normalise
from gsvexport.text.symbols import symbols
from gsvexport.text.words import SIGNS, Word, in_sentences

_LONGEST = 300  # characters without a sign
BORDER = "UNK"  # between accent phrases
_KANJI = re.compile("[\u3400-\u4dbf\u4e00-\u9fff]")
# Of a full-context label: the phone; its mora counted from the accent (0: on it), from the phrase's start and end (1).
_MORA = re.compile(r"-(?P<phone>[^+]+)\+.*/A:(?P<accent>-?\d+|xx)\+(?P<place>\d+|xx)\+(?P<left>\d+|xx)/")

_ENGLISH = re.compile("[A-Za-z]+[a-z']|[A-Za-z']+ ")
_MORAS = ("N", "cl", *"aeiouAEIOU")  # what a mora ends with


def sentences(text: str, table: str) -> list[list[Word]]:
    """The sentences of a text, a word for each accent phrase. English words in it are read as English.

    Raises:
        InputError: characters that have no reading, each named once with its places.
        EnvironmentProblem: the extra `ja` is not installed.
    """
    jtalk = _jtalk()
    words: list[Word] = []
    for token in normalise(text, _readable):
        if token in SIGNS:
            words.append(Word((token,)))
        elif _ENGLISH.match(token):
            words += [word for sentence in english(token, table) for word in sentence]
        else:
            clause = token.replace(" ", "")
            for start in range(0, len(clause), _LONGEST):  # Open JTalk takes no more at once
                words += [Word(tuple(phones)) for phones in _clause(jtalk, clause[start : start + _LONGEST], table)]
    return in_sentences(words)


def _clause(jtalk: ModuleType, text: str, table: str) -> list[list[str]]:
    """The phones of each accent phrase of a text without signs."""
    text = text.lstrip("ー・")
    features = jtalk.run_frontend(text) if text else []
    if not any(feature["mora_size"] for feature in features):
        return []
    labels = [_MORA.search(label) for label in jtalk.make_label(features)]
    found: list[list[str]] = [[]]
    for here, after in pairwise(labels):
        if here is None or here["phone"] == "sil":
            continue
        if here["phone"] == "pau":
            found += [[","], []]
            continue
        found[-1] += _symbols(here["phone"], table)
        if after is None or after["place"] == "xx":
            continue
        if here["left"] == after["place"] == "1" and here["phone"] in _MORAS:
            found[-1] += [BORDER] if table != "v1" else []
            found.append([])
        elif table != "v1" and after["place"] != here["place"]:
            found[-1] += ["]"] if here["accent"] == "0" else ["["] if here["place"] == "1" else []
    return [phones for phones in found if phones]


def _symbols(phone: str, table: str) -> list[str]:
    if phone in "AIUEO" and (table != "v1" or phone in "AEO"):
        return [phone.lower()]
    return [phone] if phone in symbols(table) else list(phone)  # the table has no kw as in クォーツ


@functools.lru_cache(4096)
def _readable(char: str) -> bool:
    """Whether Open JTalk reads a kanji; of other characters `normalise` knows more."""
    if not _KANJI.match(char):
        return True
    return any(feature["mora_size"] for feature in _jtalk().run_frontend(char))


def _jtalk() -> Any:
    try:
        import pyopenjtalk
    except ImportError as error:
        raise missing_package("pyopenjtalk-plus", "reading Japanese", "ja") from error
    return pyopenjtalk
