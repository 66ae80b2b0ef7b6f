"""T2S on the device: the cache stays there, one code costs one recorded launch, and its logits come back.

The graph reads a cache of fixed capacity C and puts out one new row for each layer (see `passes/one_t2s.py`). That row
is copied into the cache beside it: L pieces of D numbers, one strided copy for keys and one for values. An engine has a
profile for each of a few capacities; when one is full the rows move into a buffer of the next.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from gsvexport.backends.tensorrt.cuda import Memory
from gsvexport.backends.tensorrt.engine import Engine
from gsvexport.backends.tensorrt.ports import graph_feeds
from gsvexport.errors import BackendError, GsvError, InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gsvexport.model import Dims

KINDS = ("keys", "values")
_ALIGNED = 256  # bytes: what TensorRT asks of an address
_CONTROLS = ("ids", "positions", "cached", "text")  # one number each, one copy for all of them


class T2S:
    """An engine of the joined T2S graph; decoders take turns with a few sets of buffers."""

    def __init__(self, engine: Engine, dims: Dims, *, recorded: bool = True) -> None:
        self.engine, self.dims = engine, dims
        self.recorded = recorded  # whether a step may be recorded and repeated
        self.problem = ""  # why it could not be
        steps = {name: shapes for name, shapes in engine.profiles.items() if shapes["ids"][2][1] == 1}
        self.capacities = {int(shapes["keys"][2][2]): name for name, shapes in steps.items()}
        self.longest = max(shapes["ids"][2][1] for shapes in engine.profiles.values())
        self._free: list[_Buffers] = []

    def decoder(self) -> DeviceDecoder:
        """A decoder for one sentence after another. Its buffers go to the next one when it is forgotten."""
        with self.engine.lock:
            buffers = self._free.pop() if self._free else _Buffers(self)
        made = DeviceDecoder(self, buffers)
        weakref.finalize(made, self._free.append, buffers)
        return made


class DeviceDecoder:
    """See `gsvexport.runtime.tokens.Decoder`."""

    def __init__(self, t2s: T2S, buffers: _Buffers) -> None:
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
            found = engine.launch(feeds)
            self._buffers.start(rows, {kind: found[f"new_{kind}"][0] for kind in KINDS})
            logits = np.empty(found["logits"][1], engine.outputs["logits"])
            engine.cuda.download(logits, found["logits"][0], engine.stream)
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
        """How many rows the cache in use can hold."""
        return self._buffers.capacity

    def replays(self) -> bool:
        """Whether the step in use is repeated from a record."""
        return self._buffers.replays()


class _Buffers:
    """What steps read and write on the device: small inputs, new rows, and a cache for each capacity in use so far."""

    def __init__(self, t2s: T2S) -> None:
        self._t2s, engine = t2s, t2s.engine
        cuda, dims = engine.cuda, t2s.dims
        self._kind = np.dtype(engine.inputs["keys"])
        self._row = dims.D * self._kind.itemsize
        self._host = cuda.pinned(_ALIGNED * len(_CONTROLS))
        self._host[:] = 0
        logits = np.dtype(engine.outputs["logits"])
        self._logits = cuda.pinned(dims.V * logits.itemsize).view(logits)
        sizes = {"controls": self._host.nbytes, "logits": self._logits.nbytes}
        sizes["bert"] = _width(engine) * np.dtype(engine.inputs["bert"]).itemsize
        sizes.update({f"new_{kind}": dims.L * self._row for kind in KINDS})
        self._memory = {name: Memory(cuda, size) for name, size in sizes.items()}
        cuda.zero(self._memory["bert"].address, sizes["bert"], engine.stream)  # a code has no text features
        self._caches: dict[int, dict[str, Memory]] = {}
        self._graphs: dict[int, int] = {}
        self._settled: set[int] = set()  # capacities of which it is known whether they can be recorded
        self.capacity = 0

    def start(self, rows: int, new: Mapping[str, int]) -> None:
        """Fill the smallest cache that has room for one more row with those at the addresses `new`, [L, 1, rows, D]."""
        self._choose(rows)
        self._fill(new, rows, rows)

    def step(self, identity: int, position: int, rows: int) -> NDArray[Any]:
        """One row after `rows` others → logits [V]."""
        if rows >= self.capacity:
            before = self.capacity
            self._choose(rows)
            self._fill({kind: self._caches[before][kind].address for kind in KINDS}, before, rows)
        engine = self._t2s.engine
        for index, value in enumerate((identity, position, rows, 0)):
            self._host.view(np.int32)[index * _ALIGNED // 4] = value
        if self.capacity in self._graphs:
            engine.cuda.launch(self._graphs[self.capacity], engine.stream)
        else:
            self._bind()
            self._enqueue()
        for kind in KINDS:
            to = self._caches[self.capacity][kind].address + rows * self._row
            new = self._memory[f"new_{kind}"].address
            pieces = (self._row, self._t2s.dims.L, engine.stream)
            engine.cuda.copy_rows((to, self.capacity * self._row), (new, self._row), *pieces)
        engine.cuda.synchronize(engine.stream)
        logits = self._logits.astype(np.float32)
        if self.capacity not in self._settled:
            self._record()
        return logits

    def held(self, rows: int) -> dict[str, NDArray[Any]]:
        """The first rows of the cache in use."""
        engine, dims = self._t2s.engine, self._t2s.dims
        found = {}
        for kind in KINDS:
            whole = np.empty((dims.L, 1, self.capacity, dims.D), self._kind)
            engine.cuda.download(whole, self._caches[self.capacity][kind].address, engine.stream)
            engine.cuda.synchronize(engine.stream)
            found[kind] = whole[:, :, :rows]
        return found

    def replays(self) -> bool:
        return self.capacity in self._graphs

    def _choose(self, rows: int) -> None:
        """Use the smallest capacity beyond `rows`; its cache is made when it is first used."""
        fitting = [size for size in sorted(self._t2s.capacities) if size > rows]
        if not fitting:
            raise InputError(
                "the sentence became longer than the engine was built for",
                found=f"{rows + 1} phones, prompt codes and new codes",
                limit=f"{max(self._t2s.capacities)}, from limits.tokens of the target",
                fix="split the sentence or lower max_tokens, or build with a target of a larger limits.tokens",
            )
        self.capacity = fitting[0]
        if self.capacity not in self._caches:
            engine = self._t2s.engine
            size = self._t2s.dims.L * self.capacity * self._row
            made = {kind: Memory(engine.cuda, size) for kind in KINDS}
            for memory in made.values():  # what is masked is multiplied by 0, and must not be NaN
                engine.cuda.zero(memory.address, size, engine.stream)
            self._caches[self.capacity] = made

    def _fill(self, of: Mapping[str, int], pitch: int, rows: int) -> None:
        """The first `rows` of each layer, from buffers with `pitch` rows a layer."""
        engine = self._t2s.engine
        for kind in KINDS:
            to = (self._caches[self.capacity][kind].address, self.capacity * self._row)
            pieces = (rows * self._row, self._t2s.dims.L, engine.stream)
            engine.cuda.copy_rows(to, (of[kind], pitch * self._row), *pieces)

    def _context(self) -> Any:
        return self._t2s.engine.context(self._t2s.capacities[self.capacity])

    def _bind(self) -> None:
        engine, dims, context = self._t2s.engine, self._t2s.dims, self._context()
        shapes = {"ids": (1, 1), "positions": (1, 1), "text": (1,), "cached": (1,), "bert": (1, _width(engine), 1)}
        addresses = {name: self._memory["controls"].address + n * _ALIGNED for n, name in enumerate(_CONTROLS)}
        addresses["bert"] = self._memory["bert"].address
        for kind in KINDS:
            shapes[kind] = (dims.L, 1, self.capacity, dims.D)
            addresses[kind] = self._caches[self.capacity][kind].address
        for name in engine.inputs:
            engine.set_input(context, name, shapes[name], addresses[name])
        engine.check_shapes(context)
        for name in engine.outputs:
            context.set_tensor_address(name, self._memory[name].address)

    def _enqueue(self) -> None:
        """What is recorded: the small inputs up, one run, the logits down."""
        engine = self._t2s.engine
        engine.cuda.upload(self._memory["controls"].address, self._host, engine.stream)
        engine.enqueue(self._context())
        engine.cuda.download(self._logits, self._memory["logits"].address, engine.stream)

    def _record(self) -> None:
        """Record the step of this capacity, after one plain run, in which TensorRT finishes what it had put off."""
        self._settled.add(self.capacity)
        if not self._t2s.recorded:
            return
        engine = self._t2s.engine
        try:
            graph = engine.cuda.record(engine.stream, self._enqueue)
        except GsvError as error:  # slower, and as right
            self._t2s.problem = " ".join(str(error).split())
            return
        self._graphs[self.capacity] = graph
        weakref.finalize(self, engine.cuda.forget, graph)


def _width(engine: Engine) -> int:
    """Rows of the text features."""
    return int(next(iter(engine.profiles.values()))["bert"][2][1])
