"""The tones that are spoken: 一 and 不, neutral tones, third tones in a row, and the r that ends a word.

The rules are those of the language's textbooks; where a rule has two readings, it follows what upstream's front end
gives, because voices were trained on that.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

_SCALES = frozenset("百千万亿")
_DIGITS = _SCALES | frozenset("零〇一二两三四五六七八九十")
_NAMED = frozenset("月号日楼级班")  # of these 一 says which: January, the first floor
_BOUND = frozenset(("同一", "某一", "每一", "这一", "那一", "哪一", "另一", "任一"))  # 一 counts what follows them
_PARTICLES = frozenset("吗吧呢啊呀嘛啦哇哦哟喽呗们")
_DIRECTIONS = frozenset("上下进出回过起开")


@functools.cache
def _words(name: str) -> frozenset[str]:
    """A list of words.txt."""
    lines = (Path(__file__).parent / "words.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(word for line in lines if line.startswith(f"{name} ") for word in line.split()[1:])


class Tagged(NamedTuple):
    """A word with its part of speech as jieba tags it, and its syllables without and with tone apart."""

    text: str
    kind: str
    sounds: tuple[str, ...]
    tones: tuple[int, ...]


def spoken(words: Sequence[Tagged], frequency: Callable[[str], int]) -> list[int]:
    """The tone, 1 to 5, of each syllable of words without a sign between them.

    `frequency` tells how common a string is as a word; a word of three or more is divided by it.
    """
    text = "".join(word.text for word in words)
    written = [tone for word in words for tone in word.tones]
    tones: list[int] = []
    for index, word in enumerate(words):
        tones += _neutral(word, first=index == 0)
    _one(text, written, tones, words)
    _not(text, written, tones, words)
    _third(words, tones, frequency)
    _final_r(words, tones)
    return tones


def _neutral(word: Tagged, *, first: bool) -> list[int]:
    text, tones = word.text, list(word.tones)
    light = False
    if len(text) == 1:
        light = (text in _PARTICLES and not first and word.kind[0] in "uyezx") or (text == "个" and not first)
    elif text in _words("neutral") or (len(text) > 2 and text[-2:] in _words("neutral")):
        light = True
    elif len(text) == 2 and text[0] == text[1]:
        light = word.kind[0] in "nvr" and text not in _words("doubled")
        if light and tones == [3, 3] and word.kind[0] == "v":
            tones[0] = 2  # 想想: the tone of a repeated verb still works on the one before
    elif text[-1] == "子":
        whole = text[-2:] in _words("suffixed")
        light = word.kind[0] == "n" and len(text) < 4 and not whole
        tones[-1] = 3 if whole else tones[-1]
    elif text[-1] in "里上":
        light = word.kind[0] in "sft" and text[-2:] not in _words("surface")
    elif text[-1] in "来去":
        light = text[-2] in _DIRECTIONS
    elif text[-1] == "个":
        light = text[-2] in _DIGITS or text[-2] in "几这那哪每各半整多"
    else:
        light = text[-1] in _PARTICLES
    if light:
        tones[-1] = 5
    return tones


def _one(text: str, written: list[int], tones: list[int], words: Sequence[Tagged]) -> None:
    """一 is high as a number's name and at an end, else rises before a falling tone and falls before the others."""
    ends, place = dict[int, str](), 0  # where a word of several characters ends
    for word in words:
        place += len(word.text)
        if len(word.text) > 1:
            ends[place - 1] = word.text
    for place, char in enumerate(text):
        if char != "一":
            continue
        before, after, next_but_one = text[place - 1 : place], text[place + 1 : place + 2], text[place + 2 : place + 3]
        name = (
            not after
            or before in ("第", "之", *_DIGITS)
            or (after in _DIGITS and after not in _SCALES)
            or (after == "点" and next_but_one in _DIGITS)
            or after in _NAMED
            or ends.get(place, "同一") not in _BOUND
        )
        if before and before == after and before not in _DIGITS:
            tones[place] = 5  # 看一看
        else:
            tones[place] = 1 if name else 2 if written[place + 1] == 4 else 4


def _not(text: str, written: list[int], tones: list[int], words: Sequence[Tagged]) -> None:
    """不 is light between a verb and what comes of it, and between repeated words; it rises before a falling tone."""
    inner, start = set[int](), 0
    for word in words:
        if len(word.text) == 3 and word.text[1] in "不得":  # 看不懂, 跑得快
            inner.add(start + 1)
            tones[start + 1] = 5
        start += len(word.text)
    for place, char in enumerate(text):
        if char == "不" and place not in inner:
            before, after = text[max(0, place - 1) : place], text[place + 1 : place + 2]
            repeated = before and before == after  # 好不好
            tones[place] = 5 if repeated else 2 if after and written[place + 1] == 4 else 4


def _third(words: Sequence[Tagged], tones: list[int], frequency: Callable[[str], int]) -> None:
    starts = [0]
    for word in words:
        _inside(word.text, starts[-1], tones, frequency)
        starts.append(starts[-1] + len(word.text))
    joined: set[int] = set()

    def join(index: int) -> None:
        """A third tone before another one rises, where both words together are one foot."""
        end = starts[index + 1]
        short = len(words[index].text) + len(words[index + 1].text) <= 3
        if short and tones[end - 1] == tones[end] == 3 and index not in joined:
            tones[end - 1] = 2
            joined.add(index + 1)

    pairs = range(len(words) - 1)
    for index in reversed(pairs):
        if words[index].kind[0] == "d" and len(words[index].text) == 1:  # 很 belongs to what it is said of
            join(index)
    for index in pairs:
        join(index)


def _inside(text: str, start: int, tones: list[int], frequency: Callable[[str], int]) -> None:
    if len(text) < 2:
        return
    cut = 1 if len(text) == 2 or (len(text) == 3 and frequency(text[1:]) > frequency(text[:2])) else 2
    _inside(text[:cut], start, tones, frequency)
    _inside(text[cut:], start + cut, tones, frequency)
    if tones[start + cut - 1] == tones[start + cut] == 3:
        tones[start + cut - 1] = 2


def _final_r(words: Sequence[Tagged], tones: list[int]) -> None:
    """A final 儿 has no syllable of its own, but keeps its symbols; as upstream, it repeats the tone before it."""
    place, own = 0, _words("not_r")
    for word in words:
        place += len(word.text)
        if len(word.text) > 1 and word.text[-1] == "儿" and not own.intersection((word.text, word.text[-2:])):
            tones[place - 1] = tones[place - 2]
