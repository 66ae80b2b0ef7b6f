"""Level 3: the artifact and its source speak the same sentences with the same seeds; what do listeners hear?

Twice. Freely, codes are sampled as a user's would be, so one utterance may differ from the source's from some code on.
And on the source's codes and noise: then only the stages that make sound differ, pairs are far tighter, and a rise of
the word error rate is seen that the T2S's own luck hides in a free run. Nothing is compared sample by sample: each
utterance is scored alone, and the scores are compared in pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gsvexport.errors import BackendError, GsvError
from gsvexport.progress import Progress, counted, within
from gsvexport.runtime.draws import Draws
from gsvexport.runtime.runaway import loop_share
from gsvexport.runtime.speech import Manner, sound_feeds
from gsvexport.verify import audio, runaways, transcript
from gsvexport.verify.gates import METRICS, Gates, judge, not_run
from gsvexport.verify.heldout import Sentence
from gsvexport.verify.listening import RATED, Ears, Scores, Utterance, listeners, scores
from gsvexport.verify.paired import Estimate, as_ratio, estimate
from gsvexport.verify.report import Check, meets

if TYPE_CHECKING:
    from gsvexport.runtime.pipeline import LoadedVoice

__all__ = ["HEARD", "PAIRED", "RATED", "SOUND", "Ears", "Scores", "Utterance", "checks", "compare", "listeners"]
__all__ += ["loop_share", "repeated", "scores", "utterances"]

Array = NDArray[Any]

STAGE, SOUND, SOURCE = "free_run", "pipeline", "source"
MOST_ROUNDS = 3  # of all sentences, where those of one are too few to tell
DEAF = 0.5  # the source's error rate above which the recogniser can tell nothing: what is lost cannot get lost again
_EARS = {"p808_drop": "dnsmos", "ovr_drop": "dnsmos", "speaker_drop": "speaker"}
_EARS |= {"wer_rise": "recogniser", "cer_rise": "recogniser"}


def compare(
    voice: LoadedVoice,
    source: LoadedVoice | None,
    sentences: Sequence[Sentence],
    seeds: int,
    gates: Gates,
    say: Progress,
    recogniser: Path | None = None,
    short: Sequence[Sentence] = (),
) -> list[Check]:
    """All checks of level 3 over `seeds` × `sentences`; `recogniser` as for `listeners`. `short` texts are written and
    not listened to. Where the mean keeps a limit and its interval does not, everything is said again with other seeds,
    `MOST_ROUNDS` times in all.

    Raises:
        InputError: a folder that was named holds no recogniser.
    """
    reason = "no source was given to compare with" if source is None else _silent(source, sentences)
    if source is None or reason:
        return _nothing(gates, reason)
    ears = listeners(voice.model.language, recogniser)
    rounds: list[_Round] = []
    found: list[Check] = []
    while len(rounds) < MOST_ROUNDS:
        first = len(rounds) * seeds
        one = _round(voice, source, sentences, short, range(first, first + seeds), ears, say)
        if isinstance(one, str):
            valid = judge(gates, STAGE, "valid", SOURCE, 0.0, seeds * len(sentences), reason=one, level=3)
            return [valid, *_nothing(gates, "the free run is not valid")]
        rounds.append(one)
        found = _judged(rounds, source, ears, gates)
        if not _undecided(found):
            break
        say("too few sentences to tell: once more, with other seeds")
    return found


@dataclass(frozen=True)
class _Round:
    """What was heard of the source, of the artifact freely and on the source's codes, and all that both wrote."""

    expected: list[Scores]
    free: list[Scores]
    equal: list[Scores]
    theirs: list[runaways.Written]
    own: list[runaways.Written]


def _round(
    voice: LoadedVoice,
    source: LoadedVoice,
    sentences: Sequence[Sentence],
    short: Sequence[Sentence],
    seeds: Sequence[int],
    ears: Ears,
    say: Progress,
) -> _Round | str:
    """Every sentence with each of `seeds`; why the artifact could not say them, where that is so."""
    said = utterances(source, sentences, seeds, within("source", say))
    expected = scores(said, sentences, ears, within("source", say))
    try:
        free = utterances(voice, sentences, seeds, within("artifact", say))
        again = repeated(voice, sentences, said, free, seeds, within("artifact", say))
        say("short and long texts")
        theirs, own = (
            [*_written(spoken, sentences), *runaways.more(one, sentences, short, seeds)]
            for one, spoken in ((source, said), (voice, free))
        )
    except GsvError as error:
        return " ".join(str(error).split())
    known = {id(one): score for one, score in zip(said, expected, strict=True)}
    found = scores(free, sentences, ears, within("artifact", say), known)
    known |= {id(one): score for one, score in zip(free, found, strict=True)}
    equal = scores(again, sentences, ears, within("artifact, the source's codes", say), known)
    return _Round(expected, found, equal, theirs, own)


def _judged(rounds: Sequence[_Round], source: LoadedVoice, ears: Ears, gates: Gates) -> list[Check]:
    """The checks of all rounds together."""
    expected = [score for one in rounds for score in one.expected]
    found = [score for one in rounds for score in one.free]
    equal = [score for one in rounds for score in one.equal]
    theirs = [text for one in rounds for text in one.theirs]
    own = [text for one in rounds for text in one.own]
    return [
        judge(gates, STAGE, "valid", SOURCE, 1.0, len(found), level=3),
        *checks(expected, found, ears, gates),
        *checks(expected, equal, ears, gates, SOUND),
        *runaways.checks(source, theirs, own, gates),
    ]


def _undecided(found: Sequence[Check]) -> bool:
    """Whether all that fails fails for its interval alone: the mean keeps its limit, and more sentences may show it."""
    failed = [one for one in found if one.status == "fail"]
    return bool(failed) and all(
        one.low is not None
        and one.value is not None
        and one.limit is not None
        and meets(one.value, one.limit, one.direction)
        for one in failed
    )


def _written(said: Sequence[Utterance], sentences: Sequence[Sentence]) -> list[runaways.Written]:
    return [runaways.Written(sentences[one.sentence].phones, one.codes, one.ended) for one in said]


def _nothing(gates: Gates, reason: str) -> list[Check]:
    return [
        not_run(gates, stage, metric, SOURCE, reason, level=3)
        for stage, metrics in ((STAGE, tuple(PAIRED)), (SOUND, HEARD))
        for metric in metrics
    ] + runaways.unknown(gates, reason)


def _silent(source: LoadedVoice, sentences: Sequence[Sentence]) -> str:
    """Why nothing can be said, or nothing."""
    if not sentences:
        return f"there are no held-out sentences in language '{source.model.language}' that the voice could say"
    return "" if "ge" in source.baked else "the voice has no baked reference"


def utterances(
    voice: LoadedVoice, sentences: Sequence[Sentence], seeds: Sequence[int], say: Progress
) -> list[Utterance]:
    """Every sentence with every seed, seed by seed. Equal seeds give every voice the same random numbers.

    Raises:
        BackendError: a stage failed, or gave NaN or infinite values, or no code at all.
    """
    found: list[Utterance] = []
    for seed in seeds:
        for index, sentence in enumerate(sentences):
            number, count = len(found) + 1, len(seeds) * len(sentences)
            say(counted(f"saying {number} of {count}", "saying", number, count))
            found.append(_utter(voice, index, sentence, seed))
    return found


def _utter(voice: LoadedVoice, index: int, sentence: Sentence, seed: int) -> Utterance:
    written = runaways.write(voice, sentence, seed)
    codes = written.codes
    if not codes.size:
        raise BackendError(f"{voice.model.name}: sentence {index + 1} ended before its first code (seed {seed})")
    return Utterance(index, codes, written.ended, _sound(voice, index, sentence, seed, codes), voice.rate)


def _sound(voice: LoadedVoice, index: int, sentence: Sentence, seed: int, codes: Array) -> Array:
    """The samples [N] of codes [n], with the noise of this sentence and seed."""
    phones = np.array([sentence.phones], np.int64)
    feeds = sound_feeds(voice, codes, phones, voice.baked, Manner(), Draws(seed, index))
    samples = voice.run("vocoder", feeds)["audio"][0]
    if count := audio.nonfinite_count(samples):
        raise BackendError(f"{voice.model.name}: {count} of {samples.size} samples are NaN or infinite (seed {seed})")
    return np.asarray(samples)


def repeated(
    voice: LoadedVoice,
    sentences: Sequence[Sentence],
    said: Sequence[Utterance],
    free: Sequence[Utterance],
    seeds: Sequence[int],
    say: Progress,
) -> list[Utterance]:
    """The voice says what the source `said` with `seeds`, code by code and with the same noise: only its sound can
    differ.

    Of what it said `free`, itself, with the same codes, the very utterance is taken; and what comes out sample by
    sample as in `said` is that utterance.

    Raises:
        BackendError: a stage failed, or gave NaN or infinite values.
    """
    found: list[Utterance] = []
    for place, (one, own) in enumerate(zip(said, free, strict=True)):
        say(counted(f"repeating {place + 1} of {len(said)}", "repeating", place + 1, len(said)))
        if not np.array_equal(one.codes, own.codes):
            seed = seeds[place // len(sentences)]
            own = replace(one, samples=_sound(voice, one.sentence, sentences[one.sentence], seed, one.codes))
        found.append(one if np.array_equal(one.samples, own.samples) else own)
    return found


def checks(
    source: Sequence[Scores], found: Sequence[Scores], ears: Ears, gates: Gates, stage: str = STAGE
) -> list[Check]:
    """Every paired metric: the source's scores beside the artifact's, utterance by utterance.

    In `SOUND`, where both said the same codes, those that codes alone decide are left out.
    """
    metrics = tuple(PAIRED) if stage == STAGE else HEARD
    return [_check(metric, source, found, ears, gates, stage) for metric in metrics]


def _check(
    metric: str, source: Sequence[Scores], found: Sequence[Scores], ears: Ears, gates: Gates, stage: str
) -> Check:
    reason = ears.missing.get(_EARS.get(metric, ""), "")
    kind = PAIRED[metric]
    if metric in RATINGS:
        source, found = ([one for one in rows if one.rated] for rows in (source, found))
    if not reason and metric == "wer_rise" and ears.language in transcript.UNSPACED:
        reason = f"words are not counted in language '{ears.language}', letters are: cer_rise"
    if not reason:
        baseline = kind.mean(source)
        if metric in ("wer_rise", "cer_rise") and baseline > DEAF:
            what = "words" if metric == "wer_rise" else "letters"
            reason = f"the recogniser gets {baseline:.0%} of the source's {what} wrong, too many to hear a difference"
    if reason:
        return not_run(gates, stage, metric, SOURCE, reason, level=3)
    result = kind.difference(source, found)
    interval = (result.low, result.high)
    return judge(gates, stage, metric, SOURCE, result.value, result.n, baseline=baseline, interval=interval, level=3)


@dataclass(frozen=True)
class _Kind:
    """A paired metric: what it is of the source, and how the two differ."""

    mean: Callable[[Sequence[Scores]], float]
    difference: Callable[[Sequence[Scores], Sequence[Scores]], Estimate]


def _fall(field: str, sign: float = 1.0) -> _Kind:
    """source - artifact of one score; with sign -1 artifact - source."""

    def difference(source: Sequence[Scores], found: Sequence[Scores]) -> Estimate:
        pairs = zip(source, found, strict=True)
        falls = [sign * (getattr(s, field) - getattr(x, field)) for s, x in pairs]
        return estimate(falls, clusters=_sentences(source))

    return _Kind(lambda source: float(np.mean([getattr(s, field) for s in source])), difference)


def _rate(wrong: str, of: str) -> _Kind:
    """The rise of an error rate: errors over everything that was to be said, of all utterances together."""

    def difference(source: Sequence[Scores], found: Sequence[Scores]) -> Estimate:
        rises = [getattr(x, wrong) - getattr(s, wrong) for s, x in zip(source, found, strict=True)]
        return estimate(rises, [getattr(s, of) for s in source], _sentences(source))

    def mean(source: Sequence[Scores]) -> float:
        return float(sum(getattr(s, wrong) for s in source) / max(1, sum(getattr(s, of) for s in source)))

    return _Kind(mean, difference)


def _sentences(source: Sequence[Scores]) -> list[int]:
    return [s.sentence for s in source]


def _durations(source: Sequence[Scores], found: Sequence[Scores]) -> Estimate:
    pairs = zip(source, found, strict=True)
    return as_ratio(estimate([float(np.log(x.seconds / s.seconds)) for s, x in pairs], clusters=_sentences(source)))


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
    return estimate([s - x for s, x in pairs], clusters=_sentences(source))


PAIRED: dict[str, _Kind] = {
    "p808_drop": _fall("p808"),
    "ovr_drop": _fall("ovr"),
    "wer_rise": _rate("errors", "words"),
    "cer_rise": _rate("misheard", "letters"),
    "duration_ratio": _Kind(lambda source: float(np.mean([s.seconds for s in source])), _durations),
    "eos_drop": _fall("ended"),
    "repeat_rise": _fall("repeats", -1.0),
    "speaker_drop": _Kind(lambda source: float(np.mean(_likeness(source, source))), _speakers),
    "silence_rise": _fall("silence", -1.0),
    "clipping_rise": _fall("clipping", -1.0),
}
RATINGS = ("p808_drop", "ovr_drop", "speaker_drop")
HEARD = ("p808_drop", "ovr_drop", "wer_rise", "cer_rise", "speaker_drop")  # where codes and noise are the source's
assert PAIRED.keys() <= METRICS.keys()
