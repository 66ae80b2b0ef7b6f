"""The stretch of a recording that a voice is best cloned from: 3 to 10 s of speech between two pauses.

Speech is where a 20 ms frame lies well above the quietest ones. A stretch begins and ends inside pauses, so no word is
cut, and the longer these pauses are, the likelier it holds whole sentences.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from gsvexport.errors import VoiceError
from gsvexport.signal.audio import Samples, clipped_share, loudness
from gsvexport.signal.cloning import SECONDS

LOUD_ENOUGH = -40.0  # dB below full scale in the loudest tenth of a second; speech is recorded at -12 to -23
CLIPPED = 0.02  # share of samples on plateaus, beyond which nothing is cloned
CLEAN = 15.0  # dB between speech and what is heard in its pauses
_FRAME = 0.02
_GAP, _BURST, _PAUSE = 0.12, 0.06, 0.2  # s: a gap within a word, a click, and what counts as a pause
_MARGIN, _MOST_MARGIN = 0.15, 0.5  # s of pause that a stretch takes along, and what a short one may take
_FLOOR = -90.0  # dB; quieter is silence
_EDGE = 0.03  # s: speech that begins so soon was cut off by the recording itself
_MANY = 400  # pauses that are looked at


@dataclass(frozen=True)
class Excerpt:
    """A stretch of a recording: `start` and `end` in s, its `level` and its distance to the `noise` in dB, the share of
    samples that are clipped, and the shorter of the pauses around it in s; `score` orders them."""

    start: float
    end: float
    level: float
    noise: float
    clipped: float
    pause: float
    score: float

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.end - self.start

    @property
    def line(self) -> str:
        """All of it in words."""
        return (
            f"{self.start:.2f} to {self.end:.2f} s: level {self.level:.0f} dB, {self.noise:.0f} dB above its noise, "
            f"{self.clipped:.2%} clipped, pauses of {self.pause:.2f} s around it"
        )


def excerpts(samples: Samples, rate: int, where: str = "the recording") -> list[Excerpt]:
    """The stretches of samples [N, channels] that can be used, the best first.

    Raises:
        VoiceError: there is none; says what was measured, and which limit it missed.
    """
    spans = speech(samples, rate)
    length = len(samples) / rate
    spoken = sum(end - start for start, end in spans)
    low, high = SECONDS
    if not spans or length < low:
        said = f"{spoken:.1f} s of speech in {length:.1f} s"
        raise VoiceError(f"{where} has too little speech", found=said, limit=f"{low:g} to {high:g} s", fix=_AGAIN)
    found = [
        one for start, end, pause in _stretches(spans, length) if (one := _measured(samples, rate, start, end, pause))
    ]
    if not found:
        raise VoiceError(
            f"{where} has no stretch of speech between two pauses that is neither too short nor too long",
            found=f"speech from {spans[0][0]:.1f} to {spans[-1][1]:.1f} s, in {len(spans)} pieces",
            limit=f"{low:g} to {high:g} s between pauses of {_PAUSE:g} s",
            fix=_AGAIN,
        )
    good = [one for one in found if one.level >= LOUD_ENOUGH and one.clipped <= CLIPPED and one.noise >= CLEAN]
    if not good:
        best = max(found, key=lambda one: one.score)
        limit = f"level {LOUD_ENOUGH:g} dB, {CLEAN:g} dB above its noise, {CLIPPED:.0%} clipped"
        raise VoiceError(f"{where} is too quiet, too noisy or clipped", found=best.line, limit=limit, fix=_AGAIN)
    return sorted(good, key=lambda one: (-one.score, one.start))


_AGAIN = "record two or three calm sentences, 4 to 8 s each, in a quiet room, with a pause after each"


def speech(samples: Samples, rate: int) -> list[tuple[float, float]]:
    """Where somebody speaks, as (start, end) in s. The threshold lies a third of the way from the quietest tenth of
    all frames to the loudest twentieth, in dB, and at least 6 dB above the former."""
    power = _power(samples, rate)
    if not power.size:
        return []
    quiet, loud = np.percentile(power, [10, 95])
    if loud - quiet < 6:  # all of it is alike: nobody pauses, or nobody speaks
        return [(0.0, len(samples) / rate)] if loud > LOUD_ENOUGH else []
    active = power > quiet + max(6.0, (loud - quiet) / 3)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], active.view(np.int8), [0]])))
    spans: list[tuple[float, float]] = []
    for start, end in zip(edges[::2] * _FRAME, edges[1::2] * _FRAME, strict=True):
        if spans and start - spans[-1][1] < _GAP:
            spans[-1] = spans[-1][0], float(end)
        else:
            spans.append((float(start), float(end)))
    return [(start, min(end, len(samples) / rate)) for start, end in spans if end - start >= _BURST]


def _power(samples: Samples, rate: int) -> npt.NDArray[np.float64]:
    """The level of each frame in dB below full scale, of the channels' mean, without its own mean."""
    mono = samples.mean(axis=1, dtype=np.float64)
    size = max(1, round(rate * _FRAME))
    frames = mono[: len(mono) // size * size].reshape(-1, size)
    found: Any = 10 * np.log10(np.maximum(frames.var(axis=1), 10 ** (_FLOOR / 10)))
    return np.asarray(found)


def _stretches(spans: list[tuple[float, float]], length: float) -> list[tuple[float, float, float]]:
    """(start, end, the shorter pause around) of every run of pieces that lasts as long as it should."""
    low, high = SECONDS
    # What lies before the first word is a pause, unless the recording begins with the word.
    pauses = [(0.0, spans[0][0]), *((one[1], other[0]) for one, other in pairwise(spans)), (spans[-1][1], length)]
    usable = [
        number
        for number, (start, end) in enumerate(pauses)
        if end - start >= (_EDGE if number in (0, len(pauses) - 1) else _PAUSE)
    ][:_MANY]
    found = []
    for index, first in enumerate(usable):
        for last in usable[index + 1 :]:
            start, end = pauses[first][1], pauses[last][0]
            if end - start > high:
                break
            before, after = pauses[first][1] - pauses[first][0], pauses[last][1] - pauses[last][0]
            short = max(0.0, low - (end - start)) / 2
            start -= min(before if first == 0 else before / 2, max(_MARGIN, min(short, _MOST_MARGIN)))
            end += min(after if last == len(pauses) - 1 else after / 2, max(_MARGIN, min(short, _MOST_MARGIN)))
            if low <= end - start <= high:
                found.append((start, end, min(before, after)))
    return found


def _measured(samples: Samples, rate: int, start: float, end: float, pause: float) -> Excerpt | None:
    part = samples[round(start * rate) : round(end * rate)]
    power = _power(part, rate)
    if not power.size or not part.any():
        return None
    level, noise = loudness(part, rate), float(np.percentile(power, 95) - np.percentile(power, 2))
    clipped = clipped_share(part)
    score = min(noise, 45.0) + 30 * min(pause, 0.6) - 2 * abs(end - start - 6.0) - 2000 * clipped + min(level + 30, 0)
    return Excerpt(start, end, level, noise, clipped, pause, float(score))
