"""Mandarin → initials and finals with tones, two symbols for each character.

`lexicon` finds the words and their readings, `readings` corrects them by what stands around, `tones` says what becomes
of the tones. Of voices of table v1 the trainer knew no such corrections: they get the lexicon's readings, as upstream
gives them.
"""

from __future__ import annotations

from gsvexport.text.words import SIGNS, Word
from gsvexport.text.zh.characters import is_known, plain
from gsvexport.text.zh.lexicon import cut, halves, has_reading, readings
from gsvexport.text.zh.normal import UNITS, normalise
from gsvexport.text.zh.readings import corrected
from gsvexport.text.zh.simplify import simplified
from gsvexport.text.zh.syllables import split
from gsvexport.text.zh.tones import grouped, spoken, with_final_r

__all__ = ["UNITS", "unreadable", "words"]

_NUMERALS = frozenset("零〇一二两三四五六七八九十百千万亿幺第")
_QUARTERS = frozenset("刻些会下起样半")


def unreadable(text: str) -> list[int]:
    """The places of characters that can neither be read nor skipped."""
    return [place for place, char in enumerate(text) if not (is_known(char) or has_reading(char))]


def words(text: str, table: str) -> list[Word]:
    """The words and signs of a run of Mandarin."""
    found: list[Word] = []
    for token in normalise(plain(simplified(text))):
        if token in SIGNS:
            found.append(Word((token,), token, (1,)))
        else:
            found += _clause(token, table)
    return found


def _counting(before: str, word: str, after: str) -> bool:
    """Whether the 一 of a word is part of a number: of 一米 after 四点, of 一点 before 五; not of 一刻 after 五点."""
    if word[:2] == "一点" and (word + after)[2:3] in _NUMERALS and (word + after)[2:3]:
        return True
    if before[-1:] == "月" and word[:2] in ("一日", "一号"):
        return True
    return before[-1:] in _NUMERALS or (before[-1:] == "点" and word[1:2] not in _QUARTERS)


def _clause(text: str, table: str) -> list[Word]:
    """The words of a run of Han characters."""
    found = []
    cut_words = cut(text)
    before = ""
    given = corrected(cut_words) if table == "v2" else {}
    for word in grouped(cut_words, lambda one: [int(syllable[-1]) for syllable in readings(one)]):
        syllables = list(readings(word[0]))
        for place in range(len(word[0])):
            syllables[place] = given.get(len(before) + place, syllables[place])
        tones = spoken(
            word,
            [int(one[-1]) for one in syllables],
            halves,
            counting=_counting(before, word[0], text[len(before) + len(word[0]) :]),
        )
        if table == "v2":
            with_final_r(word, tones)
        phones = [
            phone
            for one, tone in zip(syllables, tones, strict=True)
            for phone in split(f"{one[:-1]}{tone}") or ("UNK", "UNK")
        ]
        found.append(Word(tuple(phones), word[0], (2,) * len(word[0])))
        before += word[0]
    return found
