"""What `synthesize` was given to say, as sentences, and their sound in one piece."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gsvexport.errors import InputError
from gsvexport.model import Model
from gsvexport.runtime.audio import Audio
from gsvexport.runtime.ports import Array, as_array
from gsvexport.text.features import LANGUAGE
from gsvexport.text.phonemise import AUTO, Sentence, read
from gsvexport.text.symbols import phone_ids

PAUSE = 0.3  # seconds between two sentences; upstream's default


@dataclass(frozen=True, eq=False)
class Spoken:
    """One sentence: phone ids [1, X], and features [1, 1024, X] of its text where there are any."""

    phones: Array
    bert: Any = None


def sentences(
    text: str | None,
    phones: Any,
    model: Model,
    bert: Any = None,
    language: str | None = None,
    features: Callable[[Sentence], Array] | None = None,
) -> list[Spoken]:
    """Each sentence of `text`, or the one sentence that `phones` are.

    `language` is the text's ("auto": each part's own), by default the voice's; `features` makes those of a Mandarin
    text, given BERT.

    Raises:
        InputError: neither or both are given, features of a text that is not cut into sentences yet, or a text that
            cannot be read in its language.
        EnvironmentProblem: the language's extra is not installed.
    """
    if text is None and phones is None:
        raise InputError("nothing to say", fix="give a text, or the sentence's phone ids with phones=")
    if text is None:
        array = as_array(phones)
        return [Spoken(array[np.newaxis] if array.ndim == 1 else array, bert)]
    if phones is not None or bert is not None:
        raise InputError("a text comes alone; phones= or bert= was given with it", fix="give phones= and bert= alone")
    language = language or model.language
    made = features if language in (LANGUAGE, AUTO) else None
    return [
        Spoken(np.array([phone_ids(one.phones, model.symbols)], np.int64), made(one) if made else None)
        for one in read(text, language, model.symbols)
    ]


def joined(spoken: Sequence[Audio]) -> Audio:
    """One sentence after the other, with a pause between."""
    rate = spoken[0].rate
    pause = np.zeros(round(PAUSE * rate), np.float32)
    pieces = [piece for audio in spoken for piece in (pause, audio.samples)]
    return Audio(np.concatenate(pieces[1:]), rate, tuple(note for audio in spoken for note in audio.notes))
