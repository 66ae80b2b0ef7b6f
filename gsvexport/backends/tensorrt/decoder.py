"""T2S on the device: the cache stays there, one code costs one recorded launch, and its logits come back.

The graph reads a cache of fixed capacity C and puts out one new row for each layer (see `passes/one_t2s.py`). That row
is copied into the cache beside it: L pieces of D numbers, one strided copy for keys and one for values. An engine has a
profile for each of a few capacities; when one is full the rows move into a buffer of the next. An engine that writes
its cache in place (`passes/in_place_t2s.py`) has one cache, and a profile for each number of rows that may be read.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from gsvexport.backends.tensorrt.buffers import Buffers, InPlace, ReadOnly, Steps
from gsvexport.backends.tensorrt.engine import Engine
from gsvexport.backends.tensorrt.ports import graph_feeds
from gsvexport.errors import BackendError, InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gsvexport.model import Dims


class T2S(Steps):
    """An engine of the joined T2S graph; decoders take turns with a few sets of buffers."""

    def __init__(self, engine: Engine, dims: Dims, *, recorded: bool = True) -> None:
        super().__init__(engine, dims, recorded=recorded)
        self._kind = InPlace if engine.aliases else ReadOnly
        self._free: list[Buffers] = []

    def decoder(self) -> DeviceDecoder:
        """A decoder for one sentence after another. Its buffers go to the next one when it is forgotten."""
        with self.engine.lock:
            buffers = self._free.pop() if self._free else self._kind(self)
        made = DeviceDecoder(self, buffers)
        weakref.finalize(made, self._free.append, buffers)
        return made


class DeviceDecoder:
    """See `gsvexport.runtime.tokens.Decoder`."""

    def __init__(self, t2s: T2S, buffers: Buffers) -> None:
        self._t2s, self._buffers = t2s, buffers
        self.rows = 0  # of the cache that are filled

    def prefill(self, phones: NDArray[Any], bert: NDArray[Any], prompt: NDArray[Any]) -> NDArray[Any]:
        """Start a sentence: phones [1, X], bert [1, 1024, X], prompt [1, Y] → logits [V].

        Raises:
            InputError: X + Y is more than the engine was built for.
        """
        engine, rows = self._t2s.engine, phones.shape[1] + prompt.shape[1]
        if rows > self._t2s.longest:
            raise InputError(
                "the sentence is too long together with its prompt",
                found=f"{rows} phones and prompt codes",
                limit=f"{self._t2s.longest}, from limits.phones of the target",
                fix="split the sentence, or build with a target of a larger limits.phones",
            )
        feeds = graph_feeds("prefill", {"phones": phones, "bert": bert, "prompt": prompt}, self._t2s.dims)
        with engine.lock:
            address, shape = self._buffers.prefill(feeds, rows)
            logits = np.empty(shape, engine.outputs["logits"])
            engine.cuda.download(logits, address, engine.stream)
            engine.cuda.synchronize(engine.stream)
        self.rows = rows
        return logits[0].astype(np.float32)

    def step(self, token: int, position: int) -> NDArray[Any]:
        """Append `token` at `position` of the audio stream → logits [V].

        Raises:
            InputError: the largest cache is full.
        """
        if not self.rows:
            raise BackendError("stage 'step' needs the cache of a prefill", fix="call prefill first")
        with self._t2s.engine.lock:
            logits = self._buffers.step(token + self._t2s.dims.phones, position, self.rows)
        self.rows += 1
        return logits

    def cache(self) -> dict[str, NDArray[Any]]:
        """The filled rows of keys and values, [L, 1, rows, D], copied to the host."""
        with self._t2s.engine.lock:
            return self._buffers.held(self.rows)

    @property
    def capacity(self) -> int:
        """How many rows the step in use reads."""
        return self._buffers.capacity

    def replays(self) -> bool:
        """Whether the step in use is repeated from a record."""
        return self._buffers.replays()
