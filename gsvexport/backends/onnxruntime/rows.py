"""Several sentences in one step: the graph of `passes/fuse_attention.py` with as many rows as there are sentences.

Each layer has one buffer [rows, H, C, D/H] for all sentences, bound once for each number of rows. Sentences take its
first rows; where one leaves, the last one moves into its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsvexport.backends.onnxruntime.graph import OnnxRuntimeSession
from gsvexport.errors import BackendError

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Graph = Callable[[Mapping[str, NDArray[Any]]], dict[str, NDArray[Any]]]  # the graph's own ports, by name

_SPARE = 256  # places by which the caches grow: 10 s of speech
_PROBE = 8  # places of the caches on which rows are compared


class InPlaceRows:
    """See `gsvexport.runtime.side_by_side.Rows`."""

    def __init__(self, prefill: Graph, step: OnnxRuntimeSession, most: int) -> None:
        self.most = most
        self._prefill, self._step = prefill, step
        self._count = 0
        self._tokens = np.zeros((most, 1), np.int64)
        self._positions = np.zeros(most, np.int64)
        self._cached = np.zeros(most, np.int32)
        self._logits = np.zeros((most, int(step.shape("logits", output=True)[1])), np.float32)
        self._cache: dict[str, Floats] = {}
        self._bound: dict[int, Any] = {}  # by the number of rows

    def enter(self, phones: Ints, bert: Floats, prompt: Ints) -> Floats:
        """See `Rows`."""
        return self.enter_read(self.read(phones, bert, prompt))

    def read(self, phones: Ints, bert: Floats, prompt: Ints) -> dict[str, NDArray[Any]]:
        """See `ReadsAhead`."""
        return self._prefill({"phones": phones, "bert": bert, "prompt": prompt})

    def enter_read(self, read: Mapping[str, NDArray[Any]]) -> Floats:
        """See `ReadsAhead`."""
        if self._count == self.most:
            raise BackendError(f"{self.most} sentences are being written", fix="let one leave first")
        out = dict(read)
        logits: Floats = out.pop("logits")[0]
        places = next(iter(out.values())).shape[2]
        self._make_room(places + 1, out)
        for name, found in out.items():
            self._cache[name.removeprefix("new_")][self._count, :, :places] = found[0]
        self._cached[self._count] = places
        self._count += 1
        return logits

    def step(self, tokens: Sequence[int], positions: Sequence[int]) -> Floats:
        """See `Rows`."""
        count = self._count
        if not count or len(tokens) != count:
            raise BackendError(f"{len(tokens)} codes for {count} sentences", fix="pass one for each that has entered")
        self._make_room(int(self._cached[:count].max()) + 1)
        self._tokens[:count, 0], self._positions[:count] = tokens, positions
        if count not in self._bound:
            self._bound[count] = self._bind(count)
        self._step.run_bound(self._bound[count])
        self._cached[:count] += 1
        return self._logits[:count].copy()

    def leave(self, row: int) -> None:
        """See `Rows`."""
        last = self._count - 1
        if row != last:
            places = self._cached[row] = self._cached[last]
            for buffer in self._cache.values():
                buffer[row, :, :places] = buffer[last, :, :places]
        self._count = last
        if not last:  # long sentences are over, and so is the memory that they took
            self._cache, self._bound = {}, {}

    def _make_room(self, places: int, like: dict[str, Floats] | None = None) -> None:
        """Caches for so many places. One layer after the other, so that little is held twice."""
        if self._cache and places <= next(iter(self._cache.values())).shape[2]:
            return
        self._bound.clear()
        if not self._cache:
            assert like is not None
            self._cache = {
                name.removeprefix("new_"): np.empty((0, *found.shape[1:]), np.float32) for name, found in like.items()
            }
        for name, old in self._cache.items():
            _, heads, held, width = old.shape
            # Zeros take no memory before a sentence writes there.
            buffer = np.zeros((self.most, heads, places + _SPARE, width), np.float32)
            buffer[: self._count, :, :held] = old[: self._count]
            self._cache[name] = buffer

    def _bind(self, count: int) -> Any:
        inputs: dict[str, NDArray[Any]] = {
            "token": self._tokens[:count],
            "position": self._positions[:count],
            "cached": self._cached[:count],
        }
        outputs: dict[str, NDArray[Any]] = {"logits": self._logits[:count]}
        for name, buffer in self._cache.items():
            inputs[name] = outputs[f"new_{name}"] = buffer[:count]
        return self._step.bind(inputs, outputs)


def independent(step: OnnxRuntimeSession, graph: Graph, caches: Sequence[str], most: int) -> bool:
    """Whether this processor's kernels give each row, of 2 to `most` of them, the very bits that it gets alone.

    A kernel may take rows in pairs and add up in another order than for a single one. The last bits then differ, and
    after a few hundred codes so would the codes.
    """
    random = np.random.Generator(np.random.PCG64(0))
    feeds: dict[str, NDArray[Any]] = {
        "token": random.integers(0, int(step.shape("logits", output=True)[1]) - 1, (most, 1)),
        "position": np.arange(most),
        "cached": (np.arange(most, dtype=np.int32) % (_PROBE - 1)) + 1,
    }
    for name in caches:
        _, heads, _, width = step.shape(name)
        feeds[name] = random.standard_normal((most, int(heads), _PROBE, int(width)), dtype=np.float32)

    def first(start: int, stop: int) -> dict[str, NDArray[Any]]:
        return graph({name: np.ascontiguousarray(array[start:stop]) for name, array in feeds.items()})

    alone = [first(row, row + 1) for row in range(most)]
    for count in range(2, most + 1):
        together = first(0, count)
        for name, found in together.items():
            if any(not np.array_equal(found[row], alone[row][name][0]) for row in range(count)):
                return False
    return True
