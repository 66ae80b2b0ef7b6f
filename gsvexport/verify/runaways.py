"""How often a voice runs away, by length of text, beside how often its source does. See `gsvexport.runtime.runaway`.

Short and long texts are where it happens, and the sentences that are listened to are neither: more are written for it,
without making sound of them. The long ones are two or three sentences in one breath.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gsvexport.runtime.runaway import findings, tempo
from gsvexport.verify.gates import Gates, judge, not_run
from gsvexport.verify.heldout import Sentence
from gsvexport.verify.paired import TAIL, estimate
from gsvexport.verify.report import Check

if TYPE_CHECKING:
    from gsvexport.runtime.pipeline import LoadedVoice

Array = NDArray[Any]


STAGE, SOURCE = "free_run", "source"
# An utterance that has not ended after so many codes never will: speech has some 2 codes a phone at 25 codes a second.
ENDLESS, CODES_PER_PHONE = 40, 5
BREATHS = 12  # long texts
SHORT, LONG = 15, 60  # phones: a few words at most; more than any sentence that is listened to
# Metric: from how many phones on and to how many it counts.
CLASSES = {"runaways_short": (0, SHORT), "runaways_middle": (SHORT + 1, LONG), "runaways_long": (LONG + 1, 1 << 30)}
RISE = "runaway_rise"


@dataclass(frozen=True, eq=False)
class Written:
    """Codes [n] of a sentence, and whether it ended by itself."""

    phones: tuple[int, ...]
    codes: Array
    ended: bool


def write(voice: LoadedVoice, sentence: Sentence, seed: int) -> Written:
    """The codes of a sentence, freely.

    Raises:
        BackendError: T2S failed, or gave NaN or infinite values.
    """
    phones = np.array([sentence.phones], np.int64)
    prompt = voice.own_prompt()
    most = ENDLESS + CODES_PER_PHONE * len(sentence.phones)
    codes = voice.tokens(phones, prompt=prompt, sampling=replace(voice.sampling, seed=seed), max_tokens=most)
    return Written(sentence.phones, codes, codes.size < most)


def more(
    voice: LoadedVoice, sentences: Sequence[Sentence], short: Sequence[Sentence], seeds: Sequence[int]
) -> list[Written]:
    """What else a voice is asked to write: the `short` texts, and long ones made of `sentences`, each with every seed.

    Raises: as `write`.
    """
    texts = (*short, *long_texts(sentences))
    return [write(voice, one, seed) for seed in seeds for one in texts]


def long_texts(sentences: Sequence[Sentence]) -> list[Sentence]:
    """As many sentences in one breath as make more than `LONG` phones, `BREATHS` times at most."""
    found: list[Sentence] = []
    text, phones = "", tuple[int, ...]()
    for one in sentences:
        text, phones = f"{text} {one.text}".strip(), phones + one.phones
        if len(phones) > LONG and len(found) < BREATHS:
            found.append(Sentence(text, phones))
            text, phones = "", ()
    return found


def ran_away(voice: LoadedVoice, written: Sequence[Written]) -> list[bool]:
    """Which of them are not what their texts suggest; an utterance without any code is not, either."""
    expected = tempo(voice)
    return [
        not one.codes.size or bool(findings(one.codes, np.array(one.phones), one.ended, expected)) for one in written
    ]


def checks(source: LoadedVoice, said: Sequence[Written], found: Sequence[Written], gates: Gates) -> list[Check]:
    """The share of runaways by length of text, with the source's as baseline; and by how much it has surely risen.

    `said` is the source's and `found` the artifact's, of the same texts. One seed's luck decides a rare event, so the
    gate asks no more than that the rise is beyond chance: its value is the lower bound of the 95 % interval, of all
    texts, or of those of one length where that is higher. Those are three, so their intervals are wider (Bonferroni):
    many texts of one kind must not hide what another kind does.
    """
    before, after = ran_away(source, said), ran_away(source, found)  # one tempo for both: the source's own
    texts = {phones: number for number, phones in enumerate(dict.fromkeys(one.phones for one in said))}
    clusters = [texts[one.phones] for one in said]
    rises = [float(x) - float(s) for s, x in zip(before, after, strict=True)]
    rise = estimate(rises, clusters=clusters)
    bounds, rows = [rise.low], []
    for metric, (low, high) in CLASSES.items():
        places = [place for place, one in enumerate(said) if low <= len(one.phones) <= high]
        if not places:
            rows.append(not_run(gates, STAGE, metric, SOURCE, "no text of this length was said", level=3))
            continue
        share, own = (float(np.mean([of[place] for place in places])) for of in (after, before))
        rows.append(judge(gates, STAGE, metric, SOURCE, share, len(places), baseline=own, level=3))
        here, which = [rises[place] for place in places], [clusters[place] for place in places]
        bounds.append(estimate(here, clusters=which, tail=TAIL / len(CLASSES)).low)
    sure = max(0.0, *bounds) if np.isfinite(rise.low) else rise.low
    rows.append(judge(gates, STAGE, RISE, SOURCE, sure, rise.n, baseline=float(np.mean(before)), level=3))
    return rows


def unknown(gates: Gates, reason: str) -> list[Check]:
    """All of them, not run."""
    return [not_run(gates, STAGE, metric, SOURCE, reason, level=3) for metric in (*CLASSES, RISE)]
