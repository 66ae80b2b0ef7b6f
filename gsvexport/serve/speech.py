"""One caller's speech: a turn, a voice, and piece after piece, each computed when the one before was taken.

A thread is busy only while a piece is computed, so whoever reads slowly keeps nobody else's. A caller who leaves
cancels what is being written for him.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from gsvexport.errors import GsvError, InputError
from gsvexport.runtime.audio import Audio
from gsvexport.runtime.batch import Batch, Written
from gsvexport.serve.catalogue import Offer
from gsvexport.serve.pool import Opened, Pool
from gsvexport.serve.settings import Settings
from gsvexport.serve.turns import Line
from gsvexport.stages import VERSIONS

THREADS = 64  # pieces that are computed at once; most of them wait for codes


@dataclass(frozen=True)
class Wish:
    """What a caller wants to hear."""

    offer: Offer
    text: str
    seed: int = 0
    speed: float = 1.0
    language: str | None = None
    pieces: bool = False


class Left(GsvError):
    """The caller is gone, and so is what was being written for him."""


class Share:
    """A caller's side of a batch: it submits for one caller, no more at once than is fair, and cancels for him.

    Sentences of a batch are begun in the order in which they were submitted. A long text that submitted all of its
    own would keep others waiting; so it waits for one of its own as soon as it has `most()` of them.
    """

    def __init__(self, batch: Batch, most: Callable[[], int]) -> None:
        self._batch, self._most = batch, most
        self._lock = threading.Lock()
        self._mine: list[Written] = []
        self._left = False

    def submit(self, *args: Any, **options: Any) -> Written:
        """As `Batch.submit`.

        Raises:
            Left: the caller is gone.
        """
        while True:
            with self._lock:
                if self._left:
                    raise Left("the caller left")
                self._mine = [one for one in self._mine if not one.done]
                oldest = self._mine[0] if len(self._mine) >= max(1, self._most()) else None
            if oldest is None:
                break
            oldest.wait()
        written = self._batch.submit(*args, **options)
        with self._lock:
            self._mine.append(written)
            if self._left:
                written.cancel()
        return written

    def cancel(self) -> None:
        """Write no further for this caller."""
        with self._lock:
            self._left = True
            for one in self._mine:
                one.cancel()


class Desk:
    """Where callers come to: a line for each voice, the pool, and the threads that compute."""

    def __init__(self, settings: Settings, pool: Pool) -> None:
        self._settings, self.pool = settings, pool
        self._lines: dict[str, Line] = {}
        self._threads = ThreadPoolExecutor(THREADS, "gsvexport-serve")

    def line(self, offer: Offer) -> Line:
        """The callers of a voice."""
        if offer.id not in self._lines:
            self._lines[offer.id] = Line(offer.id, self._settings.rows, self._settings.queue)
        return self._lines[offer.id]

    @property
    def waiting(self) -> int:
        """Callers who wait for a turn, of all voices."""
        return sum(one.waiting for one in self._lines.values())

    @property
    def opened(self) -> tuple[str, ...]:
        """Keys of the open voices."""
        return self.pool.open

    @property
    def growth(self) -> int:
        """Bytes of the budget that are taken."""
        return self.pool.growth

    async def open(self, offer: Offer) -> None:
        """Open a voice before anybody asks for it.

        Raises:
            ArtifactError, BackendError: it cannot be opened.
        """
        async with self.pool.lease(offer):
            pass

    def keep(self, keys: Iterable[str]) -> None:
        """As `Pool.keep`."""
        self.pool.keep(keys)

    def speech(self, wish: Wish) -> Speech:
        """What is said to one caller; `async with` it."""
        return Speech(self, wish, self._threads)

    async def close(self) -> None:
        """Close every voice; nobody may be speaking."""
        await self.pool.close()
        self._threads.shutdown(wait=False, cancel_futures=True)


class Speech:
    """A turn of a caller. `rate` is known inside of the block; `next` gives the pieces."""

    def __init__(self, desk: Desk, wish: Wish, threads: ThreadPoolExecutor) -> None:
        self._desk, self._wish, self._threads = desk, wish, threads
        self._stack = AsyncExitStack()
        self._job: asyncio.Future[Any] | None = None
        self._ending: asyncio.Future[None] | None = None
        self._pieces: Iterator[Audio] | None = None
        self._share: Share | None = None
        self._opened: Opened | None = None

    @property
    def rate(self) -> int:
        """Samples a second."""
        return self._wish.offer.model.rate

    async def __aenter__(self) -> Speech:
        line = self._desk.line(self._wish.offer)
        try:
            turn = await line.enter()
            self._stack.callback(line.leave, turn)
            self._opened = await self._stack.enter_async_context(self._desk.pool.lease(self._wish.offer))
        except BaseException:
            await self._stack.aclose()
            raise
        rows = self._desk._settings.rows
        self._share = Share(self._opened.batch, lambda: rows // max(1, line.speaking))
        return self

    async def __aexit__(self, *_: object) -> None:
        # In a task of its own: whoever is cancelled twice would otherwise leave a voice without a lease under a thread.
        self._ending = asyncio.ensure_future(self._end())
        await asyncio.shield(self._ending)

    async def _end(self) -> None:
        assert self._share is not None
        self._share.cancel()
        if self._job is not None:
            await asyncio.wait({self._job})
            if not self._job.cancelled():
                self._job.exception()  # whoever left does not want to hear of it
        close = getattr(self._pieces, "close", None)
        if close is not None:
            close()
        await self._stack.aclose()

    async def next(self) -> Audio | None:
        """The next piece; None after the last one.

        Raises:
            InputError: what is wrong with the text or the other wishes, before the first piece.
            BackendError: the voice failed.
            Left: the caller is gone.
        """
        self._job = asyncio.get_running_loop().run_in_executor(self._threads, self._compute)
        piece: Audio | None = await asyncio.shield(self._job)
        return piece

    def _compute(self) -> Audio | None:
        """In a thread: begin, or go on."""
        try:
            if self._pieces is None:
                self._pieces = self._begin()
            return next(self._pieces, None)
        except CancelledError:
            raise Left("the caller left") from None
        except InputError as error:
            assert self._opened is not None
            name, path = self._wish.offer.id, str(self._opened.folder)
            problems = [one.replace(path, name) for one in error.problems]
            what = error.what.replace(path, name)
            raise InputError(what, found=error.found, limit=error.limit, problems=problems, fix=error.fix) from error

    def _begin(self) -> Iterator[Audio]:
        assert self._opened is not None
        wish, voice = self._wish, self._opened.voice
        how: dict[str, Any] = {
            "language": wish.language,
            "seed": wish.seed,
            "speed": wish.speed,
            "batch": self._share,
        }
        if wish.pieces and VERSIONS[voice.model.version].mel is None:
            return voice.stream(wish.text, **how)
        return _Whole(lambda: voice.synthesize(wish.text, **how))


class _Whole:
    """A text in one piece."""

    def __init__(self, make: Callable[[], Audio]) -> None:
        self._make: Callable[[], Audio] | None = make

    def __iter__(self) -> Iterator[Audio]:
        return self

    def __next__(self) -> Audio:
        if self._make is None:
            raise StopIteration
        make, self._make = self._make, None
        return make()
