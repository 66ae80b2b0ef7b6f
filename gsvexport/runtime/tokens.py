"""The text-to-semantic loop: one prefill, then one step for each code, until EOS or the limit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from gsvexport.backends import Session
from gsvexport.errors import BackendError
from gsvexport.runtime.draws import Draws
from gsvexport.runtime.sampling import Floats, Ints, Sampling, choose
from gsvexport.stages import EOS_SUPPRESSED_STEPS

_FIRST_ROWS = 256  # room beyond the prefill before a cache grows for the first time: 10 s of speech


class Decoder(Protocol):
    """An autoregressive network together with the cache of one sentence.

    The loop below knows nothing about caches: a backend with a fixed-capacity cache that is bound once and written in
    place is another class with these two methods.
    """

    def prefill(self, phones: Ints, bert: Floats, prompt: Ints) -> Floats:
        """Start a sentence: phones [1, X], bert [1, 1024, X], prompt [1, Y] (Y may be 0) → logits [V]."""
        ...

    def step(self, token: int, position: int) -> Floats:
        """Append `token` at `position` of the audio stream (0-based, prompt included) → logits [V] of the next one."""
        ...


@runtime_checkable
class BringsDecoder(Protocol):
    """A `prefill` session whose graph lays out its cache in its own way."""

    def decoder(self, step: Session) -> Decoder:
        """The decoder for this prefill and its `step`."""
        ...


def new_decoder(prefill: Session, step: Session) -> Decoder:
    """The decoder that fits how these two stages were lowered."""
    return prefill.decoder(step) if isinstance(prefill, BringsDecoder) else GrowingCacheDecoder(prefill, step)


class GrowingCacheDecoder:
    """The decoder of the plain graphs: `step` takes the whole cache [L, 1, S, D] and returns its new row."""

    def __init__(self, prefill: Session, step: Session) -> None:
        self._prefill, self._step = prefill, step
        self._keys: _Rows | None = None
        self._values: _Rows | None = None

    def prefill(self, phones: Ints, bert: Floats, prompt: Ints) -> Floats:
        """See `Decoder.prefill`. A sentence before this one is forgotten."""
        out = self._prefill.run({"phones": phones, "bert": bert, "prompt": prompt})
        self._keys, self._values = _Rows(out["keys"]), _Rows(out["values"])
        logits: Floats = out["logits"][0]
        return logits

    def step(self, token: int, position: int) -> Floats:
        """See `Decoder.step`."""
        if self._keys is None or self._values is None:
            raise BackendError("stage 'step' needs the cache of a prefill", fix="call prefill first")
        out = self._step.run(
            {
                "token": np.array([[token]], np.int64),
                "position": np.array([position], np.int64),
                "keys": self._keys.view(),
                "values": self._values.view(),
            }
        )
        self._keys.append(out["new_keys"])
        self._values.append(out["new_values"])
        logits: Floats = out["logits"][0]
        return logits


class _Rows:
    """Cache rows [L, 1, S, D], packed without gaps in a buffer that doubles when it is full.

    A graph takes the rows as one contiguous array, which ONNX Runtime uses in place. A view into a larger array would
    be copied into fresh memory for each code: measured, twice the time and twice the memory of moving the layers apart.
    """

    def __init__(self, rows: Floats) -> None:
        self._layers, _, self._count, self._width = rows.shape
        self._buffer = np.empty(self._layers * (self._count + _FIRST_ROWS) * self._width, rows.dtype)
        self._buffer[: rows.size] = rows.ravel()

    def view(self) -> Floats:
        """The rows so far, [L, 1, S, D], without a copy; valid until the next `append`."""
        shape = (self._layers, 1, self._count, self._width)
        return self._buffer[: self._layers * self._count * self._width].reshape(shape)

    def append(self, row: Floats) -> None:
        """Add [L, 1, 1, D]."""
        old, new = self._count * self._width, (self._count + 1) * self._width
        source = self._buffer
        if self._layers * new > self._buffer.size:
            self._buffer = np.empty(2 * self._buffer.size, self._buffer.dtype)
        for layer in reversed(range(self._layers)):  # the last one first: in one buffer, each moves into what is free
            self._buffer[layer * new : layer * new + old] = source[layer * old : layer * old + old]
            self._buffer[layer * new + old : (layer + 1) * new] = row[layer, 0, 0]
        self._count += 1


class Generated(NamedTuple):
    """Codes int64 [n] without EOS, and the raw logits float32 [steps, V] of every step that ran, EOS's included."""

    tokens: Ints
    logits: Floats

    @property
    def ended(self) -> bool:
        """Whether the sentence ended by itself: one step more ran, which chose no code."""
        return len(self.logits) > len(self.tokens)


class Writing:
    """One sentence that is being written: what was chosen so far, and whether it has ended.

    EOS is cut off in the first 11 steps, as upstream does. From then on a sentence ends when the chosen code or the
    most likely one (after the penalty) is EOS, and neither that code nor EOS belongs to it; or with `max_tokens` codes.
    """

    def __init__(self, prompt: Ints, *, eos: int, sampling: Sampling, draws: Draws, max_tokens: int) -> None:
        self._start, self._eos, self._most = prompt.shape[1], eos, max_tokens
        self._sampling, self._draws = sampling, draws
        self._history = np.empty(self._start + max_tokens, np.int64)
        self._history[: self._start] = prompt[0]
        self.count = 0  # codes so far
        self.ended = False

    def take(self, logits: Floats) -> int | None:
        """Choose the next code from logits [V]; None where the sentence ended without one.

        Raises:
            BackendError: they are NaN or infinite.
        """
        if not np.isfinite(logits).all():
            raise BackendError(
                f"stage '{'step' if self.count else 'prefill'}' returned logits that are NaN or infinite at step "
                f"{self.count}",
                fix="verify the artifact on this machine",
            )
        forbidden = self._eos if self.count < EOS_SUPPRESSED_STEPS else None
        before = self._history[: self._start + self.count]
        token, best = choose(logits, before, self._sampling, self._draws, forbidden=forbidden)
        if self._eos in (token, best):
            self.ended = True
            return None
        self._history[self._start + self.count] = token
        self.count += 1
        self.ended = self.count == self._most
        return token

    @property
    def position(self) -> int:
        """Where the newest code stands in the audio stream, the prompt included."""
        return self._start + self.count - 1

    @property
    def newest(self) -> int:
        """The code chosen last."""
        return int(self._history[self.position])

    @property
    def tokens(self) -> Ints:
        """The codes so far, int64 [n]."""
        return self._history[self._start : self._start + self.count].copy()


def write(
    decoder: Decoder, phones: Ints, bert: Floats, prompt: Ints, writing: Writing
) -> Iterator[tuple[int | None, Floats]]:
    """Each code of a sentence as soon as it is known, with the logits that it was chosen from; at its end None with the
    last ones. Shapes as in `Decoder.prefill`, everything already checked."""
    logits = decoder.prefill(phones, bert, prompt)
    while True:
        token = writing.take(logits)
        yield token, logits
        if token is None or writing.ended:
            return
        logits = decoder.step(token, writing.position)


def generate(
    decoder: Decoder,
    phones: Ints,
    bert: Floats,
    prompt: Ints,
    *,
    eos: int,
    sampling: Sampling,
    draws: Draws,
    max_tokens: int,
    on_token: Callable[[int], object] | None = None,
) -> Generated:
    """Semantic codes for one sentence; see `Writing`. `on_token` is called with each code that will be returned.

    Raises:
        BackendError: the network returned NaN or infinite logits.
    """
    writing = Writing(prompt, eos=eos, sampling=sampling, draws=draws, max_tokens=max_tokens)
    rows = []
    for token, logits in write(decoder, phones, bert, prompt, writing):
        rows.append(logits)
        if token is not None and on_token is not None:
            on_token(token)
    return Generated(writing.tokens, np.stack(rows))
