"""Which words of a text were said: a text that is longer than the recording is cut to what was heard."""

from __future__ import annotations

from collections.abc import Sequence

from gsvexport.errors import InputError
from gsvexport.verify.transcript import UNSPACED, words

MOST_WRONG = 0.35  # edits for each word heard; recognisers miss a few, another text misses most


def part_of(text: str, heard: str, language: str) -> tuple[str, float]:
    """The run of words of `text` that is nearest to what was heard, as it is spelt there, and the edits for each word
    heard (Sellers 1980: Levenshtein with free ends). In a language without spaces: characters.

    Raises:
        InputError: nothing of the text is near.
    """
    tokens = list(text) if language in UNSPACED else text.split()
    owner, wanted = [], []
    for index, token in enumerate(tokens):
        for word in words(token, language):
            pieces = list(word) if language in UNSPACED else [word]
            owner += [index] * len(pieces)
            wanted += pieces
    said = words(heard, language)
    said = list("".join(said)) if language in UNSPACED else said
    start, end, edits = _nearest(wanted, said)
    share = edits / max(1, len(said))
    if start == end or not said or share > MOST_WRONG:
        raise InputError(
            "the text is not what the recording says",
            found=f"heard: {heard[:200]}",
            limit=f"at most {MOST_WRONG:.0%} of the words may be heard wrongly",
            fix="give the text of this recording, or leave --text out",
        )
    first, last = owner[start], owner[end - 1]
    while last + 1 < len(tokens) and not words(tokens[last + 1], language):  # signs that belong to the last word
        last += 1
    return ("" if language in UNSPACED else " ").join(tokens[first : last + 1]).strip(), share


def _nearest(wanted: Sequence[str], heard: Sequence[str]) -> tuple[int, int, int]:
    """Start and end of the part of `wanted` with the fewest edits to `heard`, and these edits."""
    row = [(0, place) for place in range(len(wanted) + 1)]  # edits, and where that part begins
    for count, one in enumerate(heard, 1):
        diagonal, row[0] = row[0], (count, 0)
        for place, other in enumerate(wanted, 1):
            change = (diagonal[0] + (one != other), diagonal[1])
            more, less = (row[place][0] + 1, row[place][1]), (row[place - 1][0] + 1, row[place - 1][1])
            diagonal, row[place] = row[place], min(change, more, less, key=lambda way: (way[0], -way[1]))
    end = min(range(len(row)), key=lambda place: (row[place][0], place))
    return row[end][1], end, row[end][0]
