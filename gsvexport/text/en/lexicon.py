"""CMUdict: 2 MB in memory."""

from __future__ import annotations

import functools
from pathlib import Path

from gsvexport.text.sorted_lines import SortedLines, load

FIRST_CODE = ord("!")  # the printable character that stands for the first phone
PHONES = ""  # key of the line with the phones' names


@functools.cache
def _dictionary() -> tuple[SortedLines, tuple[str, ...]]:
    """The words, and the phones that their characters stand for. Read at the first word."""
    (lines,) = load(Path(__file__).parent / "cmudict.xz", 1)
    return lines, tuple((lines.get(PHONES) or b"").decode("ascii").split())


def pronounce(word: str) -> tuple[str, ...] | None:
    """The phones of a lower-case word, with stress ("AH0"), or None for a word that is not there."""
    lines, phones = _dictionary()
    codes = lines.get(word) if word != PHONES else None
    return None if codes is None else tuple(phones[code - FIRST_CODE] for code in codes)


def spellings() -> list[str]:
    """Every word that is there, sorted."""
    return [word for word in _dictionary()[0] if word != PHONES]
