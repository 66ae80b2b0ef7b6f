"""Text → phones. One folder a language, found by its name: it has a `phonemes.py` with

    sentences(text: str) -> list[list[tuple[str, ...]]]

the sentences of a text, each a list of words and signs, each of those a tuple of symbols. What upstream asks of every
language is done here.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

from gsvexport.errors import InputError
from gsvexport.text.symbols import phone_ids

SIGNS = frozenset(",.!?…-")
LIMIT = 150  # phones spoken in one go: some 12 s, about what the voices are trained with
SHORTEST = 4  # upstream puts a comma before fewer phones than that


def languages() -> tuple[str, ...]:
    """The languages that can be read, sorted."""
    return tuple(sorted(path.parent.name for path in Path(__file__).parent.glob("*/phonemes.py")))


def phonemise(text: str, language: str, version: str, *, limit: int = LIMIT) -> list[list[str]]:
    """The phones of each sentence, by their names in phone table `version` ("v1" or "v2").

    Sentences longer than `limit` phones are cut, where there is a sign if possible, and otherwise between two words.
    Each ends with a sign, and a comma stands before one of fewer than 4 phones (upstream's `text/english.py`).

    Raises:
        InputError: a language that cannot be read, characters that it does not have, or no phones at all.
    """
    known = languages()
    if language not in known:
        raise InputError(
            f"text in language '{language}' cannot be turned into phones",
            limit=", ".join(known),
            fix="give the sentence's phones: phones= in Python, --phones on the command line",
        )
    module = importlib.import_module(f"gsvexport.text.{language}.phonemes")
    found = [
        _finished(piece)
        for sentence in module.sentences(text)
        for piece in _cut(sentence, limit)
        if not SIGNS.issuperset(piece)
    ]
    if not found:
        raise InputError("the text has no sound in it", found=repr(text[:60]), fix="write at least one word")
    for phones in found:
        phone_ids(phones, version)
    return found


def _cut(words: list[tuple[str, ...]], limit: int) -> Iterator[list[str]]:
    """Pieces of at most `limit` phones, their last sign included; a longer word is cut, too."""
    room = limit - 2  # for a sign before and a sign after
    rest = [symbol for word in words for symbol in word]
    ends, place = [], 0
    for word in words:
        place += len(word)
        ends.append((place, word[-1] in SIGNS))
    start = 0
    while len(rest) - start > limit - 1:
        inside = [(end, sign) for end, sign in ends if start < end <= start + room]
        signs = [end for end, sign in inside if sign and end > start + room // 2]
        stop = signs[-1] if signs else inside[-1][0] if inside else start + room
        yield rest[start:stop]
        start = stop
    yield rest[start:]


def _finished(phones: list[str]) -> list[str]:
    while phones[0] in SIGNS:
        phones = phones[1:]
    if phones[-1] not in SIGNS:
        phones = [*phones, "."]
    return phones if len(phones) >= SHORTEST else [",", *phones]
