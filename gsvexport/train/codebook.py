"""The codebook: k-means over the means that the package's text encoder gives to symbols; no cluster mixes symbols.

Distances are in units of the encoder's own deviation, which is what its noise hides. A symbol is said by as many codes
as it lasts pairs of frames, each of them the same: the encoder's mean is constant over a symbol.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from gsvexport.demo.package import Said
from gsvexport.demo.units import CODES, pairs

_ROUNDS = 12
_LAST = 3  # rounds in which no dead cluster moves any more
_SPARE = 8
_SEED = 0


def learn(ids: Sequence[NDArray[np.int64]], said: Sequence[Said]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Labels of all symbols of a corpus, one after the other [N], and the symbol of each code [CODES].

    How many codes a symbol gets goes by the square root of its scatter; blanks get half as many again.
    """
    every = np.concatenate(ids)
    counts = np.concatenate([pairs(one.lengths) for one in said]).astype(np.float32)
    mean = np.concatenate([one.mean for one in said]).astype(np.float32)
    logs = np.concatenate([one.logs for one in said]).astype(np.float32)
    scaled = mean * np.sqrt(np.average(np.exp(-2 * logs), axis=0, weights=counts)).astype(np.float32)
    kinds = np.unique(every)
    shares = _shares(every, scaled, counts, kinds)
    random = np.random.default_rng(_SEED)
    labels = np.zeros(len(every), np.int64)
    symbols: list[int] = []
    for kind, wanted in zip(kinds, shares, strict=True):
        places = np.flatnonzero(every == kind)
        points, weights = torch.from_numpy(scaled[places]), torch.from_numpy(counts[places])
        labels[places] = len(symbols) + _clusters(points, weights, int(wanted), random).numpy()
        symbols += [int(kind)] * int(wanted)
    return labels, np.array(symbols)


def _shares(
    ids: NDArray[np.int64], scaled: NDArray[np.float32], counts: NDArray[np.float32], kinds: NDArray[np.int64]
) -> NDArray[np.int64]:
    scatter = []
    for kind in kinds:
        points, weights = scaled[ids == kind], counts[ids == kind]
        centre = np.average(points, axis=0, weights=weights)
        scatter.append((weights[:, None] * (points - centre) ** 2).sum())
    share = np.sqrt(np.array(scatter))
    share[kinds == 0] *= 1.5
    shares = np.maximum(1, np.floor(share / share.sum() * (CODES - _SPARE))).astype(np.int64)
    shares = np.minimum(shares, [len(np.unique(scaled[ids == kind], axis=0)) for kind in kinds])
    shares[kinds == 0] += CODES - shares.sum()
    return shares


def _clusters(points: torch.Tensor, weights: torch.Tensor, count: int, random: np.random.Generator) -> torch.Tensor:
    """The cluster of each point, by Lloyd's iterations; an empty cluster moves to one of the worst points."""
    centres = points[torch.from_numpy(random.permutation(len(points))[:count])].clone()
    squares = (points * points).sum(1)
    for number in range(_ROUNDS):
        away = torch.cat([(-2 * part @ centres.T + (centres * centres).sum(1)) for part in torch.split(points, 8192)])
        best, nearest = away.min(1)
        size = torch.zeros(count).index_add_(0, nearest, weights)
        sums = torch.zeros(count, points.shape[1]).index_add_(0, nearest, points * weights[:, None])
        alive = size > 0
        centres[alive] = sums[alive] / size[alive, None]
        if number < _ROUNDS - _LAST and not alive.all():
            worst = ((best + squares) * weights).topk(int((~alive).sum())).indices
            centres[~alive] = points[worst]
    return nearest
