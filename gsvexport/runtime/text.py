"""What `synthesize` was given to say, as sentences, and their sound in one piece."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gsvexport.errors import InputError
from gsvexport.model import Model
from gsvexport.runtime.audio import Audio
from gsvexport.runtime.ports import Array, as_array
from gsvexport.text.phonemise import phonemise
from gsvexport.text.symbols import phone_ids

PAUSE = 0.3  # seconds between two sentences; upstream's default


def sentences(
    text: str | None, phones: Any, model: Model, bert: Any = None, language: str | None = None
) -> list[Array]:
    """The phone ids [1, X] of each sentence of `text`, or of the one sentence that `phones` are.

    `language` is the text's, by default the voice's own.

    Raises:
        InputError: neither or both are given, features of a text that is not cut into sentences yet, or a text that
            cannot be read in its language.
        EnvironmentProblem: the language's extra is not installed.
    """
    if text is None and phones is None:
        raise InputError("nothing to say", fix="give a text, or the sentence's phone ids with phones=")
    if text is None:
        array = as_array(phones)
        return [array[np.newaxis] if array.ndim == 1 else array]
    if phones is not None or bert is not None:
        raise InputError("a text comes alone; phones= or bert= was given with it", fix="give phones= and bert= alone")
    found = phonemise(text, language or model.language, model.symbols)
    return [np.array([phone_ids(names, model.symbols)], np.int64) for names in found]


def joined(spoken: Sequence[Audio]) -> Audio:
    """One sentence after the other, with a pause between."""
    rate = spoken[0].rate
    pause = np.zeros(round(PAUSE * rate), np.float32)
    pieces = [piece for audio in spoken for piece in (pause, audio.samples)]
    return Audio(np.concatenate(pieces[1:]), rate)
