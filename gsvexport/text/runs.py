"""Runs of one language in a text: English words between other characters, and every language of an "auto" text."""

from __future__ import annotations

import re
from typing import NamedTuple

AUTO = "auto"
_HAN = "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_KANA = "\u3041-\u3096\u309d\u309e\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f"
_HANGUL = "\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3"
_LATIN = "A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u017f"
_CLOSING = "\\s,.!?;:'\"…，。！？；：、”’」』）)】》〉\\]"
# Letters, what joins them, numbers after a space ("iPhone 15", "Monday 9:30"), and the signs that follow. A digit that
# touches a letter ("K711", "T60") stays with what comes next, as upstream cuts it.
_ENGLISH = re.compile(
    rf"[{_LATIN}](?:[{_LATIN}]|['’.&+/@_#:,!?;-]+(?=[{_LATIN}])|[ ,.!?;:'’\"“”()-]+(?=[{_LATIN}])"
    rf"|[ ]\d[\d.,:]*(?=[ ]+[{_LATIN}])|[ ]+(?=[{_LATIN}])|(?<=[{_LATIN}])[ ]\d+(?:[.:]\d+)*(?![\d{_LATIN}%℃°])"
    rf"|(?<=[{_LATIN}])-\d+(?:\.\d+)*(?![\d{_LATIN}])|\.(?=\d+[ ]+[{_LATIN}]))*"
    rf"[{_CLOSING}]*"
)
_UNIT = re.compile(r"(?<![A-Za-z])\d[\d,.]*\s?°?\s?$")  # before letters that are a unit
_TOKEN = re.compile(rf"(?P<zh>[{_HAN}]+)|(?P<ja>[{_KANA}]+)|(?P<ko>[{_HANGUL}]+)|(?P<en>[{_LATIN}])")
_CLAUSES = re.compile("(?<=[，。！？；,.!?;\n])")
# Words of Mandarin that no Japanese text has between its kana
_MANDARIN = re.compile("[我你您他她它们這这那哪吗嗎吧呢啊呀啦的了也很都还還没沒喜欢歡说說是在]")


class Run(NamedTuple):
    """A piece of a text, its language and its place (0-based) in the text."""

    language: str
    text: str
    start: int


def runs(text: str, language: str, units: frozenset[str] = frozenset()) -> list[Run]:
    """The runs of a text, in order; together they are the text.

    In English text all is English; in every other language, Latin letters are, but for `units` after a number. "auto"
    finds the others by their script; Han characters are Japanese beside kana, unless they are Mandarin words.
    """
    if language == "en":
        return [Run(language, text, 0)]
    found: list[Run] = []
    place = 0
    for match in _ENGLISH.finditer(text):
        start, end = match.span()
        if start < place:
            continue
        if (
            (letters := re.match(r"[A-Za-z/]+[²³23]?", match[0]))
            and (letters[0] in units or (letters[0] in ("C", "F") and text[:start].endswith(("°", "° "))))
            and _UNIT.search(text[:start])
        ):
            continue
        found += [*_other(text[place:start], language, place), Run("en", match[0], start)]
        place = end
    found += _other(text[place:], language, place)
    return _with_opening(found)


def _with_opening(found: list[Run]) -> list[Run]:
    """Signs alone go with the run beside them."""
    kept: list[Run] = []
    for run in found:
        if kept and not re.search(r"\w", kept[-1].text):
            run = Run(run.language, kept[-1].text + run.text, kept[-1].start)
            kept.pop()
        if kept and (kept[-1].language == run.language or not re.search(r"\w", run.text)):
            run = Run(kept[-1].language, kept[-1].text + run.text, kept[-1].start)
            kept.pop()
        kept.append(run)
    return kept


def _other(text: str, language: str, start: int) -> list[Run]:
    if not text:
        return []
    if language != AUTO:
        return [Run(language, text, start)]
    return [Run(name, part, start + place) for name, part, place in _by_script(text)]


def _by_script(text: str) -> list[tuple[str, str, int]]:
    japanese = bool(re.search(f"[{_KANA}]", text)) and not _mandarin(re.sub(f"[{_KANA}]", "", text))
    found: list[tuple[str, str, int]] = []
    place = 0
    for clause in _CLAUSES.split(text):
        kana = re.search(f"[{_KANA}]", clause)
        last = "ja" if japanese else "zh"
        begun = place
        for match in _TOKEN.finditer(clause):
            name = str(match.lastgroup)
            if name == "zh" and not _mandarin(match[0]) and (kana or japanese):
                name = "ja"
            before = clause[begun - place : match.start()]
            if name != last and before.strip():
                found.append((last, before, begun))
                begun = place + match.start()
            last = name
        found.append((last, clause[begun - place :], begun))
        place += len(clause)
    return found


def _mandarin(text: str) -> bool:
    """Whether Han characters are no Japanese: some that Japanese does not write, or Mandarin's frequent words."""
    for char in text:
        try:
            char.encode("shift_jis")
        except UnicodeEncodeError:
            return True
    return bool(_MANDARIN.search(text))
