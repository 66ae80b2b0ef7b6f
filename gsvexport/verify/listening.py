"""What listeners make of utterances: words, quality, speaker, pace, silence. Each utterance is scored alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsvexport.errors import EnvironmentProblem
from gsvexport.progress import Progress, counted
from gsvexport.runtime.runaway import loop_share
from gsvexport.verify import audio, speech, transcript
from gsvexport.verify.heldout import Sentence
from gsvexport.verify.recogniser import WORKERS, Recogniser
from gsvexport.verify.speaker import SpeakerEncoder

Array = NDArray[Any]

# DNSMOS and the speaker encoder take six times as long as the recogniser, and quality shows in fewer utterances than
# words do: they listen to the first of them alone.
RATED = 24


@dataclass(frozen=True, eq=False)
class Utterance:
    """What was said: place of the sentence, codes [n], whether the voice ended by itself, samples [N] at `rate` Hz."""

    sentence: int
    codes: Array
    ended: bool
    samples: Array
    rate: int


@dataclass(frozen=True, eq=False)
class Scores:
    """What is measured of one utterance; NaN (None: the embedding) where the package is absent.

    `errors` of `words` and `misheard` of `letters` are what the recogniser got wrong (`transcript`), at most all of
    them: a recogniser that babbles on over a lost sentence would otherwise outweigh a hundred others. `heard` is the
    text. Only what is `rated` has been heard by DNSMOS and the speaker encoder.
    """

    sentence: int
    seconds: float
    ended: float
    repeats: float
    silence: float
    clipping: float
    rated: bool = True
    p808: float = np.nan
    ovr: float = np.nan
    errors: float = np.nan
    words: int = 0
    misheard: float = np.nan
    letters: int = 0
    heard: str = ""
    speaker: Array | None = None


@dataclass(frozen=True)
class Ears:
    """The listeners that are installed; `missing` says of each other one why it is not."""

    dnsmos: speech.Dnsmos | None
    recogniser: Recogniser | None
    speaker: SpeakerEncoder | None
    missing: Mapping[str, str]
    language: str = "en"


def listeners(language: str, recogniser: Path | None = None) -> Ears:
    """All listeners that this machine has. `recogniser` is the folder of another model than the package's.

    Raises:
        InputError: a folder that was named holds no recogniser.
    """
    missing: dict[str, str] = {}
    found: dict[str, Any] = {}
    kinds: dict[str, Callable[[], Any]] = {
        "dnsmos": speech.Dnsmos,
        "recogniser": partial(Recogniser, language, recogniser),
        "speaker": SpeakerEncoder,
    }
    for name, kind in kinds.items():
        try:
            found[name] = kind()
        except EnvironmentProblem as problem:
            found[name], missing[name] = None, " ".join(str(problem).split())
    return Ears(**found, missing=missing, language=language)


def scores(
    spoken: Sequence[Utterance],
    sentences: Sequence[Sentence],
    ears: Ears,
    say: Progress,
    known: Mapping[int, Scores] | None = None,
) -> list[Scores]:
    """What each listener makes of each utterance, `WORKERS` at a time; only the first `RATED` are rated.

    `known` are scores by the id of an utterance.
    """
    known = known or {}
    new = [one for one in spoken if id(one) not in known]
    rated = {id(one) for one in spoken[:RATED]}
    heard = [speech.narrow(one.samples, one.rate) for one in new]
    with ThreadPoolExecutor(WORKERS) as pool:
        try:
            waiting = [
                pool.submit(_score, one, sentences[one.sentence].text, sound, ears, id(one) in rated)
                for one, sound in zip(new, heard, strict=True)
            ]
            found = {}
            for index, (one, row) in enumerate(zip(new, waiting, strict=True)):
                say(counted(f"listening to {index + 1} of {len(new)}", "listening", index + 1, len(new)))
                found[id(one)] = row.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # after an interruption nothing more is started
    return [found.get(id(one)) or known[id(one)] for one in spoken]


def _score(one: Utterance, text: str, sound: Array, ears: Ears, rated: bool) -> Scores:
    """Everything of one utterance; `sound` is at 16 kHz."""
    p808, ovr = ears.dnsmos(sound) if ears.dnsmos and rated else (np.nan, np.nan)
    heard = ears.recogniser(sound) if ears.recogniser else ""
    errors = []
    for parts in (transcript.words, transcript.letters):
        wanted = parts(text, ears.language)
        errors += [min(transcript.edits(wanted, parts(heard, ears.language)), len(wanted)), len(wanted)]
    return Scores(
        sentence=one.sentence,
        seconds=one.samples.size / one.rate,
        ended=float(one.ended),
        repeats=loop_share(one.codes),
        silence=audio.silence_share(one.samples, one.rate),
        clipping=audio.clipping_share(one.samples),
        rated=rated,
        p808=p808,
        ovr=ovr,
        errors=errors[0] if ears.recogniser else np.nan,
        words=errors[1],
        misheard=errors[2] if ears.recogniser else np.nan,
        letters=errors[3],
        heard=heard,
        speaker=ears.speaker([sound])[0] if ears.speaker and rated else None,
    )
