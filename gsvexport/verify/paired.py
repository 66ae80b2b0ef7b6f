"""Paired differences between two voices, with intervals: what changed, in the mean over utterances."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLINGS = 4000
_SEED = 20240117
TAIL = 2.5  # per cent on each side


@dataclass(frozen=True)
class Estimate:
    """A mean difference and the bounds of its 95 % interval, over `n` pairs."""

    value: float
    low: float
    high: float
    n: int


def estimate(
    differences: Sequence[float],
    weights: Sequence[float] | None = None,
    clusters: Sequence[int] | None = None,
    *,
    tail: float = TAIL,
) -> Estimate:
    """Σ d / Σ w over the pairs (w = 1: the mean), with a percentile bootstrap that draws whole clusters.

    Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 13 and 8: `clusters` names for each pair what
    it shares with others (its sentence: two seeds of one sentence fail together more often than two sentences), so that
    more seeds are not taken for more sentences. Without it every pair is a cluster. `tail` is what lies beyond each
    bound, in per cent. The draws are always the same, so equal differences give equal intervals. Everything is NaN when
    a difference is, or when there is none.
    """
    d = np.asarray(differences, np.float64)
    w = np.ones(len(d)) if weights is None else np.asarray(weights, np.float64)
    if not d.size or not w.sum():
        return Estimate(math.nan, math.nan, math.nan, 0)
    value, pairs = float(d.sum() / w.sum()), len(d)
    if clusters is not None:
        place = np.unique(np.asarray(clusters), return_inverse=True)[1]
        d, w = (np.bincount(place, one).astype(np.float64) for one in (d, w))
    drawn = np.random.Generator(np.random.PCG64(_SEED)).integers(len(d), size=(RESAMPLINGS, len(d)))
    low, high = np.percentile(d[drawn].sum(axis=1) / np.maximum(w[drawn].sum(axis=1), 1e-12), (tail, 100.0 - tail))
    return Estimate(value, float(low), float(high), pairs)


def as_ratio(logarithms: Estimate) -> Estimate:
    """From a mean log ratio to "longer / shorter", at least 1: what is twice and what is half as long are both 2."""
    bounds = sorted((abs(logarithms.low), abs(logarithms.high)))
    nearest = 0.0 if logarithms.low <= 0.0 <= logarithms.high else bounds[0]
    return Estimate(math.exp(abs(logarithms.value)), math.exp(nearest), math.exp(bounds[1]), logarithms.n)


def crossed(table: Sequence[Sequence[float]] | NDArray[np.float64]) -> Estimate:
    """Mean of a table [raters, items], NaN where nothing was rated, with a percentile bootstrap that draws both raters
    and items.

    Owen, The pigeonhole bootstrap, Annals of Applied Statistics 1(2), 2007: people and sentences are both drawn from
    many, so an interval over ratings alone would be far too narrow. `n` counts the ratings.
    """
    values = np.asarray(table, np.float64)
    known = ~np.isnan(values)
    if not known.any():
        return Estimate(math.nan, math.nan, math.nan, 0)
    filled, random = np.where(known, values, 0.0), np.random.Generator(np.random.PCG64(_SEED))
    rows, items = (
        np.stack([np.bincount(draw, minlength=count) for draw in random.integers(count, size=(RESAMPLINGS, count))])
        for count in values.shape
    )
    total, count = (np.einsum("kr,ri,ki->k", rows, one, items, optimize=True) for one in (filled, known.astype(float)))
    drawn = total[count > 0] / count[count > 0]
    low, high = np.percentile(drawn, (TAIL, 100.0 - TAIL))
    return Estimate(float(filled.sum() / known.sum()), float(low), float(high), int(known.sum()))
