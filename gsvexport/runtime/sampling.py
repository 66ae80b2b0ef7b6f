"""How the next semantic code is chosen from the logits, in upstream's exact order.

Repetition penalty → top-p → temperature → top-k → softmax → a draw. Scores are float32 as upstream's, and only divided
and multiplied. Probabilities are float64 and added up in a fixed order: whoever has the same logits and the same number
draws the same code, in any language (docs/seeds.md). The functions take one row of logits and change nothing they are
given.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gsvexport.errors import InputError
from gsvexport.runtime.draws import LARGEST_SEED, Draws
from gsvexport.runtime.ports import outside

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

_COLDEST = 1e-5  # upstream's floor for the temperature


@dataclass(frozen=True)
class Sampling:
    """How codes are drawn. `greedy` takes the arg-max after the penalty; the EOS rules stay the same.

    The defaults are those of upstream's API; a voice carries its own in `LoadedVoice.sampling`.

    Raises:
        InputError: values out of range, all of them listed.
    """

    top_k: int = 15
    top_p: float = 1.0
    temperature: float = 1.0
    repetition_penalty: float = 1.35
    greedy: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        problems = [
            *outside("top_k", self.top_k, 1, None, integer=True),
            *outside("top_p", self.top_p, 0, 1),
            *outside("temperature", self.temperature, 0, 100),
            *outside("repetition_penalty", self.repetition_penalty, 0.01, 100),
            *outside("seed", self.seed, 0, LARGEST_SEED, integer=True),
        ]
        if not isinstance(self.greedy, (bool, np.bool_)):
            problems.append(f"greedy is {self.greedy!r}; it must be True or False")
        if problems:
            raise InputError("these sampling settings cannot be used", problems=problems)

    def draws(self) -> Draws:
        """The random numbers of `seed`: those of the first sentence of a text that is spoken with it."""
        return Draws(self.seed)


def penalise(logits: Floats, previous: Ints, penalty: float) -> Floats:
    """Logits [V] with every code that occurs in `previous` [n] made less likely, once however often it occurs.

    A negative score is multiplied by `penalty`, any other divided. The prompt belongs to `previous`.
    """
    scores = logits[previous]
    result = logits.copy()
    result[previous] = np.where(scores < 0, scores * np.float32(penalty), scores / np.float32(penalty))
    return result


def probabilities(logits: Floats, previous: Ints, sampling: Sampling) -> Floats:
    """What one code is drawn from: float32 [V] that sums to 1, zero where top-p or top-k dropped a code."""
    weights = _weights(_filtered(penalise(logits, previous, sampling.repetition_penalty), sampling))
    return np.asarray(weights / weights.sum(), np.float32)


def choose(
    logits: Floats, previous: Ints, sampling: Sampling, draws: Draws, *, forbidden: int | None = None
) -> tuple[int, int]:
    """Draw one code from logits [V]; returns (the code, the most likely code after the penalty).

    Upstream stops when either of the two is EOS. `forbidden` is a column that is cut off beforehand. A draw takes one
    number from `draws`, a greedy choice none.
    """
    if forbidden is not None:
        logits = logits.copy()
        logits[forbidden] = -np.inf
    scores = penalise(logits, previous, sampling.repetition_penalty)
    best = int(np.argmax(scores))
    if sampling.greedy:
        return best, best
    scores = _filtered(scores, sampling)
    kept = np.flatnonzero(scores > -np.inf)
    sums = np.cumsum(_weights(scores[kept]))
    place = np.searchsorted(sums, draws.uniform() * sums[-1], side="right")
    return int(kept[min(int(place), kept.size - 1)]), best  # the product may round up to the whole sum


def _filtered(scores: Floats, sampling: Sampling) -> Floats:
    """Top-p, temperature and top-k on penalised scores [V]: what they drop becomes -inf."""
    if sampling.top_p < 1:
        order = np.argsort(-scores, kind="stable")
        sums = np.cumsum(_weights(scores[order]))
        drop = sums > sampling.top_p * sums[-1]  # the code that crosses the limit goes too, unlike elsewhere
        drop[0] = False
        scores = scores.copy()
        scores[order[drop]] = -np.inf
    scores = scores / np.float32(max(sampling.temperature, _COLDEST))
    if sampling.top_k < len(scores):
        limit = np.partition(scores, -sampling.top_k)[-sampling.top_k]
        scores = np.where(scores < limit, np.float32(-np.inf), scores)
    return scores


def _weights(scores: Floats) -> NDArray[np.float64]:
    """What softmax would divide by their sum."""
    return np.asarray(np.exp(scores.astype(np.float64) - np.float64(scores.max())))
