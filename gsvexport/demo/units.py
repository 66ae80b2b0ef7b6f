"""The codes of the real demo voice: which symbol of the package each says, and the prior that it stands for.

A code is a cluster of occurrences of one symbol. Which occurrences, of a few hundred texts, travels with this project
as whole numbers; what the package's text encoder says about them is computed where the package is. So the codes are
those that the GPT was trained with, and no weight of the package travels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CODES = 512


def pairs(lengths: NDArray[np.float32]) -> NDArray[np.int64]:
    """Codes of symbols [S] of these lengths in frames: two frames a code, an odd frame goes, one code at least."""
    return np.maximum(1, np.ceil(np.ceil(lengths) / 2 - 0.5)).astype(np.int64)


@dataclass(frozen=True)
class Codebook:
    """Of K codes the symbol [K], mean and log deviation [K, 192]; `weight` [192] scales distances between means."""

    symbols: NDArray[np.int64]
    mean: NDArray[np.float32]
    logs: NDArray[np.float32]
    weight: NDArray[np.float32]

    def codes(self, ids: NDArray[np.int64], mean: NDArray[np.float32]) -> NDArray[np.int64]:
        """The code of each symbol [S] with its mean [S, 192]: the nearest one of that symbol's.

        A symbol that has no code, because the codebook's texts do not hold it, is said by a blank's.
        """
        found = np.zeros(len(ids), np.int64)
        scaled = mean * self.weight
        for symbol in np.unique(ids):
            rows = np.flatnonzero(self.symbols == symbol)
            rows = rows if rows.size else np.flatnonzero(self.symbols == 0)
            centres = self.mean[rows] * self.weight
            here = ids == symbol
            away = (centres * centres).sum(1) - 2 * scaled[here] @ centres.T
            found[here] = rows[away.argmin(1)]
        return found


def codebook(
    labels: NDArray[np.int64],
    symbols: NDArray[np.int64],
    mean: NDArray[np.float32],
    logs: NDArray[np.float32],
    lengths: NDArray[np.float32],
) -> Codebook:
    """The codebook of labelled occurrences: labels [N], their priors [N, 192] twice and lengths [N]; symbols [K].

    A code's prior is the mean over its occurrences, each as heavy as the codes that it lasts.
    """
    counts = pairs(lengths).astype(np.float64)
    size = np.bincount(labels, counts, len(symbols))
    means, deviations = np.zeros((2, len(symbols), mean.shape[1]))
    np.add.at(means, labels, mean * counts[:, None])
    np.add.at(deviations, labels, logs * counts[:, None])
    heavy = np.maximum(size, 1e-9)[:, None]
    weight = np.sqrt((np.exp(-2 * logs.astype(np.float64)) * counts[:, None]).sum(0) / counts.sum())
    mean, logs = ((array / heavy).astype(np.float32) for array in (means, deviations))
    return Codebook(symbols, mean, logs, weight.astype(np.float32))
