"""Cantonese → upstream's two symbols for each syllable of Jyutping: what it begins with, and the rest with its tone.

ToJyutping gives the syllables. Numbers, dates and signs are written out as in Mandarin. As upstream does, the text is
simplified first, but for characters that would lose their reading by that.
"""

from __future__ import annotations

import functools
from typing import Any

from gsvexport.errors import missing_package
from gsvexport.text.symbols import symbols as table_of
from gsvexport.text.words import SIGNS, Word
from gsvexport.text.zh.characters import is_known, plain
from gsvexport.text.zh.normal import UNITS, normalise
from gsvexport.text.zh.simplify import simplified

__all__ = ["UNITS", "unreadable", "words"]

_KEPT = "隻喎"  # simplified they are 只, zi2, and 㖞, waa1
# What upstream takes for the beginning of a syllable, in the order in which it tries them. What begins with a vowel is
# cut within it: "aap3" is aa and p3, "ng5" ng and g5.
_BEGINNINGS = [
    "aa",
    "aai",
    "aak",
    "aap",
    "aat",
    "aau",
    "ai",
    "au",
    "ap",
    "at",
    "ak",
    "a",
    "p",
    "b",
    "e",
    "ts",
    "t",
    "dz",
    "d",
    "kw",
    "k",
    "gw",
    "g",
    "f",
    "h",
    "l",
    "m",
    "ng",
    "n",
    "s",
    "y",
    "w",
    "c",
    "z",
    "j",
    "ong",
    "on",
    "ou",
    "oi",
    "ok",
    "o",
    "uk",
    "ung",
]


def unreadable(text: str) -> list[int]:
    """The places of characters that can neither be read nor skipped.

    Raises:
        EnvironmentProblem: the extra `yue` is not installed.
    """
    return [place for place, char in enumerate(text) if not (is_known(char) or _readable(char))]


def words(text: str, table: str) -> list[Word]:
    """The syllables and signs of a run of Cantonese.

    Raises:
        EnvironmentProblem: the extra `yue` is not installed.
    """
    found: list[Word] = []
    known = frozenset(table_of(table))
    for token in normalise(plain(_simplified(text)), all_signs=True):
        if token in SIGNS:
            found.append(Word((token,)))
        else:
            said = [symbols(syllable) for _, one in _jyutping(token) for syllable in (one or "").split()]
            found += [Word(tuple(one if one in known else "UNK" for one in pair)) for pair in said]
    return found


def symbols(syllable: str) -> tuple[str, str]:
    """ "gwong2" → "Ygw", "Yong2". Upstream lacks a few, as the second of "ang1", and says UNK."""
    sound, tone = syllable[:-1], syllable[-1]
    first = next(one for one in _BEGINNINGS if sound.startswith(one))
    return f"Y{first}", f"Y{sound[len(first) :] or first[-1]}{tone}"


def _simplified(text: str) -> str:
    return "".join(old if old in _KEPT else new for old, new in zip(text, simplified(text), strict=True))


def _jyutping(text: str) -> list[tuple[str, str | None]]:
    try:
        import ToJyutping
    except ImportError as error:
        raise missing_package("ToJyutping", "reading Cantonese", "yue") from error
    package: Any = ToJyutping
    found: list[tuple[str, str | None]] = package.get_jyutping_list(text)
    return found


@functools.lru_cache(4096)
def _readable(char: str) -> bool:
    return all(reading for _, reading in _jyutping(char))
