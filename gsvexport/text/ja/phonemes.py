"""Japanese → Open JTalk's phonemes with upstream's marks of pitch.

Voices have learned: "[" and "]" where the pitch rises and falls, UNK between accent phrases (upstream's "#", which no
table has) and for signs that it does not know, "_" for a pause that Open JTalk puts in, and all vowels voiced. Table v1
has no "[" and "]", so they are UNK in it. Before August 2024 upstream gave none of these marks, whispered the vowels I
and U; most voices of v1 are older. Table "v1" means these, "v1-2024-08" the newer ones.
"""

from __future__ import annotations

import functools
import re
from itertools import pairwise
from types import ModuleType
from typing import Any

from gsvexport.errors import missing_package
from gsvexport.text.ja.normal import LETTERS, UNITS, normalise, plain
from gsvexport.text.symbols import symbols
from gsvexport.text.words import Word

__all__ = ["UNITS", "unreadable", "words"]

UNKNOWN = "UNK"
_LONGEST = 300  # characters without a sign: Open JTalk takes no more at once
_KANJI = re.compile("[\u3400-\u4dbf\u4e00-\u9fff]")
_KANJI_CLAUSE = re.compile(f"[{LETTERS}]*[\u3400-\u4dbf\u4e00-\u9fff][{LETTERS}]*")
# Of a full-context label: the phone; its mora counted from the accent (0: on it), from the phrase's start and end (1).
_MORA = re.compile(r"-(?P<phone>[^+]+)\+.*/A:(?P<accent>-?\d+|xx)\+(?P<place>\d+|xx)\+(?P<left>\d+|xx)/")
_MORAS = ("N", "cl", *"aeiouAEIOU")  # what a mora ends with


def unreadable(text: str) -> list[int]:
    """The places of characters that can neither be read nor skipped.

    Raises:
        EnvironmentProblem: the extra `ja` is not installed.
    """
    unread = {char for clause in _KANJI_CLAUSE.findall(text) for char in _unread(clause)}
    return [place for place, char in enumerate(text) if plain(char) is None or char in unread]


def words(text: str, table: str) -> list[Word]:
    """A run of Japanese, a word for each accent phrase.

    Raises:
        EnvironmentProblem: the extra `ja` is not installed.
    """
    jtalk, marks = _jtalk(), table != "v1"  # of voices from before August 2024
    found: list[Word] = []
    for token, is_sign in normalise(text):
        if is_sign:
            found.append(Word((token,)))
        else:
            for start in range(0, len(token), _LONGEST):
                piece = token[start : start + _LONGEST]
                found += [Word(tuple(phones)) for phones in _clause(jtalk, piece, table, marks)]
    return found


def _clause(jtalk: ModuleType, text: str, table: str, marks: bool) -> list[list[str]]:
    """The phones of each accent phrase of a text without signs."""
    features = jtalk.run_frontend(text)
    if not any(feature["mora_size"] for feature in features):
        return []
    labels = [_MORA.search(label) for label in jtalk.make_label(features)]
    found: list[list[str]] = [[]]
    for here, after in pairwise(labels):
        if here is None or here["phone"] == "sil":
            continue
        if here["phone"] == "pau":
            found += [["_" if marks else UNKNOWN], []]
            continue
        found[-1] += _symbols(here["phone"], table, marks)
        if after is None or after["place"] == "xx" or here["phone"] not in _MORAS:
            continue
        if here["left"] == after["place"] == "1":
            found[-1] += [UNKNOWN] if marks else []
            found.append([])
        elif marks and here["accent"] == "0" and after["place"] != here["place"]:
            found[-1] += ["]" if table == "v2" else UNKNOWN]
        elif marks and here["place"] == "1" and after["place"] == "2":
            found[-1] += ["[" if table == "v2" else UNKNOWN]
    return [phones for phones in found if phones]


def _symbols(phone: str, table: str, marks: bool) -> list[str]:
    if phone in "AIUEO" and (marks or phone in "AEO"):
        return [phone.lower()]
    return [phone] if phone in symbols(table) else list(phone)  # the table has no kw as in クォーツ


@functools.lru_cache(4096)
def _unread(clause: str) -> frozenset[str]:
    """Kanji that Open JTalk has no reading for where they stand."""
    pieces = (clause[start : start + _LONGEST] for start in range(0, len(clause), _LONGEST))
    features = (feature for piece in pieces for feature in _jtalk().run_frontend(piece))
    return frozenset(_KANJI.findall("".join(one["string"] for one in features if not one["mora_size"])))


def _jtalk() -> Any:
    try:
        import pyopenjtalk
    except ImportError as error:
        raise missing_package("pyopenjtalk", "reading Japanese", "ja") from error
    return pyopenjtalk
