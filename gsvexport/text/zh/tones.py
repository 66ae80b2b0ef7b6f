"""The tones that are spoken: 一 and 不, neutral tones, third tones in a row, and the r that ends a word.

Where textbooks leave a choice, the rules are those that upstream's front end follows (PaddleSpeech's), because voices
know no others: words are put together first, and each group is then changed by itself.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

Tagged = tuple[str, str]  # a word and its part of speech, as jieba tags it

_NUMERALS = frozenset("零〇一二两三四五六七八九十百千万亿")
_PARTICLES = frozenset("吧呢哈啊呐噻嘛吖嗨哦哒额滴哩哟喽啰耶喔诶的地得")
_DIRECTIONS = frozenset("上下进出回过起开")
_BEFORE_GE = frozenset("几有两半多各整每做是") | _NUMERALS


@functools.cache
def _words(name: str) -> frozenset[str]:
    """A list of words.txt."""
    lines = (Path(__file__).parent / "words.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(word for line in lines if line.startswith(f"{name} ") for word in line.split()[1:])


def grouped(words: Sequence[Tagged], tones: Callable[[str], Sequence[int]]) -> list[Tagged]:
    """The words with those put together that change each other's tones: 不 and 一 with what follows, repeated words,
    short words whose third tones meet, and a final 儿. `tones` gives a word's own tones.
    """
    found = _with_one(_with_not(words))
    found = _joined(found, lambda before, word: before == word)
    for meet in (
        lambda before, word: set(tones(before)) == {3} == set(tones(word)),
        lambda before, word: tones(before)[-1] == 3 == tones(word)[0],
    ):
        found = _third_tones(found, meet)
    return _joined(found, lambda before, word: word == "儿")


def _with_not(words: Sequence[Tagged]) -> list[Tagged]:
    found: list[Tagged] = []
    for word, kind in words:
        if found and found[-1][0] == "不":
            found[-1] = ("不" + word, kind)
        else:
            found.append((word, kind))
    return found


def _with_one(words: list[Tagged]) -> list[Tagged]:
    found: list[Tagged] = []
    place = 0
    while place < len(words):
        word, kind = words[place]
        after = words[place + 1 : place + 3]
        if len(after) == 2 and after[0][0] == "一" and after[1] == (word, "v") and kind == "v":  # 看一看
            found.append((f"{word}一{word}", kind))
            place += 3
            continue
        if found and found[-1][0] == "一":
            found[-1] = ("一" + word, found[-1][1])
        else:
            found.append((word, kind))
        place += 1
    return found


def _joined(words: list[Tagged], together: Callable[[str, str], bool]) -> list[Tagged]:
    found: list[Tagged] = []
    for word, kind in words:
        if found and together(found[-1][0], word):
            found[-1] = (found[-1][0] + word, found[-1][1])
        else:
            found.append((word, kind))
    return found


def _third_tones(words: list[Tagged], meet: Callable[[str, str], bool]) -> list[Tagged]:
    """Two short words whose third tones meet are one foot; a third is no part of it."""
    found: list[Tagged] = []
    joined = False
    for place, (word, kind) in enumerate(words):
        before = words[place - 1][0] if place else ""
        repeated = len(before) == 2 and before[0] == before[1]
        joined = bool(before) and not joined and len(before + word) <= 3 and not repeated and meet(before, word)
        if joined:
            found[-1] = (found[-1][0] + word, found[-1][1])
        else:
            found.append((word, kind))
    return found


def spoken(
    word: Tagged, written: Sequence[int], halves: Callable[[str], tuple[str, str]], *, counting: bool
) -> list[int]:
    """The tone, 1 to 5, of each syllable of a group; `written` are the tones of its syllables by themselves.

    `halves` divides a word in two; `counting` tells that what stands before is part of a number.
    """
    text, kind = word
    tones = list(written)
    _not(text, tones)
    _one(text, tones, counting)
    _neutral(text, kind, tones, halves)
    _third(text, tones, halves)
    return tones


def _not(text: str, tones: list[int]) -> None:
    """不 is light between a verb and what comes of it; it rises before a falling tone."""
    if len(text) == 3 and text[1] == "不":
        tones[1] = 5
        return
    for place, char in enumerate(text[:-1]):
        if char == "不" and tones[place + 1] == 4:
            tones[place] = 2


def _one(text: str, tones: list[int], counting: bool) -> None:
    """一 is high in a number and an ordinal, light between repeated verbs; else it rises before a falling tone and
    falls before the others. As part of a number it keeps its own tone.
    """
    if "一" not in text or set(text) <= _NUMERALS:
        return
    if len(text) == 3 and text[1] == "一" and text[0] == text[2]:
        tones[1] = 5
        return
    for place, char in enumerate(text[:-1]):
        before = text[place - 1] if place else ""
        number = before in _NUMERALS or (counting and place == 0) or text[place + 1] in _NUMERALS - set("百千万亿")
        number = number or text[place + 1] in "月号楼"  # January, the first, the ground floor
        if char == "一":
            tones[place] = 1 if number or before == "第" else 2 if tones[place + 1] == 4 else 4


def _neutral(text: str, kind: str, tones: list[int], halves: Callable[[str], tuple[str, str]]) -> None:
    if kind[0] in "nva":
        for place in range(1, len(text)):
            two_words = len(text) > 2 and len(halves(text)[0]) == place  # 银行 | 行长
            if text[place] == text[place - 1] and text not in _words("toned") and not two_words:
                tones[place] = 5
    counted = text.find("个")
    last = text[-1]
    several = len(text) > 1
    light = (
        (last in _PARTICLES and not (last == "得" and tones[-1] == 3))  # dei3: must
        or (several and last in "们子" and kind in ("r", "n") and text not in _words("toned"))
        or (several and last in "上下里" and kind in ("s", "l", "f") and text not in _words("toned"))
        or (several and last in "来去" and text[-2] in _DIRECTIONS)
    )
    if light:
        tones[-1] = 5
    elif text == "个" or (counted > 0 and text[counted - 1] in _BEFORE_GE):
        tones[counted] = 5
    place = 0
    for part in (text, *halves(text)):
        place += len(part) if part is not text else 0
        if part in _words("neutral") or part[-2:] in _words("neutral"):
            if part is not text:
                tones[place - 1] = 5
            elif not light and counted < 1:
                tones[-1] = 5


def _third(text: str, tones: list[int], halves: Callable[[str], tuple[str, str]]) -> None:
    """A third tone before another one rises."""
    if len(text) == 2 and tones == [3, 3]:
        tones[0] = 2
    elif len(text) == 3:
        cut = len(halves(text)[0])
        if tones == [3, 3, 3]:
            tones[:2] = [2, 2] if cut == 2 else [3, 2] if cut == 1 else tones[:2]
            return
        for start, stop in ((0, cut), (cut, 3)):
            if tones[start:stop] == [3, 3]:
                tones[start] = 2
            elif 0 < start < 3 and set(tones[start:stop]) != {3} and tones[start] == tones[start - 1] == 3:
                tones[start - 1] = 2
    elif len(text) == 4:
        for start in (0, 2):
            if tones[start : start + 2] == [3, 3]:
                tones[start] = 2


def with_final_r(word: Tagged, tones: list[int]) -> None:
    """A final 儿 has no syllable of its own, but keeps its symbols; as upstream, it repeats the tone before it."""
    text, kind = word
    own = text in _words("not_r") or kind in ("a", "j", "nr")  # a child, somebody, or a verse
    if len(text) > 1 and text[-1] == "儿" and text[-2:] not in _words("not_r") and (text in _words("r") or not own):
        tones[-1] = tones[-2]
