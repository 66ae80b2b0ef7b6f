"""Cutting a sequence into windows that together give what the whole sequence gives.

Each window computes some frames that it keeps, and as many before and after them as those depend on. At the sequence's
ends a window stops where the sequence does, because that is where the graph's own padding belongs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


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
