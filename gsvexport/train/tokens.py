"""Token numbers: which (label, place, cycles) a code of the codebook stands for, and the codebook itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gsvexport.train.grid import LABELS, MOST_CYCLES, PLACES
from gsvexport.train.shape import SOVITS

Key = tuple[int, int, int]

_PARTS = (384, 192, 192)  # of a codebook row, for label, place and cycles
_SEED = 3


@dataclass(frozen=True)
class Vocabulary:
    """`keys` in the order of their codes, [n, 3]; codes from n on are never used."""

    keys: NDArray[np.int64]

    def codes(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """The codes [T] of keys [T, 3]; one that has no code gets that of the nearest with the same phone.

        Raises:
            ValueError: a phone that no code has.
        """
        known = {_key(row): code for code, row in enumerate(self.keys)}
        return np.array([known[key] if (key := _key(row)) in known else self._nearest(key) for row in keys], np.int64)

    def labels(self, codes: NDArray[np.int64]) -> NDArray[np.int64]:
        """The labels [T, 2] of codes [T]: label and place. A code that is not used has label −1."""
        inside = codes < len(self.keys)
        return np.where(inside[:, None], self.keys[np.minimum(codes, len(self.keys) - 1), :2], -1)

    def codebook(self) -> NDArray[np.float32]:
        """Rows of ±1 [1024, 768], one random pattern for each label, place and number of cycles; unused rows are 0."""
        label, place, cycles = (self.keys.max(axis=0) + 1).tolist()
        patterns = _patterns((label, place, cycles))
        rows = np.zeros((SOVITS.codes, SOVITS.ssl), np.float32)
        rows[: len(self.keys)] = np.concatenate(
            [pattern[self.keys[:, part]] for part, pattern in enumerate(patterns)], axis=1
        )
        return rows

    def _nearest(self, key: Key) -> int:
        name = LABELS[key[0]]
        for labels in ([name], [name[:-1] + "0", name[:-1] + "1"]):  # a vowel may be known with the other stress only
            same = np.flatnonzero(np.isin(self.keys[:, 0], [LABELS.index(one) for one in labels if one in LABELS]))
            if same.size:
                break
        else:
            raise ValueError(f"no code stands for {name}")
        away = np.abs(self.keys[same, 1:] - key[1:]) @ [2, 1]
        return int(same[away.argmin()])


def of_codebook(rows: NDArray[np.float32]) -> Vocabulary:
    """The vocabulary that has this codebook [1024, 768]; it has to know every label, place and number of cycles.

    Raises:
        ValueError: no such vocabulary has.
    """
    used = rows[rows.any(axis=1)]
    pieces = np.split(used, np.cumsum(_PARTS)[:-1], axis=1)
    patterns = _patterns((len(LABELS), PLACES, MOST_CYCLES + 1))
    keys = [(piece @ pattern.T).argmax(axis=1) for piece, pattern in zip(pieces, patterns, strict=True)]
    known = Vocabulary(np.stack(keys, axis=1))
    if not np.array_equal(known.codebook(), rows):
        raise ValueError("no vocabulary has this codebook")
    return known


def _patterns(counts: tuple[int, int, int]) -> list[NDArray[np.float64]]:
    """Random ±1 for so many labels, places and cycles."""
    random = np.random.default_rng(_SEED)
    return [random.choice([-1.0, 1.0], (count, width)) for count, width in zip(counts, _PARTS, strict=True)]


def vocabulary(found: Iterable[NDArray[np.int64]], rarest: int = 5) -> Vocabulary:
    """The keys [T, 3] of a corpus that occur at least `rarest` times, and for each label the commonest one."""
    counts = Counter(_key(row) for keys in found for row in keys)
    common = [key for key, count in counts.most_common() if count >= rarest][: SOVITS.codes]
    labels = {key[0] for key in common}
    for key, _ in counts.most_common():
        if key[0] not in labels:
            labels.add(key[0])
            common.append(key)
    return Vocabulary(np.array(sorted(common[-SOVITS.codes :]), np.int64))


def _key(row: NDArray[np.int64]) -> Key:
    label, place, cycles = (int(value) for value in row)
    return label, place, cycles
