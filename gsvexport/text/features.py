"""Text features: what BERT says of each character, given to each of its phones.

Upstream's tokenizer makes one token of each Mandarin character; here every character is looked up by itself, so that
characters and tokens never come apart.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from gsvexport.stages import BERT_WIDTH
from gsvexport.text.phonemise import Sentence
from gsvexport.untrusted.reading import lines

LANGUAGE = "zh"  # upstream gives zeros to every other
LARGEST_VOCABULARY = 16 << 20  # bytes; upstream's has 0.1 MB
LONGEST = 510  # characters that BERT reads at once, between [CLS] and [SEP]
_UNKNOWN, _FIRST, _LAST = "[UNK]", "[CLS]", "[SEP]"

Run = Callable[[str, Mapping[str, Any]], Mapping[str, npt.NDArray[Any]]]


def vocabulary(data: bytes) -> dict[str, int]:
    """Token → id of a `vocab.txt`: a token a line.

    Raises:
        ValueError: not UTF-8, or without the tokens that every text needs.
    """
    known = {token: number for number, token in enumerate(lines(data.decode("utf-8")))}
    if missing := [token for token in (_FIRST, _LAST, _UNKNOWN) if token not in known]:
        raise ValueError(f"has no token {', '.join(missing)}")
    return known


def token_ids(text: str, known: Mapping[str, int]) -> npt.NDArray[np.int64]:
    """[1, characters + 2]: each character's token, between [CLS] and [SEP]."""
    rows = [_FIRST, *map(_plain, text), _LAST]
    return np.array([[known.get(token, known[_UNKNOWN]) for token in rows]], np.int64)


def text_features(sentence: Sentence, known: Mapping[str, int], run: Run) -> npt.NDArray[np.float32]:
    """[1, 1024, phones] of a sentence: a column of stage `bert` for each phone; zeros where words have no characters.

    `run(stage, feeds)` runs a stage. A run of characters is read by itself, without what stands around it.
    """
    found = np.zeros((1, BERT_WIDTH, len(sentence.phones)), np.float32)
    for text, counts, start in sentence.runs:
        for first in range(0, len(text), LONGEST):
            ids = token_ids(text[first : first + LONGEST], known)
            columns = np.repeat(run("bert", {"input_ids": ids})["features"], counts[first : first + LONGEST], axis=2)
            found[..., start : start + columns.shape[2]] = columns
            start += columns.shape[2]
    return found


def _plain(char: str) -> str:
    """A character as an uncased vocabulary has it: in lower case, without accents."""
    parts = unicodedata.normalize("NFD", char.lower())
    return "".join(part for part in parts if unicodedata.category(part) != "Mn")
