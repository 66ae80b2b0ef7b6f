"""What all engines of a process share on the device: one stream, one lock, one block of scratch memory.

A context with memory of its own keeps the most that any of its engine's profiles needs, for as long as it lives: of a
full-size vocoder hundreds of megabytes a profile. Runs follow each other in one stream anyway, so one block, as large
as the largest profile in use, serves them all.
"""

from __future__ import annotations

import threading
import weakref
from typing import Any

from gsvexport.backends.tensorrt.cuda import Cuda, Memory

# By the CUDA runtime's handle: a GPU belongs to the process, and stages are opened one by one.
_SHARED: weakref.WeakValueDictionary = weakref.WeakValueDictionary()  # type: ignore[type-arg]


class Space:
    """The place where engines run. `generation` counts the blocks so far: a recorded run belongs to one of them."""

    def __init__(self, cuda: Cuda) -> None:
        self.cuda, self.lock = cuda, threading.RLock()
        self.stream = cuda.stream()
        self.generation = 0
        self._block: Memory | None = None

    @property
    def size(self) -> int:
        """Bytes of the block; 0 before the first engine ran."""
        return 0 if self._block is None else self._block.size

    @property
    def address(self) -> int:
        """Where the block lies."""
        return 0 if self._block is None else self._block.address

    def reserve(self, size: int) -> None:
        """Make the block at least so large. One that was smaller is freed first: there may be no room for both.

        Raises:
            BackendError: the device has not so much memory left.
        """
        if self._block is not None and self._block.size >= size:
            return
        self.cuda.synchronize(self.stream)
        self._block = None
        self.generation += 1
        self._block = Memory(self.cuda, max(1, size))


def shared(cuda: Cuda) -> Space:
    """The space of this process, which lives as long as an engine uses it."""
    key: Any = cuda.handle
    found = _SHARED.get(key)
    if found is None:
        found = _SHARED[key] = Space(cuda)
    return found
