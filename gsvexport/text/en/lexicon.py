"""CMUdict as one block of bytes, searched by bisection: 2 MB in memory, where a dict of its words would take 30."""

from __future__ import annotations

import functools
import lzma
from pathlib import Path

_FIRST_CODE = ord("!")  # as make.py writes it


@functools.cache
def _dictionary() -> tuple[bytes, tuple[str, ...]]:
    """The sorted lines "\\nword codes" and the phones that the codes stand for. Read at the first word."""
    data = lzma.decompress((Path(__file__).parent / "cmudict.xz").read_bytes())
    end = data.index(b"\n")
    return data[end:], tuple(data[:end].decode("ascii").split())


def pronounce(word: str) -> tuple[str, ...] | None:
    """The phones of a lower-case word, with stress ("AH0"), or None for a word that CMUdict does not have."""
    lines, phones = _dictionary()
    wanted = word.encode("utf-8")
    low, high = 0, len(lines) - 1  # both at the line break before an entry
    while low < high:
        start = lines.rfind(b"\n", 0, (low + high) // 2 + 1)
        stop = lines.index(b"\n", start + 1)
        found, _, codes = lines[start + 1 : stop].partition(b" ")
        if found == wanted:
            return tuple(phones[code - _FIRST_CODE] for code in codes)
        low, high = (stop, high) if found < wanted else (low, start)
    return None
