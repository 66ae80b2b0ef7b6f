"""What every language's reader gives: words with their phones, and signs."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import NamedTuple

from gsvexport.errors import InputError

STRENGTH = {"?": 4, "!": 4, ".": 3, "…": 2, ",": 1, "-": 0}  # of several signs in a row the strongest is kept
SIGNS = frozenset(STRENGTH)
ENDS = frozenset(".!?")  # of a sentence


class Word(NamedTuple):
    """A word or a sign: its phones, by name.

    A language whose text goes through BERT also gives the characters, and how many of the phones belong to each: the
    counts are as many as the characters and add up to the phones. Elsewhere both are empty.
    """

    phones: tuple[str, ...]
    text: str = ""
    counts: tuple[int, ...] = ()


def merged(tokens: list[str]) -> list[str]:
    """The tokens, with only the strongest of several signs in a row."""
    kept: list[str] = []
    for token in tokens:
        if token in STRENGTH and kept and kept[-1] in STRENGTH:
            kept[-1] = max(kept[-1], token, key=STRENGTH.__getitem__)
        else:
            kept.append(token)
    return kept


def in_sentences(words: list[Word]) -> list[list[Word]]:
    """The words, cut after each sign that ends a sentence."""
    found: list[list[Word]] = [[]]
    for word in words:
        found[-1].append(word)
        if word.phones[0] in ENDS:
            found.append([])
    return [sentence for sentence in found if sentence]


def refuse(text: str, readable: Callable[[str], bool], language: str) -> None:
    """Check every character of a text.

    Raises:
        InputError: characters that `readable` denies, each named once with its 1-based places.
    """
    places: dict[str, list[int]] = {}
    for place, char in enumerate(text, 1):
        if not readable(char):
            places.setdefault(char, []).append(place)
    if not places:
        return
    problems = []
    for char, where in places.items():
        shown = ", ".join(map(str, where[:3])) + (f" and {len(where) - 3} more" if len(where) > 3 else "")
        problems.append(f"{char!a} ({unicodedata.name(char, 'no name').lower()}) at {shown}")
    raise InputError(
        f"characters that cannot be read as {language}",
        problems=problems,
        fix="leave them out or write them as words; or name the text's language (--language, language= in Python); "
        "or give the phones instead of a text",
    )
