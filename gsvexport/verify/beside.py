"""A second thread: the source runs while the artifact does, which needs nothing of it for a long time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

from gsvexport.verify.cases import Array, Runnable

_T = TypeVar("_T")


class Beside:
    """One call after the other, in a thread of its own. Where the block ends by an exception, what is not done is given
    up: nobody waits for it who pressed Ctrl-C."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "gsvexport-beside")
        self._stopped = threading.Event()

    def __enter__(self) -> Beside:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._pool.shutdown(cancel_futures=True)

    def start(self, call: Callable[..., _T], *arguments: Any, **options: Any) -> Future[_T]:
        """Call this when what was started before is done."""
        return self._pool.submit(call, *arguments, **options)

    def stopping(self, voice: Runnable) -> Runnable:
        """The voice, which runs no further stage once the block has ended."""
        return _Stopping(voice, self._stopped)


class _Stopping:
    def __init__(self, voice: Runnable, stopped: threading.Event) -> None:
        self.model, self.stages, self.baked = voice.model, voice.stages, voice.baked
        self._voice, self._stopped = voice, stopped

    def run(self, stage: str, feeds: Mapping[str, Any]) -> dict[str, Array]:
        """As the voice's."""
        if self._stopped.is_set():
            raise RuntimeError("nobody waits for it any more")
        return self._voice.run(stage, feeds)
