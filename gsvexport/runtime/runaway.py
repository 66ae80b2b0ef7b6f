"""Speech that ran away: it never ended, goes round in circles, or is far longer or shorter than its text.

T2S says when a sentence ends, and sometimes does not, or too early. What it wrote is judged by its codes alone, before
any sound is made: by whether the limit cut it off, by its loops, and by its length beside that of its phones. How long
a phone takes the voice itself tells: the recording that it continues was read by the same speaker, and an artifact
holds its codes and phones. The thresholds are measured, see docs/runaways.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from gsvexport.model import Model

Kind = Literal["endless", "loop", "long", "short"]
Codes = NDArray[np.int64]

LONG, ALLOWED = 1.75, 0.5  # times as long as its phones suggest, and s on top: a short sentence has silence around it
SHORT = 0.7  # of what its phones suggest
SECONDS_PER_PHONE = 0.085  # between the medians of two voices, 0.089 and 0.081
_PLAUSIBLE = (0.04, 0.2)  # s a phone; a recording outside was not of its text, or holds more silence than speech
LOOP_TIMES, LOOP_CODES, LONGEST_LOOP = 3, 15, 25  # what `loop_share` counts: a block of at most 25 codes, 0.6 s in all
LOOP_SECONDS = 1.0  # as long as this a loop is a fault: pauses inside a sentence are loops of 0.4 s
AGAIN, RUN = 0.25, 5  # of its runs of five codes, those that it had said before; speech reaches 0.09
TEXT_RUN = 3  # phones: a text that repeats itself ("one two three, one two three") may be said so


@dataclass(frozen=True)
class Tempo:
    """How many codes a phone takes, and how many codes are a second; `learned` from the voice's own recording, or not.

    Codes come before `speed` stretches them, so it has no say here.
    """

    codes_per_phone: float
    codes_per_second: float
    learned: bool

    def codes(self, phones: int) -> float:
        """How many codes so many phones suggest."""
        return self.codes_per_phone * phones

    def seconds(self, codes: float) -> float:
        """How long so many codes sound at speed 1."""
        return codes / self.codes_per_second


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with an utterance, by kind and in words."""

    kind: Kind
    text: str


class Voice(Protocol):
    """What is needed of a voice to know its tempo."""

    model: Model

    @property
    def baked(self) -> Mapping[str, Any]:
        """Its stored constants by name."""
        ...


def tempo(voice: Voice) -> Tempo:
    """The tempo of a voice: that of the recording it continues; without one, or an impossible one, a usual one."""
    rate = voice.model.code_rate
    usual = Tempo(SECONDS_PER_PHONE * rate, rate, learned=False)
    if "prompt" not in voice.baked or "prompt_phones" not in voice.baked:
        return usual
    codes, phones = (int(np.asarray(voice.baked[name]).size) for name in ("prompt", "prompt_phones"))
    if not phones or not _PLAUSIBLE[0] <= codes / phones / rate <= _PLAUSIBLE[1]:
        return usual
    return Tempo(codes / phones, rate, learned=True)


def findings(codes: Codes, phones: Codes, ended: bool, expected: Tempo) -> tuple[Finding, ...]:
    """What is wrong with an utterance: codes [n] of phones [X], which `ended` by itself or at the limit."""
    found, count, meant = [], len(codes), expected.codes(len(phones))
    lasts, suggests = expected.seconds(count), f"its {len(phones)} phones suggest {expected.seconds(meant):.1f} s"
    if not ended:
        found.append(Finding("endless", f"it did not end by itself: the limit of {count} codes cut it off"))
    if text := _circles(codes, phones, expected.codes_per_second):
        found.append(Finding("loop", text))
    if count > LONG * meant + ALLOWED * expected.codes_per_second:
        found.append(Finding("long", f"it lasts {lasts:.1f} s, {suggests}"))
    elif ended and count < SHORT * meant:
        found.append(Finding("short", f"it lasts {lasts:.1f} s, {suggests}: words may be missing"))
    return tuple(found)


def _circles(codes: Codes, phones: Codes, rate: float) -> str:
    """How an utterance repeats itself, or nothing."""
    looped = _looped(codes, max(1, int(rate)), max(LOOP_TIMES, int(LOOP_SECONDS * rate)))
    if looped.any():
        return f"it repeats itself for {np.count_nonzero(looped) / rate:.1f} s"
    if len(codes) < 2 * rate:  # too little to tell circles from chance
        return ""
    again = _again(codes, RUN)
    return f"it repeats itself: {again:.0%} of it was said before" if again > AGAIN + _again(phones, TEXT_RUN) else ""


def _again(row: Codes, run: int) -> float:
    """Share of the runs of a row [n] that are in it earlier, too."""
    if len(row) < run:
        return 0.0
    runs = np.lib.stride_tricks.sliding_window_view(row, run)
    return 1 - len(np.unique(runs, axis=0)) / len(runs)


def loop_share(codes: Codes) -> float:
    """Share of codes [n] inside a loop: a block that is said at least `LOOP_TIMES` in a row, `LOOP_CODES` in all."""
    return float(np.mean(_looped(codes, LONGEST_LOOP, LOOP_CODES))) if len(codes) else 0.0


def _looped(codes: Codes, longest: int, least: int) -> NDArray[np.bool_]:
    """Which of codes [n] are in a block of at most `longest` that is said `LOOP_TIMES` in a row, `least` in all."""
    inside = np.zeros(len(codes), bool)
    for period in range(1, min(longest, len(codes) // LOOP_TIMES) + 1):
        again = np.concatenate([[False], codes[period:] == codes[:-period], [False]])
        edges = np.flatnonzero(again[1:] != again[:-1])
        for start, stop in zip(edges[::2], edges[1::2], strict=True):
            if stop - start + period >= max(LOOP_TIMES * period, least):
                inside[start : stop + period] = True
    return inside
