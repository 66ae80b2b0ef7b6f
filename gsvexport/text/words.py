"""What every language's reader gives: words with their phones, and signs."""

from __future__ import annotations

from typing import NamedTuple

STRENGTH = {"?": 4, "!": 4, ".": 3, "…": 2, ",": 1, "-": 0}  # of several signs in a row the strongest is kept
SIGNS = frozenset(STRENGTH)
AFTER_LETTER = "\x02"  # before a run whose digits touch the English run before it: K711
ENDS = frozenset(".!?")  # of a sentence


class Word(NamedTuple):
    """A word or a sign: its phones, by name.

    A language whose text goes through BERT also gives the characters, and how many of the phones belong to each: the
    counts are as many as the characters and add up to the phones. Elsewhere both are empty.
    """

    phones: tuple[str, ...]
    text: str = ""
    counts: tuple[int, ...] = ()

    @property
    def is_sign(self) -> bool:
        """Whether it is a sign of punctuation, which has no sound."""
        return self.phones[0] in SIGNS


def merged(tokens: list[str]) -> list[str]:
    """The tokens, with only the strongest of several signs in a row."""
    kept: list[str] = []
    for token in tokens:
        if token in STRENGTH and kept and kept[-1] in STRENGTH:
            kept[-1] = max(kept[-1], token, key=STRENGTH.__getitem__)
        else:
            kept.append(token)
    return kept
