"""One engine on the device: a plan that was opened, and a context for each profile that is in use.

All calls go through the lock of `space.Space`: a GPU runs one thing after another anyway, and the scratch memory that
all contexts share serves one run at a time.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gsvexport.backends.tensorrt import kernels as compiled_before
from gsvexport.backends.tensorrt.cuda import Memory, Unjudged
from gsvexport.backends.tensorrt.space import Space
from gsvexport.backends.tensorrt.told import make_logger, readable
from gsvexport.errors import BackendError, InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TYPES = {  # of TensorRT, by name: its own table of numpy types breaks with a newer numpy
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
}
_HALF, _FLOAT = re.compile(r"half|fp16|float16", re.IGNORECASE), re.compile(r"float|fp32", re.IGNORECASE)


# What TensorRT says of a plan that no other day will open: it has to be built again.
_SPOILT = re.compile(
    r"Version tag does not match|Magic tag does not match|incompatible device|Serialization assertion|stdVersionRead"
    r"|Serialization \(|bufferSize >= minBufferSize",
    re.IGNORECASE,
)


_DRIVER = re.compile(r"cudaError|Cuda Runtime|CUDA initialization|out of memory", re.IGNORECASE)


class NotItsGraph(BackendError):
    """An engine has other ports than its graph, or lays them elsewhere."""


class Engine:
    """An opened plan. `entry` is the engine's in `tensorrt.json`: its name, profiles, ports, and `aliases`, the outputs
    that are written to the address of an input.

    `kernels` is where TensorRT for RTX keeps what it compiles; by default beside the plan.

    Raises:
        Unjudged: TensorRT does not open the plan: that judges the machine, and the plan only where it is `spoilt`.
        NotItsGraph: it has other ports than the graph, all of them told.
    """

    def __init__(
        self, plan: Path, entry: Mapping[str, Any], space: Space, trt: Any, kernels: Path | None = None
    ) -> None:
        self.name = str(entry["name"])
        self.space, self.cuda, self.lock, self.stream = space, space.cuda, space.lock, space.stream
        self.aliases: dict[str, str] = dict(entry.get("aliases", {}))
        self.profiles = {one["name"]: one["shapes"] for one in entry["profiles"]}
        # By number, the profile of the plan for each of these: one built ahead of time has fewer (see `ahead.py`).
        self._serves = entry.get("serves") or {name: index for index, name in enumerate(self.profiles)}
        self._trt, self._logger = trt, make_logger(trt)
        if hasattr(trt, "init_libnvinfer_plugins"):
            trt.init_libnvinfer_plugins(self._logger, "")
        self._runtime = trt.Runtime(self._logger)
        self._engine = self._opened(plan)
        self._kernels = kernels or plan.with_suffix(".kernels")
        self._config = self._configured(self._kernels)
        self.inputs, self.outputs = self._ports(entry["ports"])
        self._contexts: dict[str, Any] = {}
        self._given: dict[int, int] = {}  # context → the generation of the scratch memory that it has
        self._buffers: dict[str, Memory] = {}

    def profile(self, shapes: Mapping[str, tuple[int, ...]]) -> str:
        """The first profile that serves these input shapes.

        Raises:
            InputError: none does; every profile says why.
        """
        problems = []
        for name, wanted in self.profiles.items():
            outside = [
                f"{port} {list(shapes[port])} is not within {low} and {high}"
                for port, (low, _, high) in wanted.items()
                if not _within(shapes[port], low, high)
            ]
            if not outside:
                return str(name)
            problems.append(f"{name}: {'; '.join(outside)}")
        raise InputError(
            f"engine {self.name} was not built for these lengths",
            problems=problems,
            fix="say less at once, or nearer to speed 1; or raise limits.tokens and limits.phones of the target and "
            "build the artifact again",
        )

    def context(self, profile: str) -> Any:
        """The execution context of a profile, made when it is first needed."""
        if profile not in self._contexts:
            index = self._serves[profile]
            made = self._made()
            if made is None:
                problems = readable(self._logger.errors())[-5:]
                fix = "close other programs that use the GPU"
                raise Unjudged(f"engine {self.name} has no room to run", problems=problems, fix=fix)
            self.space.reserve(self._scratch(index))
            self._contexts[profile] = made
            self._give(made)
            if not made.set_optimization_profile_async(index, self.stream):
                del self._contexts[profile]
                raise self._failure(f"has no profile {profile}", "run gsvexport finalize again")
            self.cuda.synchronize(self.stream)
        return self._contexts[profile]

    def scratch(self) -> dict[str, int]:
        """Bytes of scratch memory of each profile, as the engine tells."""
        return {name: self._scratch(self._serves[name]) for name in self.profiles}

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Every output for arrays on the host, which are cast to the engine's own types."""
        with self.lock:
            found = {}
            for name, (address, shape) in self.launch(feeds).items():
                found[name] = np.empty(shape, self.outputs[name])
                self.cuda.download(found[name], address, self.stream)
            self.cuda.synchronize(self.stream)
        return found

    def launch(
        self, feeds: Mapping[str, NDArray[Any]], *, held: Mapping[str, tuple[int, tuple[int, ...]]] | None = None
    ) -> dict[str, tuple[int, tuple[int, ...]]]:
        """Run on arrays of the host, leaving every output on the device: its address and shape.

        Inputs that are `held` lie on the device already, at an address and in a shape. To be called with `lock` held;
        the outputs are valid until the next call, and complete in the stream's order.
        """
        given = dict(held or {})
        arrays = {name: np.ascontiguousarray(feeds[name], kind) for name, kind in self._missing(given)}
        shapes = {name: shape for name, (_, shape) in given.items()}
        context = self.context(self.profile({**shapes, **{name: array.shape for name, array in arrays.items()}}))
        for name, array in arrays.items():
            array = array.reshape(feeds[name].shape)  # a scalar became one row
            given[name] = (self._buffer(name, array.nbytes), array.shape)
            self.cuda.upload(given[name][0], array, self.stream)
        for name, (address, shape) in given.items():
            self.set_input(context, name, shape, address)
        self.check_shapes(context)
        found = {}
        for name, kind in self.outputs.items():
            shape = tuple(context.get_tensor_shape(name))
            if min(shape, default=0) < 0:
                raise self._failure(f"does not know the shape of {name}: {shape}", None)
            if name in self.aliases:
                address = given[self.aliases[name]][0]
            else:
                address = self._buffer(name, int(np.prod(shape)) * np.dtype(kind).itemsize)
            context.set_tensor_address(name, address)
            found[name] = (address, shape)
        self.enqueue(context)
        return found

    def set_input(self, context: Any, name: str, shape: tuple[int, ...], address: int) -> None:
        """Give a context one input that lies on the device."""
        if not context.set_input_shape(name, shape) or not context.set_tensor_address(name, address):
            raise self._failure(f"refuses {name} of shape {list(shape)}", None)

    def check_shapes(self, context: Any) -> None:
        """Raise `BackendError` for inputs that a context still lacks."""
        try:
            missing = context.infer_shapes()
        except RuntimeError as error:  # inputs whose shapes contradict each other
            raise self._failure(f"cannot tell its shapes: {' '.join(str(error).split())}", None) from error
        if missing:
            raise self._failure(f"lacks {', '.join(missing)}", None)

    def enqueue(self, context: Any) -> None:
        """Put one run into the stream."""
        self._give(context)
        if not context.execute_async_v3(self.stream):
            raise self._failure("failed to run", "run gsvexport finalize again, which checks it")

    def half_share(self) -> float | None:
        """The share of FP16 among the engine's layers that put out floats; None where it does not tell.

        Each context that ran is asked: without one, types are "N/A due to dynamic shapes".
        """
        counts = {True: 0, False: 0}
        for context in self._contexts.values():
            inspector = self._engine.create_engine_inspector()
            inspector.execution_context = context
            try:
                told = json.loads(inspector.get_engine_information(self._trt.LayerInformationFormat.JSON))
            except ValueError:
                continue
            for layer in told.get("Layers", ()):
                words = [_type_word(port) for port in layer.get("Outputs", ())] if isinstance(layer, dict) else []
                if any(_HALF.search(word) for word in words):
                    counts[True] += 1
                elif any(_FLOAT.search(word) for word in words):
                    counts[False] += 1
        total = counts[True] + counts[False]
        return counts[True] / total if total else None

    def _opened(self, plan: Path) -> Any:
        """The engine of a plan, which is mapped: on a board whose GPU shares the memory a copy would count twice."""
        with open(plan, "rb") as stream, contextlib.ExitStack() as stack:
            if plan.stat().st_size == 0:
                raise self._not_opened(["its file is empty"], spoilt=True)
            data = stack.enter_context(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
            found = self._runtime.deserialize_cuda_engine(data)
        if found is None:
            said = self._logger.errors()
            spoilt = any(map(_SPOILT.search, said)) or (not any(map(_DRIVER.search, said)) and self._invalid(plan))
            raise self._not_opened(readable(said) or said, spoilt=spoilt)
        return found

    def _invalid(self, plan: Path) -> bool:
        """Whether TensorRT for RTX calls a plan invalid, as of another release or for other GPUs. Without a driver it
        calls every plan that."""
        if not hasattr(self._runtime, "get_engine_validity"):
            return False
        with contextlib.suppress(RuntimeError, TypeError):
            return str(self._runtime.get_engine_validity(plan.read_bytes())[0]).endswith("INVALID")
        return False

    def _not_opened(self, problems: Sequence[str], *, spoilt: bool) -> Unjudged:
        again = "run gsvexport finalize again: it is built again"
        wait = "see that the GPU's driver works and that memory is free, then run gsvexport finalize again"
        error = Unjudged(f"engine {self.name} cannot be opened", problems=problems[-5:], fix=again if spoilt else wait)
        error.spoilt = spoilt
        return error

    def _made(self) -> Any:
        """A context without scratch memory of its own."""
        if self._config is not None:
            return self._engine.create_execution_context(self._config)
        kinds = getattr(self._trt, "ExecutionContextAllocationStrategy", None)
        if kinds is None:  # before TensorRT 10
            return self._engine.create_execution_context_without_device_memory()
        return self._engine.create_execution_context(kinds.USER_MANAGED)

    def _configured(self, kernels: Path) -> Any:
        """How TensorRT for RTX is to run the engine, with the kernels that it compiled before; None for TensorRT.

        Kernels are compiled when they are asked for: in the background, as by default, a recorded step would keep the
        slow ones that it was recorded with.
        """
        strategies = getattr(self._trt, "DynamicShapesKernelSpecializationStrategy", None)
        if strategies is None:
            return None
        config = self._engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(self._trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER
        cache, kept = config.create_runtime_cache(), compiled_before.load(kernels)
        if kept and not cache.deserialize(kept):  # of another GPU, driver or release; it stays empty
            compiled_before.forget(kernels)
        config.set_runtime_cache(cache)
        return config

    def keep_kernels(self) -> None:
        """Keep what TensorRT for RTX compiled for this GPU, so that the next one to open the engine need not."""
        if self._config is None:
            return
        compiled_before.keep(self._kernels, bytes(self._config.get_runtime_cache().serialize()))

    def _scratch(self, index: int) -> int:
        """Bytes that a profile needs; of all profiles the most, where a release tells no more."""
        engine = self._engine
        for name in ("get_device_memory_size_for_profile_v2", "get_device_memory_size_for_profile"):
            if hasattr(engine, name):
                return int(getattr(engine, name)(index))
        return int(engine.device_memory_size)

    def _give(self, context: Any) -> None:
        """Let a context use the block as it is now."""
        space = self.space
        if self._given.get(id(context)) == space.generation:
            return
        if hasattr(context, "set_device_memory"):
            context.set_device_memory(space.address, space.size)
        else:
            context.device_memory = space.address
        self._given[id(context)] = space.generation

    def _ports(self, expected: Mapping[str, Mapping[str, str]]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Inputs and outputs with their numpy types, checked against the graph's."""
        trt, engine = self._trt, self._engine
        found: dict[str, dict[str, Any]] = {"inputs": {}, "outputs": {}}
        problems = []
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            side = "inputs" if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT else "outputs"
            word = str(engine.get_tensor_dtype(name)).split(".")[-1]
            found[side][name] = _TYPES.get(word)
            wanted = expected[side].get(name)
            if wanted is None or _TYPES.get(word) is None or np.dtype(wanted) != np.dtype(_TYPES[word]):
                problems.append(f"{name} is {word}, the graph has {wanted}")
            if engine.get_tensor_location(name) != trt.TensorLocation.DEVICE:
                problems.append(f"{name} lies on the host: it decides a shape, so no run could be repeated as recorded")
        for output, name in self.aliases.items():
            told = engine.get_aliased_input_tensor(output) if hasattr(engine, "get_aliased_input_tensor") else None
            if told != name:
                problems.append(f"{output} is not written in place: TensorRT says it shares memory with {told}")
        for side, ports in expected.items():
            problems += [f"{name} is missing among the {side}" for name in ports if name not in found[side]]
        if problems:
            raise NotItsGraph(f"engine {self.name} is not what its graph says", problems=problems)
        return found["inputs"], found["outputs"]

    def _missing(self, given: Mapping[str, Any]) -> list[tuple[str, Any]]:
        """Inputs that are not given, with their types."""
        return [(name, kind) for name, kind in self.inputs.items() if name not in given]

    def _buffer(self, name: str, size: int) -> int:
        """The address of a buffer of at least so many bytes, which grows when it has to."""
        held = self._buffers.get(name)
        if held is None or held.size < size:
            self.cuda.synchronize(self.stream)
            self._buffers.pop(name, None)
            held = self._buffers[name] = Memory(self.cuda, size)
        return held.address

    def _failure(self, what: str, fix: str | None) -> BackendError:
        return BackendError(f"engine {self.name} {what}", problems=readable(self._logger.errors())[-5:], fix=fix)


def _within(shape: tuple[int, ...], low: list[int], high: list[int]) -> bool:
    if len(shape) != len(low):
        return False
    return all(low[axis] <= size <= high[axis] for axis, size in enumerate(shape))


def _type_word(port: Any) -> str:
    """How an inspector writes a type: "Row major linear FP16 format", later "Half", and a key of its own in 11."""
    if not isinstance(port, dict):
        return ""
    return str(port.get("Format/Datatype") or port.get("DataType") or port.get("Datatype") or "")
