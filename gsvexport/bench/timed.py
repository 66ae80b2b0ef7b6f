"""A loaded voice that notes when each of its stages begins and ends, and speaks the codes that it is told to."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gsvexport.artifact.container import read_manifest
from gsvexport.artifact.manifest import MANIFEST
from gsvexport.backends import Session
from gsvexport.runtime.pipeline import LoadedVoice
from gsvexport.runtime.ports import Array
from gsvexport.runtime.sampling import Floats, Ints
from gsvexport.runtime.side_by_side import Rows, new_rows
from gsvexport.runtime.tokens import Decoder, new_decoder
from gsvexport.stages import speaking

_CERTAIN = np.float32(1e4)  # a score that no penalty brings near the others' 0


class TimedVoice(LoadedVoice):
    """The voice in `folder` with every stage that speaks opened.

    `calls` has (stage, begin, end) of each call into a stage, in seconds of one clock; `forced` [n] are the codes of
    the next sentence.
    """

    def __init__(self, folder: Path, threads: int) -> None:
        backends = {}
        if (folder / MANIFEST).is_file():
            backends = {name: entry.backend for name, entry in read_manifest(folder).stages.items()}
        super().__init__(folder, backends=backends, threads=threads, decoder=self._timed)
        self.calls: list[tuple[str, float, float]] = []
        self.forced: Ints = np.empty(0, np.int64)
        for stage in speaking(self.model.version):
            self._session(stage)

    def run(self, stage: str, feeds: Mapping[str, Any]) -> dict[str, Array]:
        """See `LoadedVoice.run`."""
        begin = time.perf_counter()
        out = super().run(stage, feeds)
        self.calls.append((stage, begin, time.perf_counter()))
        return out

    def rows(self, most: int) -> Rows:
        """See `LoadedVoice.rows`; every sentence speaks the codes that it is told to."""
        return _ForcedRows(new_rows(self._session("prefill"), self._session("step"), most), self)

    def _timed(self, prefill: Session, step: Session) -> Decoder:
        return _TimedDecoder(new_decoder(prefill, step), self)


class _TimedDecoder:
    """See `gsvexport.runtime.tokens.Decoder`. Returns scores that all but force the next one of the voice's codes."""

    def __init__(self, inner: Decoder, voice: TimedVoice) -> None:
        self._inner, self._voice, self._count = inner, voice, 0

    def prefill(self, phones: Ints, bert: Floats, prompt: Ints) -> Floats:
        begin = time.perf_counter()
        return self._noted("prefill", begin, self._inner.prefill(phones, bert, prompt))

    def step(self, token: int, position: int) -> Floats:
        begin = time.perf_counter()
        return self._noted("step", begin, self._inner.step(token, position))

    def _noted(self, stage: str, begin: float, logits: Floats) -> Floats:
        self._voice.calls.append((stage, begin, time.perf_counter()))
        forced = _forced(logits, self._voice.forced[self._count])
        self._count += 1
        return forced


class _ForcedRows:
    """See `gsvexport.runtime.side_by_side.Rows`; scores as those of `_TimedDecoder`."""

    def __init__(self, inner: Rows, voice: TimedVoice) -> None:
        self._inner, self._voice, self.most = inner, voice, inner.most
        self._counts: list[int] = []  # codes of each sentence so far

    def enter(self, phones: Ints, bert: Floats, prompt: Ints) -> Floats:
        self._counts.append(1)
        return _forced(self._inner.enter(phones, bert, prompt), self._voice.forced[0])

    def step(self, tokens: Sequence[int], positions: Sequence[int]) -> Floats:
        codes = self._voice.forced[self._counts]
        self._counts = [count + 1 for count in self._counts]
        return np.stack([_forced(*one) for one in zip(self._inner.step(tokens, positions), codes, strict=True)])

    def leave(self, row: int) -> None:
        self._inner.leave(row)
        self._counts[row] = self._counts[-1]
        self._counts.pop()


def _forced(logits: Floats, code: int) -> Floats:
    """Scores [V] that all but force a code."""
    forced = np.where(np.isfinite(logits), np.float32(0), logits)  # what is not finite stays an error
    forced[code] += _CERTAIN
    return forced
