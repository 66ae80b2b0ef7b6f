"""Level 3: the artifact and its source speak the same sentences with the same seeds, freely; what do listeners hear?

Codes are sampled as a user's would be, so one utterance may differ from the source's from some code on. Nothing is
compared sample by sample: each utterance is scored alone, and the scores are compared in pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gsvexport.errors import BackendError, EnvironmentProblem, GsvError
from gsvexport.runtime.speech import Manner, sound_feeds
from gsvexport.verify import audio, speech
from gsvexport.verify.gates import METRICS, Gates, judge, not_run
from gsvexport.verify.heldout import Sentence
from gsvexport.verify.paired import Estimate, as_ratio, estimate
from gsvexport.verify.report import Check
from gsvexport.verify.speaker import SpeakerEncoder

if TYPE_CHECKING:
    from gsvexport.runtime.pipeline import LoadedVoice

Array = NDArray[Any]
Progress = Callable[[str], None]

STAGE, SOURCE = "free_run", "source"
# An utterance that has not ended after so many codes never will: speech has some 2 codes a phone.
ENDLESS, CODES_PER_PHONE = 40, 5
LOOP_TIMES, LOOP_CODES, LONGEST_LOOP = 3, 15, 25  # a loop: a block of at most 25 codes, 3 times or more, 0.6 s in all
DEAF = 0.75  # the source's word error rate above which the recogniser can tell nothing
_EARS = {"p808_drop": "dnsmos", "ovr_drop": "dnsmos", "wer_rise": "recogniser", "speaker_drop": "speaker"}


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
    """What is measured of one utterance; NaN (None: the embedding) where the package is absent."""

    sentence: int
    seconds: float
    ended: float
    repeats: float
    silence: float
    clipping: float
    p808: float = np.nan
    ovr: float = np.nan
    errors: float = np.nan
    words: int = 0
    speaker: Array | None = None


@dataclass(frozen=True)
class Ears:
    """The listeners that are installed; `missing` says of each other one why it is not."""

    dnsmos: speech.Dnsmos | None
    recogniser: speech.Recogniser | None
    speaker: SpeakerEncoder | None
    missing: Mapping[str, str]


def listeners(language: str) -> Ears:
    """All listeners that this machine has; a recogniser there is for English alone."""
    missing: dict[str, str] = {}
    found: dict[str, Any] = {}
    kinds = {"dnsmos": speech.Dnsmos, "recogniser": speech.Recogniser, "speaker": SpeakerEncoder}
    for name, kind in kinds.items():
        try:
            found[name] = kind() if name != "recogniser" or language == "en" else None
        except EnvironmentProblem as problem:
            found[name], missing[name] = None, " ".join(str(problem).split())
    if language != "en":
        missing["recogniser"] = f"there is no recogniser for language '{language}'"
    return Ears(**found, missing=missing)


def compare(
    voice: LoadedVoice,
    source: LoadedVoice | None,
    sentences: Sequence[Sentence],
    seeds: int,
    gates: Gates,
    say: Progress,
) -> list[Check]:
    """All checks of level 3 over `seeds` × `sentences`."""
    reason = "no source was given to compare with" if source is None else _silent(source, sentences)
    if source is None or reason:
        return _nothing(gates, reason)
    ears = listeners(voice.model.language)
    expected = scores(utterances(source, sentences, seeds, _prefixed("source", say)), sentences, ears, say)
    try:
        found = utterances(voice, sentences, seeds, _prefixed("artifact", say))
    except GsvError as error:
        reason = " ".join(str(error).split())
        valid = judge(gates, STAGE, "valid", SOURCE, 0.0, len(expected), reason=reason, level=3)
        return [valid, *_nothing(gates, "the free run is not valid")]
    valid = judge(gates, STAGE, "valid", SOURCE, 1.0, len(found), level=3)
    return [valid, *checks(expected, scores(found, sentences, ears, say), ears, gates)]


def _nothing(gates: Gates, reason: str) -> list[Check]:
    return [not_run(gates, STAGE, metric, SOURCE, reason, level=3) for metric in PAIRED]


def _silent(source: LoadedVoice, sentences: Sequence[Sentence]) -> str:
    """Why nothing can be said, or nothing."""
    if not sentences:
        return f"there are no held-out sentences in language '{source.model.language}' that the voice could say"
    return "" if "ge" in source.baked else "the voice has no baked reference"


def utterances(voice: LoadedVoice, sentences: Sequence[Sentence], seeds: int, say: Progress) -> list[Utterance]:
    """Every sentence with every seed, seed by seed. Equal seeds give every voice the same random numbers.

    Raises:
        BackendError: a stage failed, or gave NaN or infinite values, or no code at all.
    """
    found: list[Utterance] = []
    for seed in range(seeds):
        for index, sentence in enumerate(sentences):
            say(f"saying {len(found) + 1} of {seeds * len(sentences)}")
            found.append(_utter(voice, index, sentence, seed))
    return found


def _utter(voice: LoadedVoice, index: int, sentence: Sentence, seed: int) -> Utterance:
    phones = np.array([sentence.phones], np.int64)
    prompt = None if "prompt" in voice.baked else np.empty((1, 0), np.int64)
    most = ENDLESS + CODES_PER_PHONE * len(sentence.phones)
    sampling = replace(voice.sampling, seed=seed)
    codes = voice.tokens(phones, prompt=prompt, sampling=sampling, max_tokens=most)
    if not codes.size:
        raise BackendError(f"{voice.model.name}: sentence {index + 1} ended before its first code (seed {seed})")
    random = np.random.Generator(np.random.PCG64([seed, index]))
    feeds = sound_feeds(voice, codes, phones, voice.baked, Manner(), random)
    samples = voice.run("vocoder", feeds)["audio"][0]
    if count := audio.nonfinite_count(samples):
        raise BackendError(f"{voice.model.name}: {count} of {samples.size} samples are NaN or infinite (seed {seed})")
    return Utterance(index, codes, codes.size < most, samples, voice.rate)


def scores(spoken: Sequence[Utterance], sentences: Sequence[Sentence], ears: Ears, say: Progress) -> list[Scores]:
    """What each listener makes of each utterance. DNSMOS runs beside the recogniser, in a thread of its own."""
    heard = [speech.narrow(one.samples, one.rate) for one in spoken]
    with ThreadPoolExecutor(1) as pool:
        try:
            rated = [pool.submit(ears.dnsmos, one) for one in heard] if ears.dnsmos else []
            speakers = ears.speaker(heard) if ears.speaker else [None] * len(heard)
            found = []
            for index, (one, sound) in enumerate(zip(spoken, heard, strict=True)):
                say(f"listening to {index + 1} of {len(spoken)}")
                p808, ovr = rated[index].result() if rated else (np.nan, np.nan)
                wanted = speech.words(sentences[one.sentence].text)
                errors = speech.edits(wanted, ears.recogniser(sound)) if ears.recogniser else np.nan
                row = Scores(
                    sentence=one.sentence,
                    seconds=one.samples.size / one.rate,
                    ended=float(one.ended),
                    repeats=loop_share(one.codes),
                    silence=audio.silence_share(one.samples, one.rate),
                    clipping=audio.clipping_share(one.samples),
                    p808=p808,
                    ovr=ovr,
                    errors=errors,
                    words=len(wanted),
                    speaker=speakers[index],
                )
                found.append(row)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # after an interruption nothing more is started
    return found


def loop_share(codes: Array) -> float:
    """Share of codes [n] inside a loop: a block that is said at least `LOOP_TIMES` in a row, `LOOP_CODES` in all."""
    inside = np.zeros(len(codes), bool)
    for period in range(1, min(LONGEST_LOOP, len(codes) // LOOP_TIMES) + 1):
        again = np.concatenate([[False], codes[period:] == codes[:-period], [False]])
        edges = np.flatnonzero(again[1:] != again[:-1])
        for start, stop in zip(edges[::2], edges[1::2], strict=True):
            if stop - start + period >= max(LOOP_TIMES * period, LOOP_CODES):
                inside[start : stop + period] = True
    return float(np.mean(inside)) if len(codes) else 0.0


def checks(source: Sequence[Scores], found: Sequence[Scores], ears: Ears, gates: Gates) -> list[Check]:
    """Every paired metric: the source's scores beside the artifact's, utterance by utterance."""
    return [_check(metric, source, found, ears, gates) for metric in PAIRED]


def _check(metric: str, source: Sequence[Scores], found: Sequence[Scores], ears: Ears, gates: Gates) -> Check:
    reason = ears.missing.get(_EARS.get(metric, ""), "")
    kind = PAIRED[metric]
    if not reason:
        baseline = kind.mean(source)
        if metric == "wer_rise" and baseline > DEAF:
            reason = f"the recogniser gets {baseline:.0%} of the source's words wrong, too many to hear a difference"
    if reason:
        return not_run(gates, STAGE, metric, SOURCE, reason, level=3)
    result = kind.difference(source, found)
    interval = (result.low, result.high)
    return judge(gates, STAGE, metric, SOURCE, result.value, result.n, baseline=baseline, interval=interval, level=3)


@dataclass(frozen=True)
class _Kind:
    """A paired metric: what it is of the source, and how the two differ."""

    mean: Callable[[Sequence[Scores]], float]
    difference: Callable[[Sequence[Scores], Sequence[Scores]], Estimate]


def _fall(field: str, sign: float = 1.0) -> _Kind:
    """source - artifact of one score; with sign -1 artifact - source."""

    def difference(source: Sequence[Scores], found: Sequence[Scores]) -> Estimate:
        pairs = zip(source, found, strict=True)
        return estimate([sign * (getattr(s, field) - getattr(x, field)) for s, x in pairs])

    return _Kind(lambda source: float(np.mean([getattr(s, field) for s in source])), difference)


def _words(source: Sequence[Scores], found: Sequence[Scores]) -> Estimate:
    pairs = list(zip(source, found, strict=True))
    return estimate([x.errors - s.errors for s, x in pairs], [s.words for s, _ in pairs])


def _durations(source: Sequence[Scores], found: Sequence[Scores]) -> Estimate:
    pairs = zip(source, found, strict=True)
    return as_ratio(estimate([float(np.log(x.seconds / s.seconds)) for s, x in pairs]))


def _likeness(source: Sequence[Scores], found: Sequence[Scores]) -> list[float]:
    """Cosine of each utterance to the mean of the source's utterances of all other sentences."""
    result = []
    for one in found:
        others = np.sum([s.speaker for s in source if s.sentence != one.sentence and s.speaker is not None], axis=0)
        size = float(np.linalg.norm(others))
        result.append(float(one.speaker @ others / size) if one.speaker is not None and size > 0.0 else float("nan"))
    return result


def _speakers(source: Sequence[Scores], found: Sequence[Scores]) -> Estimate:
    pairs = zip(_likeness(source, source), _likeness(source, found), strict=True)
    return estimate([s - x for s, x in pairs])


PAIRED: dict[str, _Kind] = {
    "p808_drop": _fall("p808"),
    "ovr_drop": _fall("ovr"),
    "wer_rise": _Kind(lambda source: sum(s.errors for s in source) / sum(s.words for s in source), _words),
    "duration_ratio": _Kind(lambda source: float(np.mean([s.seconds for s in source])), _durations),
    "eos_drop": _fall("ended"),
    "repeat_rise": _fall("repeats", -1.0),
    "speaker_drop": _Kind(lambda source: float(np.mean(_likeness(source, source))), _speakers),
    "silence_rise": _fall("silence", -1.0),
    "clipping_rise": _fall("clipping", -1.0),
}
assert PAIRED.keys() <= METRICS.keys()


def _prefixed(name: str, say: Progress) -> Progress:
    return lambda text: say(f"{name}: {text}")
