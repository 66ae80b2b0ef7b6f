"""`cfm` whose graph takes back what the steps of a sentence have in common (`passes/once_a_sentence.py`)."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsvexport.backends.onnxruntime.graph import OnnxRuntimeSession

Array = NDArray[Any]

_SENTENCES = 4  # whose `known` is kept, of 2 MB each: a guided step has two, and threads may share a voice
_TIMES = 64  # of steps, of 0.6 MB each: upstream's largest number of steps is 32
_PER_SENTENCE, _PER_STEP = ("fea", "prompt_mel"), ("time", "span")


class MatchingStep(OnnxRuntimeSession):
    """`cfm` that computes once what depends on sentence or time alone. It answers to the stage table's ports; threads
    may share it."""

    def __init__(self, path: Path, session: Any) -> None:
        super().__init__(path, session)
        self._known = _Kept("known", _PER_SENTENCE, _SENTENCES, self)
        self._moment = _Kept("moment", _PER_STEP, _TIMES, self)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The stage's own ports; see `gsvexport.backends.Session`."""
        held = [(kept, kept.find(feeds)) for kept in (self._known, self._moment)]
        given = {kept.name: kept.none if value is None else value for kept, value in held}
        new = [kept for kept, value in held if value is None]
        out = self.some({**feeds, **given}, ["velocity", *(f"new_{kept.name}" for kept in new)])
        for kept in new:
            kept.keep(feeds, out[f"new_{kept.name}"])
        return {"velocity": out["velocity"]}


class _Kept:
    """Values of one port by the arrays that they follow from, the latest `most` of them. Arrays are compared, not
    remembered by identity: a caller may write into his own."""

    def __init__(self, name: str, sources: tuple[str, ...], most: int, session: OnnxRuntimeSession) -> None:
        self.name, self._sources, self._most = name, sources, most
        self.none = np.zeros((1, 0, int(session.shape(name)[2])), np.float32)
        self._held: OrderedDict[bytes, Array] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, feeds: Mapping[str, Array]) -> Array | None:
        """What was kept for the same arrays."""
        key = self._key(feeds)
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
            return self._held.get(key)

    def keep(self, feeds: Mapping[str, Array], value: Array) -> None:
        """Keep it, and let the oldest go."""
        with self._lock:
            self._held[self._key(feeds)] = value
            while len(self._held) > self._most:
                self._held.popitem(last=False)

    def _key(self, feeds: Mapping[str, Array]) -> bytes:
        """1 ms for ten seconds of features, where computing what they lead to takes a hundred times as long."""
        found = hashlib.sha256()
        for name in self._sources:
            array = np.ascontiguousarray(feeds[name])
            found.update(repr(array.shape).encode())
            found.update(array.data)
        return found.digest()
