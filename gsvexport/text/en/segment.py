"""Words written together, taken apart: the likeliest cut, by the frequencies of words and of pairs of them.

The frequencies and the way to weigh them are those of the package wordsegment, after Peter Norvig's chapter in
"Beautiful Data": a pair that has been counted by its own probability, every other word alone ("stupid backoff").
"""

from __future__ import annotations

import functools
import math
from pathlib import Path

from gsvexport.text.sorted_lines import SortedLines, load

TOTAL = math.log10(1024908267229.0)  # words that were counted
STEP, LOWEST = 0.04, 2.0  # a count is one byte: 33 and the steps of its logarithm above the lowest
LONGEST = 24  # letters of one word


@functools.cache
def _counts() -> tuple[SortedLines, SortedLines]:
    one, two = load(Path(__file__).parent / "words.xz", 2)
    return one, two


@functools.lru_cache(4096)
def frequency(word: str) -> float | None:
    """The logarithm (base 10) of a lower-case word's probability, or None for one that was never counted."""
    return _logarithm(_counts()[0].get(word))


def segment(text: str) -> list[str]:
    """The words of a string of lower-case letters."""
    best: dict[tuple[int, int], tuple[float, list[str]]] = {}  # (start of the last word, its end): score, words before
    for end in range(1, len(text) + 1):
        for start in range(max(0, end - LONGEST), end):
            word = text[start:end]
            if start == 0:
                best[0, end] = (_alone(word), [word])
                continue
            found = [
                (score + _after(text[first:start], word), [*words, word])
                for first in range(max(0, start - LONGEST), start)
                for score, words in [best[first, start]]
            ]
            best[start, end] = max(found)
    return max(best[start, len(text)] for start in range(max(0, len(text) - LONGEST), len(text)))[1]


def _alone(word: str) -> float:
    known = frequency(word)
    return 1 - TOTAL - len(word) if known is None else known


def _after(before: str, word: str) -> float:
    pair = _logarithm(_counts()[1].get(f"{before} {word}"))
    first = frequency(before)
    return _alone(word) if pair is None or first is None else pair - first


def _logarithm(code: bytes | None) -> float | None:
    return None if code is None else (code[0] - 33) * STEP + LOWEST - TOTAL
