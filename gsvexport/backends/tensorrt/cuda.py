"""The CUDA runtime through ctypes: memory, one stream, recorded graphs and events. Needs no package and no compiler.

Signatures: CUDA Runtime API, the same from 11.4 (JetPack 5) to 13. An address is an int, a size is in bytes.
"""

from __future__ import annotations

import contextlib
import ctypes
import glob
import os
import re
import sys
import weakref
from collections.abc import Callable, Iterator
from ctypes import byref, c_float, c_int, c_size_t, c_uint, c_ulonglong, c_void_p
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gsvexport.errors import BackendError, EnvironmentProblem

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_TO_DEVICE, _TO_HOST, _ON_DEVICE = 1, 2, 3  # cudaMemcpyKind
_OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation
# cudaErrorInitializationError, InsufficientDriver, DevicesUnavailable, NoDevice, InvalidDevice, SystemNotReady …
_NO_DEVICE = (3, 35, 46, 100, 101, 802, 803, 804)
_THREAD_LOCAL = 1  # cudaStreamCaptureModeThreadLocal: other threads may go on allocating
_MAJOR, _MINOR, _INTEGRATED = 75, 76, 18  # cudaDeviceAttr
_PROPERTIES = 8192  # bytes; cudaDeviceProp has about 1000 and begins with the name
_FOLDERS = ("/usr/local/cuda/lib64", "/usr/local/cuda/targets/*/lib", "/usr/local/cuda-*/targets/*/lib", "/usr/lib/*")


@dataclass(frozen=True)
class Gpu:
    """One GPU as the CUDA runtime describes it; memory in bytes, versions as "12.6"."""

    name: str
    compute_capability: str
    total: int
    free: int
    integrated: bool
    cuda: str
    driver: str


class Unjudged(BackendError):
    """The machine is at fault (no driver, no memory), so nothing is known about what was to run."""

    spoilt = False  # whether a file has to be made again all the same


class Memory:
    """Bytes on the device, freed when nothing refers to them any more."""

    def __init__(self, cuda: Cuda, size: int) -> None:
        self.size = size
        self.address: int = cuda.allocate(size)
        self._free = weakref.finalize(self, cuda.release, self.address)


class Cuda:
    """The runtime of one process, on its first GPU; every method raises `BackendError` with CUDA's own words.

    Raises:
        EnvironmentProblem: there is no libcudart.
    """

    def __init__(self, library: Any = None) -> None:
        self._library = library or _library()
        self._library.cudaGetErrorString.restype = ctypes.c_char_p

    @property
    def handle(self) -> int:
        """What tells one loaded library from another."""
        return int(getattr(self._library, "_handle", id(self._library)))

    def gpu(self) -> Gpu:
        """What the first GPU is, and how much of its memory is free now."""
        count = c_int()
        self._call("cudaGetDeviceCount", byref(count))
        properties = ctypes.create_string_buffer(_PROPERTIES)
        versioned = "cudaGetDeviceProperties_v2"  # CUDA 12 has both, 13 the plain one
        name = versioned if hasattr(self._library, versioned) else "cudaGetDeviceProperties"
        self._call(name, properties, c_int(0))
        major, minor, integrated = (self._attribute(one) for one in (_MAJOR, _MINOR, _INTEGRATED))
        free, total = self.memory()
        return Gpu(
            properties.value.decode(errors="replace"),
            f"{major}.{minor}",
            total,
            free,
            bool(integrated),
            self._version("cudaRuntimeGetVersion"),
            self._version("cudaDriverGetVersion"),
        )

    def memory(self) -> tuple[int, int]:
        """(free, total) bytes of the device."""
        free, total = c_size_t(), c_size_t()
        self._call("cudaMemGetInfo", byref(free), byref(total))
        return free.value, total.value

    def allocate(self, size: int) -> int:
        """At least one byte; an engine takes no null address, not even for an empty tensor."""
        address = c_void_p()
        self._call("cudaMalloc", byref(address), c_size_t(max(1, size)))
        return int(address.value or 0)

    def release(self, address: int) -> None:
        """Free what `allocate` gave. Errors are not told: the process may be ending."""
        self._library.cudaFree(c_void_p(address))

    def pinned(self, size: int) -> NDArray[np.uint8]:
        """Bytes of the host that the device copies from and to by itself, as `uint8 [size]`."""
        import numpy as np

        address = c_void_p()
        self._call("cudaHostAlloc", byref(address), c_size_t(size), c_uint(0))
        held = (ctypes.c_uint8 * size).from_address(int(address.value or 0))
        array = np.ctypeslib.as_array(held)
        weakref.finalize(held, self._library.cudaFreeHost, c_void_p(address.value))
        return array

    def zero(self, address: int, size: int, stream: int) -> None:
        """Zero bytes."""
        self._call("cudaMemsetAsync", c_void_p(address), c_int(0), c_size_t(size), c_void_p(stream))

    def upload(self, address: int, array: NDArray[Any], stream: int) -> None:
        """A contiguous array to the device."""
        self._copy(address, array.ctypes.data, array.nbytes, _TO_DEVICE, stream)

    def download(self, array: NDArray[Any], address: int, stream: int) -> None:
        """From the device into a contiguous array; it is there after `synchronize`."""
        self._copy(array.ctypes.data, address, array.nbytes, _TO_HOST, stream)

    def copy_rows(self, to: tuple[int, int], of: tuple[int, int], width: int, count: int, stream: int) -> None:
        """`count` pieces of `width` bytes on the device; `to` and `of` are (address, bytes from piece to piece)."""
        self._call(
            "cudaMemcpy2DAsync",
            c_void_p(to[0]),
            c_size_t(to[1]),
            c_void_p(of[0]),
            c_size_t(of[1]),
            c_size_t(width),
            c_size_t(count),
            c_int(_ON_DEVICE),
            c_void_p(stream),
        )

    def stream(self) -> int:
        """A stream of its own: the default one would wait for everybody."""
        stream = c_void_p()
        self._call("cudaStreamCreate", byref(stream))
        return int(stream.value or 0)

    def synchronize(self, stream: int) -> None:
        """Wait for everything in the stream."""
        self._call("cudaStreamSynchronize", c_void_p(stream))

    def record(self, stream: int, work: Callable[[], None]) -> int:
        """What `work` puts into the stream as a graph that `launch` repeats; nothing of it runs now."""
        graph, made = c_void_p(), c_void_p()
        self._call("cudaStreamBeginCapture", c_void_p(stream), c_int(_THREAD_LOCAL))
        try:
            work()
        except BaseException:
            self._library.cudaStreamEndCapture(c_void_p(stream), byref(graph))  # or the stream records for ever
            self._library.cudaGetLastError()
            raise
        self._call("cudaStreamEndCapture", c_void_p(stream), byref(graph))
        try:
            # The form with flags is the only one whose signature did not change with CUDA 12.
            self._call("cudaGraphInstantiateWithFlags", byref(made), graph, c_ulonglong(0))
        finally:
            self._library.cudaGraphDestroy(graph)
        return int(made.value or 0)

    def launch(self, graph: int, stream: int) -> None:
        """Run a recorded graph."""
        self._call("cudaGraphLaunch", c_void_p(graph), c_void_p(stream))

    def forget(self, graph: int) -> None:
        """Free a recorded graph."""
        self._library.cudaGraphExecDestroy(c_void_p(graph))

    @contextlib.contextmanager
    def timed(self, stream: int) -> Iterator[list[float]]:
        """Yields a list that holds the milliseconds of the block's work in the stream when the block has ended."""
        events = [c_void_p(), c_void_p()]
        for event in events:
            self._call("cudaEventCreate", byref(event))
        found: list[float] = []
        try:
            self._call("cudaEventRecord", events[0], c_void_p(stream))
            yield found
            self._call("cudaEventRecord", events[1], c_void_p(stream))
            self._call("cudaEventSynchronize", events[1])
            elapsed = c_float()
            self._call("cudaEventElapsedTime", byref(elapsed), events[0], events[1])
            found.append(elapsed.value)
        finally:
            for event in events:
                self._library.cudaEventDestroy(event)

    def _copy(self, to: int, of: int, size: int, kind: int, stream: int) -> None:
        if size:
            arguments = (c_void_p(to), c_void_p(of), c_size_t(size), c_int(kind), c_void_p(stream))
            self._call("cudaMemcpyAsync", *arguments)

    def _attribute(self, number: int) -> int:
        value = c_int()
        self._call("cudaDeviceGetAttribute", byref(value), c_int(number), c_int(0))
        return value.value

    def _version(self, function: str) -> str:
        value = c_int()
        self._call(function, byref(value))
        return f"{value.value // 1000}.{value.value % 1000 // 10}"

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code == 0:
            return
        self._library.cudaGetLastError()  # or the next call is told about this one
        words = (self._library.cudaGetErrorString(c_int(code)) or b"").decode(errors="replace")
        machine = code == _OUT_OF_MEMORY or code in _NO_DEVICE
        raise (Unjudged if machine else BackendError)(
            f"CUDA: {name} failed: {words}",
            found=f"error {code}",
            fix="close other programs that use the GPU" if code == _OUT_OF_MEMORY else None,
        )


def _library() -> Any:
    """libcudart from where JetPack, a toolkit or a Python wheel puts it; the loader's own path goes first."""
    names = ["libcudart.so", "libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0"]
    folders = [*_FOLDERS, *(os.path.join(path, "nvidia", "*", "lib") for path in sys.path if path)]
    found = {path for folder in folders for path in glob.glob(os.path.join(folder, "libcudart.so*"))}
    for name in [*names, *sorted(found, key=_newest, reverse=True)]:
        with contextlib.suppress(OSError):
            return ctypes.CDLL(name)
    raise EnvironmentProblem(
        "the CUDA runtime, libcudart.so, was not found",
        limit=", ".join(("LD_LIBRARY_PATH", *_FOLDERS)),
        fix="install CUDA's runtime: cuda-cudart on a Jetson, `pip install nvidia-cuda-runtime-cu12` elsewhere; or put "
        "its folder into LD_LIBRARY_PATH",
    )


def _newest(path: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", os.path.basename(path))]
