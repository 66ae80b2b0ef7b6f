"""Cutting a sequence into windows that together give what the whole sequence gives.

Each window computes some frames that it keeps, and as many before and after them as those depend on. At the sequence's
ends a window stops where the sequence does, because that is where the graph's own padding belongs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Window:
    """Frames [start, stop) go in; of what comes out, frames [first, last) are kept."""

    start: int
    stop: int
    first: int
    last: int


def windows(frames: int, keep: int, left: int, right: int) -> Iterator[Window]:
    """Windows that keep `keep` frames each (the last one what is left), in order; `left` and `right` frames are looked
    at before and after them."""
    for first in range(0, frames, keep):
        last = min(first + keep, frames)
        yield Window(max(0, first - left), min(frames, last + right), first, last)


def sliding(
    parts: Iterable[tuple[NDArray[Any], bool]], left: int, right: int
) -> Iterator[tuple[NDArray[Any], int, int | None]]:
    """Windows over frames [1, C, f] that come in parts, each with whether it is the last.

    A window comes with the first frame of it that is kept, and where what is kept ends (None: with the window). No more
    is held than a window looks at.
    """
    held: NDArray[Any] | None = None
    first = 0  # frame of `held` where what is still to be kept begins
    for part, ends in parts:
        held = part if held is None else np.concatenate([held, part], axis=2)
        ready = held.shape[2] - right
        if ends:
            yield held, first, None
        elif ready > first:
            yield held, first, ready
            gone = max(0, ready - left)
            held, first = held[:, :, gone:], ready - gone
