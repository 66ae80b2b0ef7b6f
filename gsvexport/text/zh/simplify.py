"""Traditional characters → simplified ones, as OpenCC does it: the longest phrase that it knows, else each character.

The table is OpenCC's (NOTICE). A text keeps its length.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path


@functools.cache
def _table() -> tuple[dict[int, str], re.Pattern[str], dict[str, str]]:
    lines = (Path(__file__).parent / "traditional.txt").read_text(encoding="utf-8").splitlines()[1:]
    pairs = "".join(line for line in lines if " " not in line)
    phrases = dict(line.split(" ") for line in lines if " " in line)
    phrases = {key: value for key, value in phrases.items() if len(key) == len(value)}
    pattern = re.compile("|".join(sorted(phrases, key=lambda phrase: (-len(phrase), phrase))))
    return {ord(old): new for old, new in zip(pairs[::2], pairs[1::2], strict=True)}, pattern, phrases


def simplified(text: str) -> str:
    """The text in simplified characters."""
    characters, pattern, phrases = _table()
    found, place = "", 0
    for match in pattern.finditer(text):
        found += text[place : match.start()].translate(characters) + phrases[match[0]]
        place = match.end()
    return found + text[place:].translate(characters)
