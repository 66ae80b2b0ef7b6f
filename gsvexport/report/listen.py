"""What an artifact sounds like here, beside its source: the golden vectors inside it, and sentences.

Where there is a source, both are given the same codes and the same noise, so their sounds can be subtracted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gsvexport.errors import GsvError
from gsvexport.progress import Progress, counted
from gsvexport.runtime.draws import Draws
from gsvexport.runtime.runaway import findings, tempo
from gsvexport.runtime.speech import Manner, sound_feeds
from gsvexport.stages import MAX_TOKENS
from gsvexport.verify.cases import Case
from gsvexport.verify.sounding import chains, speak

if TYPE_CHECKING:
    from gsvexport.runtime.pipeline import LoadedVoice

Array = NDArray[Any]
SENTENCES = 2
_PHONES = (18, 60)  # of a sentence: long enough to be speech, short enough for a page
_SEED = 1


@dataclass(frozen=True, eq=False)
class Sound:
    """One utterance: samples [N] of the artifact and, where there are any, of the source and of the source with another
    noise seed, at `rate` Hz.

    `problem` says why there is nothing to hear.
    """

    title: str
    about: str
    rate: int
    artifact: Array | None = None
    reference: Array | None = None
    other: Array | None = None
    problem: str = ""


def golden_sounds(voice: LoadedVoice, cases: Sequence[Case]) -> list[Sound]:
    """The longest golden case of the vocoder: alone on the source's latent, and after the artifact's own acoustic."""
    spoken = [case for case in cases if case.stage == "vocoder"]
    if not spoken:
        return []
    last = max(spoken, key=lambda case: case.outputs["audio"].size)
    chain = next((found for found in chains(cases) if found["vocoder"] is last), None)
    expected = last.outputs["audio"].reshape(-1)
    found = [
        _sound(
            "Vocoder alone",
            f"Golden vectors, case {last.name}: the artifact's vocoder on the source's own latent.",
            voice.rate,
            lambda: voice.run("vocoder", last.inputs)["audio"],
            expected,
        )
    ]
    if chain is not None:
        found.append(
            _sound(
                "Codes to sound",
                f"Golden vectors, case {last.name}: codes to sound, all stages of the artifact in a row.",
                voice.rate,
                lambda: speak(voice, chain)["audio"],
                expected,
            )
        )
    return found


def spoken_sounds(voice: LoadedVoice, source: LoadedVoice | None, say: Progress) -> list[Sound]:
    """Sentences of the voice's language: on the source's codes where there is a source, else as the artifact speaks.

    They are held out: neither training nor calibration heard them, where the language has such sentences.
    """
    title, rate = "A sentence", voice.rate
    if "ge" not in voice.baked:
        return [Sound(title, "", rate, problem="the voice has no baked reference: it says nothing by itself")]
    sentences = _sentences(voice)
    if not sentences:
        reason = f"there is no sentence in '{voice.model.language}' whose phones this voice knows"
        return [Sound(title, "", rate, problem=reason)]
    found = []
    for number, (text, phones) in enumerate(sentences, 1):
        say(counted(f"speaking: {text}", "speaking", number, len(sentences)))
        found.append(_alone(voice, text, phones) if source is None else _both(voice, source, text, phones))
    return found


def _alone(voice: LoadedVoice, text: str, phones: Array) -> Sound:
    about = "Spoken by the artifact alone, with its own codes. With --source its source is heard beside it."
    told: list[str] = []

    def speak() -> Array:
        audio = voice.synthesize(phones=phones, seed=_SEED)
        told.extend(audio.notes)
        return audio.samples

    found = _sound(text, about, voice.rate, speak, None)
    return replace(found, problem="; ".join(told)) if told else found


def _both(voice: LoadedVoice, source: LoadedVoice, text: str, phones: Array) -> Sound:
    """The source's codes and one noise, from codes to sound through each."""
    about = "The source's codes and the same noise for both, so that only the artifact's arithmetic differs."
    try:
        codes = source.tokens(phones, prompt=None if "prompt" in source.baked else ())
        expected, other = (_speak(source, source, codes, phones, seed) for seed in (_SEED, _SEED + 1))
    except GsvError as error:
        return Sound(text, about, voice.rate, problem=f"the source cannot say it: {' '.join(str(error).split())}")
    if ran := findings(codes, phones, codes.size < MAX_TOKENS, tempo(source)):
        about += f" The source ran away: {'; '.join(one.text for one in ran)}."
    found = _sound(text, about, voice.rate, lambda: _speak(voice, source, codes, phones, _SEED), expected)
    return replace(found, other=other)


def _speak(voice: LoadedVoice, source: LoadedVoice, codes: Array, phones: Array, seed: int) -> Array:
    """Codes [n] with the source's conditioning and one noise: samples [N]."""
    feeds = sound_feeds(voice, codes, phones[np.newaxis], source.baked, Manner(), Draws(seed))
    return np.asarray(voice.run("vocoder", feeds)["audio"].reshape(-1))


def _sound(title: str, about: str, rate: int, speak: Callable[[], Array], reference: Array | None) -> Sound:
    """Speak; what goes wrong becomes the problem, for a page about an artifact must not depend on its health."""
    try:
        samples = np.asarray(speak()).reshape(-1)
    except GsvError as error:
        problem = f"the artifact cannot say it: {' '.join(str(error).split())}"
        return Sound(title, about, rate, None, reference, problem=problem)
    if broken := int(np.count_nonzero(~np.isfinite(samples))):
        problem = f"{broken} of {samples.size} samples are NaN or infinite"
        return Sound(title, about, rate, None, reference, problem=problem)
    if reference is not None and samples.shape != reference.shape:
        problem = f"it has {samples.size} samples instead of {reference.size}"
        return Sound(title, about, rate, samples, problem=problem)
    return Sound(title, about, rate, samples, reference)


def _sentences(voice: LoadedVoice) -> list[tuple[str, Array]]:
    """(text, phone ids [X]): the last of the held-out sentences, for the first are among the golden vectors; for other
    languages those of the calibration corpus that the voice knows all phones of."""
    from gsvexport.calibrate.corpus import VOICE, find_corpora
    from gsvexport.text.symbols import phone_ids, symbols
    from gsvexport.verify import heldout

    model = voice.model
    try:
        found = [(one.text, one.phones) for one in heldout.sentences(model)[::-1]]
        if not found:
            known = set(symbols(model.symbols)[: min(model.dims.phones, model.dims.text_phones)])
            corpus = [one for corpus in find_corpora(VOICE, model.language) for one in corpus.sentences]
            fitting = [one for one in corpus if known.issuperset(one.phones)]
            found = [(one.text, phone_ids(one.phones, model.symbols)) for one in fitting]
    except GsvError:
        return []
    short = [one for one in found if _PHONES[0] <= len(one[1]) <= _PHONES[1]] or found
    return [(text, np.array(phones)) for text, phones in short[:SENTENCES]]
