"""Words and readings of Mandarin: jieba's dictionary and its cut into words, pypinyin's phrases and characters.

Both packages would take 190 MB in memory; this is 8 MB of sorted lines. The results are theirs.
"""

from __future__ import annotations

import functools
import math
from pathlib import Path

from gsvexport.text.sorted_lines import SortedLines, load
from gsvexport.text.zh.hidden import unknown_words

_TOTAL = math.log(60101967)  # the sum of all frequencies
_LONGEST = 24  # characters of a phrase; none is longer


@functools.cache
def _blocks() -> tuple[SortedLines, SortedLines, SortedLines]:
    words, phrases, characters = load(Path(__file__).parent / "lexicon.xz", 3)
    return words, phrases, characters


@functools.lru_cache(16384)
def _word(text: str) -> tuple[int, str, bool]:
    """The frequency (0: no word) and part of speech, and whether longer words begin like it."""
    entry, begins = _blocks()[0].find(text)
    frequency, tag = (entry or b"0 x").decode().split(" ")
    return int(frequency), tag, begins


def has_reading(char: str) -> bool:
    """Whether a character has a reading."""
    return _blocks()[2].get(char) is not None


@functools.lru_cache(8192)
def readings(word: str) -> tuple[str, ...]:
    """The syllables of a word: the longest phrases in it, from its beginning, else each character by itself."""
    found: list[str] = []
    while word:
        for length in range(min(len(word), _LONGEST), 1, -1):
            if phrase := _blocks()[1].get(word[:length]):
                found += phrase.decode().split(" ")
                word = word[length:]
                break
        else:
            found.append((_blocks()[2].get(word[0]) or b"").decode())
            word = word[1:]
    return tuple(found)


def cut(text: str) -> list[tuple[str, str]]:
    """The words of a run of Han characters with their parts of speech.

    The likeliest way through the dictionary's words; where it leaves several characters alone, the model of unknown
    words decides.
    """
    found: list[tuple[str, str]] = []
    alone = ""
    for word in [*_likeliest(text), ""]:
        if len(word) == 1:
            alone += word
            continue
        if len(alone) > 1 and not _word(alone)[0]:
            found += unknown_words(alone)
        else:
            found += [(char, _word(char)[1]) for char in alone]
        alone = ""
        if word:
            found.append((word, _word(word)[1]))
    return found


def _likeliest(text: str) -> list[str]:
    best: list[tuple[float, int]] = [(0.0, 0)] * (len(text) + 1)
    for start in range(len(text) - 1, -1, -1):
        options, stop = [], start + 1
        while stop <= len(text):
            frequency, _, begins = _word(text[start:stop])
            if frequency:
                options.append((math.log(frequency) - _TOTAL + best[stop][0], stop))
            if not begins:
                break
            stop += 1
        best[start] = max(options, default=(-_TOTAL + best[start + 1][0], start + 1))
    found, place = [], 0
    while place < len(text):
        found.append(text[place : best[place][1]])
        place = best[place][1]
    return found


@functools.lru_cache(8192)
def halves(word: str) -> tuple[str, str]:
    """A word as two: its shortest part that is a word, and the rest."""
    parts = []
    for part, _ in cut(word):
        for length in (2, 3):
            if len(part) > length:
                grams = (part[place : place + length] for place in range(len(part) - length + 1))
                parts += [gram for gram in grams if _word(gram)[0]]
        parts.append(part)
    first = min(parts, key=len)
    if word.startswith(first):
        return first, word[len(first) :]
    return word[: -len(first)], first
