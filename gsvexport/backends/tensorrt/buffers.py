"""What a T2S engine reads and writes on the device, for one sentence at a time: small inputs, logits, and the cache.

ReadOnly   the graph of `passes/one_t2s.py`: new rows come out beside the cache and are copied into it
InPlace    that of `passes/in_place_t2s.py`: the cache is input and output at one address, and nothing is copied
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from gsvexport.backends.tensorrt.cuda import Memory
from gsvexport.backends.tensorrt.engine import Engine
from gsvexport.backends.tensorrt.ports import KINDS
from gsvexport.errors import GsvError, InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gsvexport.model import Dims

_ALIGNED = 256  # bytes: what TensorRT asks of an address
_CONTROLS = ("ids", "positions", "cached", "text")  # one number each, one copy for all of them


class Steps:
    """What buffers need to know of an engine of the joined T2S graph: how many rows its steps can read."""

    def __init__(self, engine: Engine, dims: Dims, *, recorded: bool = True) -> None:
        self.engine, self.dims = engine, dims
        self.recorded = recorded  # whether a step may be recorded and repeated
        self.problem = ""  # why it could not be
        steps = {name: shapes for name, shapes in engine.profiles.items() if shapes["ids"][2][1] == 1}
        self.capacities = {_capacity(shapes): name for name, shapes in steps.items()}
        self.longest = max(shapes["ids"][2][1] for shapes in engine.profiles.values())


class Buffers:
    """What both kinds share: a step, recorded for each capacity (how many rows it reads) that is in use."""

    def __init__(self, t2s: Steps, port: str) -> None:
        """`port` is an input with the cache's element type."""
        self._t2s, engine = t2s, t2s.engine
        cuda = engine.cuda
        self._kind = np.dtype(engine.inputs[port])
        self._row = t2s.dims.D * self._kind.itemsize
        self._host = cuda.pinned(_ALIGNED * len(_CONTROLS))
        self._host[:] = 0
        logits = np.dtype(engine.outputs["logits"])
        self._logits = cuda.pinned(t2s.dims.V * logits.itemsize).view(logits)
        sizes = {"controls": self._host.nbytes, "logits": self._logits.nbytes}
        sizes["bert"] = _width(engine) * np.dtype(engine.inputs["bert"]).itemsize
        self._memory = {name: Memory(cuda, size) for name, size in sizes.items()}
        cuda.zero(self._memory["bert"].address, sizes["bert"], engine.stream)  # a code has no text features
        # By capacity and generation of the scratch memory: in another block a record would write where nobody reads.
        self._graphs: dict[tuple[int, int], int] = {}
        self._settled: set[tuple[int, int]] = set()  # of which it is known whether they can be recorded
        self.capacity = 0

    def prefill(self, feeds: Mapping[str, NDArray[Any]], rows: int) -> tuple[int, tuple[int, ...]]:
        """Start a sentence of so many rows from what `ports.graph_feeds` gives: address and shape of its logits."""
        raise NotImplementedError

    def held(self, rows: int) -> dict[str, NDArray[Any]]:
        """The first rows of the cache, [L, 1, rows, D] of each kind, copied to the host."""
        raise NotImplementedError

    def step(self, identity: int, position: int, rows: int) -> NDArray[Any]:
        """One row after `rows` others → logits [V]."""
        if rows >= self.capacity:
            self._grow(rows)
        engine = self._t2s.engine
        for index, value in enumerate((identity, position, rows, 0)):
            self._host.view(np.int32)[index * _ALIGNED // 4] = value
        if self.replays():
            engine.cuda.launch(self._graphs[self._recorded], engine.stream)
        else:
            self._bind()
            self._enqueue()
        self._keep(rows)
        engine.cuda.synchronize(engine.stream)
        logits = self._logits.astype(np.float32)
        if self._recorded not in self._settled:
            self._record()
        return logits

    def replays(self) -> bool:
        """Whether the step in use is repeated from a record."""
        return self._recorded in self._graphs

    @property
    def _recorded(self) -> tuple[int, int]:
        return self.capacity, self._t2s.engine.space.generation

    def _grow(self, rows: int) -> None:
        """Read more rows than the step in use does."""
        raise NotImplementedError

    def _keep(self, rows: int) -> None:
        """Put the row that a step made into the cache, behind `rows` others."""
        raise NotImplementedError

    def _caches(self) -> tuple[dict[str, tuple[int, tuple[int, ...]]], dict[str, int]]:
        """Address and shape of the inputs, and addresses of the outputs, that a kind adds to a step."""
        raise NotImplementedError

    def _smallest(self, rows: int) -> int:
        """The smallest capacity beyond `rows`."""
        fitting = [size for size in sorted(self._t2s.capacities) if size > rows]
        if not fitting:
            raise InputError(
                "the sentence became longer than the engine was built for",
                found=f"{rows + 1} phones, prompt codes and new codes",
                limit=f"{max(self._t2s.capacities)}, from limits.tokens of the target",
                fix="split the sentence or lower max_tokens, or build with a target of a larger limits.tokens",
            )
        return fitting[0]

    def _zeroed(self, size: int) -> Memory:
        """New memory for a cache: what is masked is multiplied by 0, and must not be NaN."""
        engine = self._t2s.engine
        memory = Memory(engine.cuda, size)
        engine.cuda.zero(memory.address, size, engine.stream)
        return memory

    def _context(self) -> Any:
        return self._t2s.engine.context(self._t2s.capacities[self.capacity])

    def _bind(self) -> None:
        engine, context = self._t2s.engine, self._context()
        shapes = {"ids": (1, 1), "positions": (1, 1), "text": (1,), "cached": (1,)}
        controls = self._memory["controls"].address
        given: dict[str, tuple[int, tuple[int, ...]]] = {
            name: (controls + n * _ALIGNED, shapes[name]) for n, name in enumerate(_CONTROLS)
        }
        given["bert"] = (self._memory["bert"].address, (1, _width(engine), 1))
        inputs, outputs = self._caches()
        given.update(inputs)
        for name in engine.inputs:
            address, shape = given[name]
            engine.set_input(context, name, shape, address)
        engine.check_shapes(context)
        for name, address in {"logits": self._memory["logits"].address, **outputs}.items():
            context.set_tensor_address(name, address)

    def _enqueue(self) -> None:
        """What is recorded: the small inputs up, one run, the logits down."""
        engine = self._t2s.engine
        engine.cuda.upload(self._memory["controls"].address, self._host, engine.stream)
        engine.enqueue(self._context())
        engine.cuda.download(self._logits, self._memory["logits"].address, engine.stream)

    def _record(self) -> None:
        """Record the step of this capacity, after one plain run, in which TensorRT finishes what it had put off."""
        self._settled.add(self._recorded)
        if not self._t2s.recorded:
            return
        engine = self._t2s.engine
        try:
            graph = engine.cuda.record(engine.stream, self._enqueue)
        except GsvError as error:  # slower, and as right
            self._t2s.problem = " ".join(str(error).split())
            return
        self._graphs[self._recorded] = graph
        weakref.finalize(self, engine.cuda.forget, graph)


class ReadOnly(Buffers):
    """A cache for each capacity in use so far, and new rows beside it: one strided copy each for keys and values."""

    def __init__(self, t2s: Steps) -> None:
        super().__init__(t2s, "keys")
        cuda = t2s.engine.cuda
        self._memory.update({f"new_{kind}": Memory(cuda, t2s.dims.L * self._row) for kind in KINDS})
        self._made: dict[int, dict[str, Memory]] = {}

    def prefill(self, feeds: Mapping[str, NDArray[Any]], rows: int) -> tuple[int, tuple[int, ...]]:
        """See `Buffers.prefill`; its rows are copied into the smallest cache with room for one more."""
        found = self._t2s.engine.launch(feeds)
        self._choose(rows)
        self._fill({kind: found[f"new_{kind}"][0] for kind in KINDS}, rows, rows)
        return found["logits"]

    def held(self, rows: int) -> dict[str, NDArray[Any]]:
        """See `Buffers.held`."""
        engine, dims = self._t2s.engine, self._t2s.dims
        found = {}
        for kind in KINDS:
            whole = np.empty((dims.L, 1, self.capacity, dims.D), self._kind)
            engine.cuda.download(whole, self._made[self.capacity][kind].address, engine.stream)
            engine.cuda.synchronize(engine.stream)
            found[kind] = whole[:, :, :rows]
        return found

    def _grow(self, rows: int) -> None:
        before = self.capacity
        self._choose(rows)
        self._fill({kind: self._made[before][kind].address for kind in KINDS}, before, rows)

    def _keep(self, rows: int) -> None:
        engine = self._t2s.engine
        for kind in KINDS:
            to = self._made[self.capacity][kind].address + rows * self._row
            new = self._memory[f"new_{kind}"].address
            pieces = (self._row, self._t2s.dims.L, engine.stream)
            engine.cuda.copy_rows((to, self.capacity * self._row), (new, self._row), *pieces)

    def _caches(self) -> tuple[dict[str, tuple[int, tuple[int, ...]]], dict[str, int]]:
        dims = self._t2s.dims
        shape, made = (dims.L, 1, self.capacity, dims.D), self._made[self.capacity]
        inputs: dict[str, tuple[int, tuple[int, ...]]] = {kind: (made[kind].address, shape) for kind in KINDS}
        return inputs, {f"new_{kind}": self._memory[f"new_{kind}"].address for kind in KINDS}

    def _choose(self, rows: int) -> None:
        """Use the smallest capacity beyond `rows`; its cache is made when it is first used."""
        self.capacity = self._smallest(rows)
        if self.capacity not in self._made:
            size = self._t2s.dims.L * self.capacity * self._row
            self._made[self.capacity] = {kind: self._zeroed(size) for kind in KINDS}

    def _fill(self, of: Mapping[str, int], pitch: int, rows: int) -> None:
        """The first `rows` of each layer, from buffers with `pitch` rows a layer."""
        engine = self._t2s.engine
        for kind in KINDS:
            to = (self._made[self.capacity][kind].address, self.capacity * self._row)
            pieces = (rows * self._row, self._t2s.dims.L, engine.stream)
            engine.cuda.copy_rows(to, (of[kind], pitch * self._row), *pieces)


class InPlace(Buffers):
    """One cache of the largest capacity, [L, H, C, D/H] of each kind, which prefill and steps write themselves."""

    def __init__(self, t2s: Steps) -> None:
        super().__init__(t2s, "keys_0")
        engine, dims = t2s.engine, t2s.dims
        self._most = max(t2s.capacities)
        self._cache = {kind: self._zeroed(dims.L * self._most * self._row) for kind in KINDS}
        slots = np.arange(self._most, dtype=engine.inputs["slots"])  # a step reads as many of them as it reads rows
        self._memory["slots"] = Memory(engine.cuda, slots.nbytes)
        engine.cuda.upload(self._memory["slots"].address, slots, engine.stream)
        engine.cuda.synchronize(engine.stream)

    def prefill(self, feeds: Mapping[str, NDArray[Any]], rows: int) -> tuple[int, tuple[int, ...]]:
        """See `Buffers.prefill`."""
        self.capacity = self._smallest(rows)
        small = {name: array for name, array in feeds.items() if name not in KINDS}
        given = {**small, "slots": np.arange(rows)}
        return self._t2s.engine.launch(given, held=self._layers())["logits"]

    def held(self, rows: int) -> dict[str, NDArray[Any]]:
        """See `Buffers.held`."""
        engine, dims = self._t2s.engine, self._t2s.dims
        found = {}
        for kind, memory in self._cache.items():
            whole = np.empty((dims.L, dims.H, self._most, dims.D // dims.H), self._kind)
            engine.cuda.download(whole, memory.address, engine.stream)
            engine.cuda.synchronize(engine.stream)
            found[kind] = whole[:, :, :rows].transpose(0, 2, 1, 3).reshape(dims.L, 1, rows, dims.D)
        return found

    def _grow(self, rows: int) -> None:
        self.capacity = self._smallest(rows)

    def _keep(self, rows: int) -> None:
        """Nothing: the engine wrote it there."""

    def _caches(self) -> tuple[dict[str, tuple[int, tuple[int, ...]]], dict[str, int]]:
        inputs = {**self._layers(), "slots": (self._memory["slots"].address, (self.capacity,))}
        return inputs, {output: inputs[name][0] for output, name in self._t2s.engine.aliases.items()}

    def _layers(self) -> dict[str, tuple[int, tuple[int, ...]]]:
        """Address and shape of each layer's cache."""
        dims = self._t2s.dims
        shape = (1, dims.H, self._most, dims.D // dims.H)
        return {
            f"{kind}_{layer}": (memory.address + layer * self._most * self._row, shape)
            for kind, memory in self._cache.items()
            for layer in range(dims.L)
        }


def _width(engine: Engine) -> int:
    """Rows of the text features."""
    return int(next(iter(engine.profiles.values()))["bert"][2][1])


def _capacity(shapes: Mapping[str, Any]) -> int:
    """How many rows of the cache a step's profile reads."""
    return int(shapes["slots"][2][0] if "slots" in shapes else shapes["keys"][2][2])
