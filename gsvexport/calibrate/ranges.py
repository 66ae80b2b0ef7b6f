"""Ranges of tensors for 8-bit integers: what a stream of arrays spans, and how much of it is worth keeping.

Every estimator works on a histogram of about 1024 to 2048 bins whose width is a power of two and whose edges are
multiples of it. The width only grows, by merging neighbours, so the result depends on the values alone: neither on
their order nor on how they were cut into arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsvexport.errors import BackendError, InputError
from gsvexport.runtime.ports import outside

Range = tuple[float, float]

BINS = 2048
LEVELS = 256  # of an 8-bit integer
_FINEST = -126  # the exponent of the smallest normal float32
_BLOCK = 1 << 16  # values counted at once: what stays in a processor's cache
_DIGITS = 30  # of a bin's number, in bits
_KINDS = ("minmax", "percentile", "mse", "entropy")


@dataclass(frozen=True)
class Estimator:
    """How a range is chosen from a tensor's values; all of them keep zero, as uint8 with a zero point must.

    "minmax" keeps everything. "percentile" keeps the middle `percentile` %, half of the rest is cut off at each end (to
    within a bin). "mse" takes the range that makes the mean squared error of rounding and clipping smallest, "entropy"
    the one whose quantised distribution says most about the original (smallest Kullback-Leibler divergence, as Migacz,
    "8-bit inference with TensorRT", 2017, but asymmetric). These two try `grid` cuts at each end, down to a
    `grid`-th of it.

    Raises:
        InputError: no such kind, or numbers out of range.
    """

    kind: str = "percentile"
    percentile: float = 99.99
    grid: int = 32

    def __post_init__(self) -> None:
        problems = [] if self.kind in _KINDS else [f"kind is {self.kind!r}; it must be one of {', '.join(_KINDS)}"]
        problems += outside("percentile", self.percentile, 50, 100)
        problems += outside("grid", self.grid, 2, 256, integer=True)
        if problems:
            raise InputError("this range estimator cannot be used", problems=problems)

    def estimate(self, histogram: Histogram) -> Range:
        """(low, high), both exact in float32, with low ≤ 0 ≤ high."""
        low, high = {
            "minmax": lambda: (histogram.low, histogram.high),
            "percentile": lambda: _percentile(histogram, self.percentile),
            "mse": lambda: _search(histogram, self.grid, _squared_error),
            "entropy": lambda: _search(histogram, self.grid, _divergence),
        }[self.kind]()
        return min(float(np.float32(low)), 0.0), max(float(np.float32(high)), 0.0)


@dataclass(eq=False)
class Histogram:
    """A growing histogram. Bin i holds the values in [(first + i)·2^exponent, (first + i + 1)·2^exponent)."""

    low: float = math.inf
    high: float = -math.inf
    exponent: int = _FINEST
    first: int = 0
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def add(self, array: NDArray[Any], *, bins: bool = True) -> None:
        """Count an array's values; without `bins` only the extremes are kept.

        Raises:
            BackendError: NaN or infinite values.
        """
        values = np.asarray(array, np.float32).ravel()
        if not values.size:
            return
        low, high = float(values.min()), float(values.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise BackendError("values are NaN or infinite", fix="verify the source; its weights may be damaged")
        self.low, self.high = min(self.low, low), max(self.high, high)
        if bins:
            self._fit()
            # Exact: a power of two times a float32 is a float32, and so is its floor.
            factor = np.float32(math.ldexp(1, -self.exponent))
            for start in range(0, values.size, _BLOCK):
                places = np.floor(values[start : start + _BLOCK] * factor).astype(np.int64)
                places -= self.first
                self.counts += np.bincount(places, minlength=self.counts.size)

    @property
    def edges(self) -> NDArray[np.float64]:
        """The borders of all bins, one more than there are."""
        return np.ldexp((self.first + np.arange(self.counts.size + 1)).astype(np.float64), self.exponent)

    @property
    def centres(self) -> NDArray[np.float64]:
        """The middle of each bin, the outermost ones no further out than the extremes."""
        edges = self.edges
        return np.clip((edges[:-1] + edges[1:]) / 2, self.low, self.high)

    def _fit(self) -> None:
        """Widen the bins until they hold the extremes, as few times as possible."""
        exponent, span, peak = self.exponent, self.high - self.low, max(-self.low, self.high)
        if peak > 0:  # far from zero float32 is coarse: finer bins would be empty, and their numbers too large
            exponent = max(exponent, math.frexp(peak)[1] - _DIGITS)
        if span > 0:  # a first guess that is never too coarse
            exponent = max(exponent, math.floor(math.log2(span / BINS)) - 1)
        while _bin(self.high, exponent) - _bin(self.low, exponent) >= BINS:
            exponent += 1
        first, last = _bin(self.low, exponent), _bin(self.high, exponent)
        counts = np.zeros(last - first + 1, np.int64)
        if self.counts.size:
            old = self.first + np.arange(self.counts.size)
            np.add.at(counts, (old >> (exponent - self.exponent)) - first, self.counts)
        self.exponent, self.first, self.counts = exponent, first, counts


class Observer:
    """Ranges of named tensors over a stream of arrays."""

    def __init__(self, estimator: Estimator) -> None:
        self._estimator = estimator
        self._histograms: dict[str, Histogram] = {}

    def add(self, name: str, array: NDArray[Any]) -> None:
        """Count one array of a tensor.

        Raises:
            BackendError: NaN or infinite values; names the tensor.
        """
        try:
            self._histograms.setdefault(name, Histogram()).add(array, bins=self._estimator.kind != "minmax")
        except BackendError as error:
            raise BackendError(f"tensor {name}: {error.what}", found=list(array.shape), fix=error.fix) from None

    def ranges(self) -> dict[str, Range]:
        """The range of each tensor that had values, by name."""
        return {name: self._estimator.estimate(one) for name, one in self._histograms.items() if one.low <= one.high}


def _bin(value: float, exponent: int) -> int:
    return math.floor(math.ldexp(value, -exponent))


def _percentile(histogram: Histogram, percentile: float) -> Range:
    cumulative = np.cumsum(histogram.counts)
    outside_each = cumulative[-1] * (100 - percentile) / 200
    edges = histogram.edges
    # The first bin with more than that many values up to it, and the last one with more from it on.
    low = int(np.searchsorted(cumulative, outside_each, side="right"))
    high = int(np.searchsorted(cumulative, cumulative[-1] - outside_each, side="left"))
    return max(edges[low], histogram.low), min(edges[high + 1], histogram.high)


def _search(histogram: Histogram, grid: int, loss: Callable[..., float]) -> Range:
    """The range with the smallest loss among all cuts of both ends; of equals the widest."""
    lows = _cuts(histogram.low, grid)
    highs = _cuts(histogram.high, grid, up=True)
    used = np.flatnonzero(histogram.counts)
    centres, counts = histogram.centres[used], histogram.counts[used].astype(np.float64)
    best = min((loss(centres, counts, *_affine(low, high)), -(high - low), low, high) for low in lows for high in highs)
    return best[2], best[3]


def _cuts(end: float, grid: int, *, up: bool = False) -> list[float]:
    """The candidates for one end: `grid` equal parts of it; just zero where nothing lies on that side of zero."""
    if (end <= 0) if up else (end >= 0):
        return [0.0]
    return [end * part / grid for part in range(grid, 0, -1)]


def _affine(low: float, high: float) -> tuple[float, int]:
    # The quantiser that the ranges are for; a compiler's module, which not everything that imports this one needs.
    from gsvexport.passes.quantise_conv import affine

    return affine(low, high)


def _squared_error(centres: NDArray[Any], counts: NDArray[Any], scale: float, zero: int) -> float:
    # In place: this runs a thousand times for each tensor.
    levels = centres / scale
    np.rint(levels, out=levels)
    np.minimum(levels, LEVELS - 1 - zero, out=levels)
    np.maximum(levels, -zero, out=levels)
    levels *= scale
    np.subtract(centres, levels, out=levels)
    levels *= levels
    levels *= counts
    return float(levels.sum() / counts.sum())


def _divergence(centres: NDArray[Any], counts: NDArray[Any], scale: float, zero: int) -> float:
    """KL(P ‖ Q) in nats: P the distribution with what is cut off moved to the ends, Q each level's share of P's
    values, spread evenly over the bins that the level stands for. Bins beyond the ends have no part in Q, so that they
    cost what they held."""
    inside = (centres >= (0 - zero - 0.5) * scale) & (centres <= (LEVELS - 1 - zero + 0.5) * scale)
    if not inside.any():
        return math.inf
    levels = np.clip(np.rint(centres / scale) + zero, 0, LEVELS - 1).astype(np.int64)
    kept, where = counts[inside], levels[inside]
    reference = kept.copy()
    reference[0] += counts[: int(np.argmax(inside))].sum()
    reference[-1] += counts[len(inside) - int(np.argmax(inside[::-1])) :].sum()
    mass, bins = np.bincount(where, kept, LEVELS), np.bincount(where, minlength=LEVELS)
    p, q = reference / reference.sum(), (mass / np.maximum(bins, 1))[where] / kept.sum()
    return float((p * np.log(p / q)).sum())


Ranges = Mapping[str, Range]
