"""How cmudict.xz was made from CMUdict's text (its source and licence: NOTICE). Equal input gives equal bytes.

python -m gsvexport.text.en.make dict.txt gsvexport/text/en/cmudict.xz
"""

from __future__ import annotations

import lzma
import re
import sys
from pathlib import Path

_FIRST_CODE = ord("!")  # the printable character that stands for the first phone
_FILTER = {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 4, "lp": 0, "pb": 0}  # smallest of a few


def pack(text: str) -> bytes:
    """The dictionary, compressed: a line with the phones, then sorted lines of word, space, a character for each phone.

    `text` has lines "WORD  PH0 PH1"; of several pronunciations ("WORD(1)") the first is kept.
    """
    entries: dict[str, list[str]] = {}
    for line in text.splitlines():
        word, _, phones = line.strip().partition("  ")
        if re.fullmatch(r"[A-Za-z']+", word):
            entries.setdefault(word.lower(), phones.split())
    inventory = sorted({phone for phones in entries.values() for phone in phones})
    codes = {phone: chr(_FIRST_CODE + index) for index, phone in enumerate(inventory)}
    lines = [" ".join(inventory)]
    lines += [f"{word} {''.join(codes[phone] for phone in entries[word])}" for word in sorted(entries)]
    return lzma.compress(("\n".join(lines) + "\n").encode("ascii"), filters=[_FILTER])


if __name__ == "__main__":
    source, out = map(Path, sys.argv[1:])
    out.write_bytes(pack(source.read_text(encoding="utf-8", errors="replace")))
