"""Speech while its codes are still being written.

The acoustic stage looks at every code of a sentence, so its latent is exact only once the last one is there. Here it
runs on the codes so far: on a window of them, of whose latent a few frames are kept, those that have `ahead` codes
after them. Where two windows meet they are blended, frame by frame, and both had the same noise. The vocoder follows
with windows of its own, which are exact (see `windows.py`). A window costs what it holds, so the first sound and the
memory do not grow with the sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from gsvexport.runtime.draws import Draws
from gsvexport.runtime.ports import Array
from gsvexport.stages import FRAMES_PER_CODE

AHEAD = 8  # codes: how many more add little to the sound, see docs/streaming.md
MOST_AHEAD = 1000  # codes: 40 s
BEHIND = 50  # codes before a window's own that it looks at, too: 2 s at 25 a second
_BLEND = 4  # frames over which two windows are blended
_FIRST = 5  # codes of the first piece; each has twice as many as the one before, up to those of a window

Latent = Callable[[Array, int], Array]  # codes [n] that begin at a code of the sentence → latent [1, C, 2n]


@dataclass(frozen=True)
class Pace:
    """How a sentence is cut: `keep` codes a window, which have `ahead` codes after them."""

    keep: int
    ahead: int  # at least one


def latents_of(codes: Iterator[int], latent: Latent, pace: Pace) -> Iterator[tuple[Array, bool]]:
    """Latent [1, C, f] of a sentence piece by piece, together 2 frames for each code; and whether it is the last piece.

    A piece comes as soon as the codes that it needs are there; the last one holds all that is left.
    """
    written: list[int] = []
    done = 0  # codes whose latent was handed on
    keep, tail = min(_FIRST, pace.keep), None
    for code in codes:
        written.append(code)
        if len(written) < done + keep + pace.ahead:
            continue
        piece, tail = _piece(written, done, done + keep, latent, tail)
        yield piece, False
        done += keep
        keep = min(2 * keep, pace.keep)
    if written:  # at least the codes that the last window looked ahead at
        yield _piece(written, done, len(written), latent, tail)[0], True


def _piece(written: list[int], first: int, last: int, latent: Latent, tail: Array | None) -> tuple[Array, Array | None]:
    """The latent of codes [first, last), blended with `tail`, what the window before thought of its beginning; and what
    this one thinks of the codes after."""
    start = max(0, first - BEHIND)
    found = latent(np.array(written[start:], np.int64), start)
    low, high = (FRAMES_PER_CODE * (code - start) for code in (first, last))
    kept = found[:, :, low:high].copy()
    if tail is not None:
        count = min(tail.shape[2], kept.shape[2])
        share = (np.arange(count, dtype=np.float32) + 1) / np.float32(count + 1)
        kept[:, :, :count] = tail[:, :, :count] * (1 - share) + kept[:, :, :count] * share
    beyond = found[:, :, high : high + _BLEND].copy()
    return kept, beyond if beyond.shape[2] else None


class Noise:
    """Standard normal noise [1, C, n] by frame: a frame has the same in every window that holds it, and the same as in
    a sentence that is spoken as a whole."""

    def __init__(self, channels: int, draws: Draws) -> None:
        self._channels, self._draws = channels, draws
        self._held: Array = np.empty((1, channels, 0), np.float32)
        self._first = 0

    def __call__(self, start: int, stop: int) -> Array:
        """Frames [start, stop); what lies before `start` is forgotten."""
        more = self._draws.normal(self._channels, max(0, stop - self._first - self._held.shape[2]))
        self._held = np.concatenate([self._held, more], axis=2)[:, :, start - self._first :]
        self._first = start
        return self._held[:, :, : stop - start]
