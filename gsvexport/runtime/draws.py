"""Every random number of speech: a counter-based generator that gives the same ones in every language.

Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011) turns a key and a
counter, 64 and 128 bits, into 128 bits. The seed is the key. The counter says what is drawn:

    block · kind (0 a code, 1 noise) · number of the sentence · number of the try         4 × 32 bits

So any number can be had without those before it, and none depends on how a sentence was cut. docs/seeds.md is the
specification, with test vectors.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LARGEST_SEED = (1 << 64) - 1

_CODE, _NOISE = 0, 1
_MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
_STEPS = 0x9E3779B9, 0xBB67AE85  # of the key, from round to round: golden ratio and √3 - 1
_ROUNDS = 10
_LOW = 0xFFFFFFFF

Words = tuple[int, int, int, int]


def philox(counter: Words, key: tuple[int, int]) -> Words:
    """One block: four words of 32 bits."""
    (a, b, c, d), (first, second) = counter, key
    for _ in range(_ROUNDS):
        even, odd = _MULTIPLIERS[0] * a, _MULTIPLIERS[1] * c
        a, b, c, d = (odd >> 32) ^ b ^ first, odd & _LOW, (even >> 32) ^ d ^ second, even & _LOW
        first, second = (first + _STEPS[0]) & _LOW, (second + _STEPS[1]) & _LOW
    return a, b, c, d


class Draws:
    """The random numbers of one sentence, as they are asked for: those of codes and those of noise have nothing to do
    with each other. `attempt` counts from 0 how often the sentence was said again."""

    def __init__(self, seed: int, sentence: int = 0, attempt: int = 0) -> None:
        self._key = int(seed) & _LOW, int(seed) >> 32 & _LOW
        self._sentence, self._attempt = sentence, attempt
        self._codes = self._normals = 0  # how many were drawn

    def uniform(self) -> float:
        """For the next code: at least 0, less than 1, in steps of 2^-53."""
        high, low, _, _ = philox((self._codes & _LOW, _CODE, self._sentence, self._attempt), self._key)
        self._codes += 1
        return float((high << 21 | low >> 11) * 2.0**-53)

    def normal(self, channels: int, frames: int) -> NDArray[np.float32]:
        """The next frames of standard normal noise, [1, channels, frames]; they are drawn frame by frame.

        Box and Muller's transform in float64, rounded to float32. Another mathematical library may give the float32
        beside it.
        """
        first, last = self._normals, self._normals + channels * frames
        self._normals = last
        words = self._blocks(first // 4, -(-last // 4))
        radius = np.sqrt(-2.0 * np.log((words[:, 0::2] + 1.0) * 2.0**-32))
        angle = words[:, 1::2] * (2.0 * np.pi * 2.0**-32)
        pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=2).astype(np.float32)
        found = pairs.ravel()[first % 4 :][: last - first].reshape(frames, channels)
        return np.ascontiguousarray(found.T)[np.newaxis]

    def _blocks(self, start: int, stop: int) -> NDArray[np.uint64]:
        """Blocks [start, stop) of noise, [blocks, 4]; `philox` for many counters at once."""
        low, shift = np.uint64(_LOW), np.uint64(32)
        a = np.arange(start, stop, dtype=np.uint64) & low
        b, c, d = (np.full_like(a, word) for word in (_NOISE, self._sentence, self._attempt))
        first, second = self._key
        for _ in range(_ROUNDS):
            even, odd = a * np.uint64(_MULTIPLIERS[0]), c * np.uint64(_MULTIPLIERS[1])
            a, b = (odd >> shift) ^ b ^ np.uint64(first), odd & low
            c, d = (even >> shift) ^ d ^ np.uint64(second), even & low
            first, second = (first + _STEPS[0]) & _LOW, (second + _STEPS[1]) & _LOW
        return np.stack([a, b, c, d], axis=1)
