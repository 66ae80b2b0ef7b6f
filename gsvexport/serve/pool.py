"""The voices that are open: within a budget of measured memory, the one that was not used for longest closed first.

All state belongs to the event loop; only opening and closing run in threads. One voice is opened at a time, so what the
process's memory grows by meanwhile is that voice's, and what is being spoken.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gsvexport.artifact import container
from gsvexport.artifact.held import release
from gsvexport.errors import GsvError
from gsvexport.runtime.batch import Batch
from gsvexport.runtime.pipeline import LoadedVoice
from gsvexport.serve import memory
from gsvexport.serve.catalogue import Offer
from gsvexport.serve.settings import Settings
from gsvexport.serve.shared import Graphs

Told = Callable[[str, str, float, int], None]  # "opened" or "closed", the voice's id, seconds, bytes of growth


@dataclass(eq=False)
class Opened:
    """A voice that can speak, with the batch that all of its callers share."""

    offer: Offer
    voice: LoadedVoice
    batch: Batch
    folder: Path
    users: int = 0
    used: float = 0.0

    def close(self) -> None:
        """Free its graphs. Nobody may be speaking with it."""
        self.batch.close()
        self.voice.close()
        release(self.folder)


def open_offer(offer: Offer, settings: Settings, graphs: Graphs | None = None) -> Opened:
    """Open what was judged, and nothing else: the files are held to the manifest that the offer was made of. What other
    voices have open of the same `graphs` is not opened again.

    Raises:
        ArtifactError: the artifact was replaced since, or is damaged.
        BackendError: a graph cannot be opened.
    """
    folder = container.unpacked(offer.path, offer.text)  # every byte of it is as the offer's manifest says
    try:
        voice = (Graphs() if graphs is None else graphs).voice(folder, offer.manifest, settings.threads or None)
        try:
            voice.open()
        except BaseException:
            voice.close()
            raise
    except BaseException:
        release(folder)
        raise
    return Opened(offer, voice, voice.batch(settings.rows), folder)


class Abandoned(GsvError):
    """Nobody wants the voice any more that was to be opened."""


class Withdrawn(GsvError):
    """The voice was taken back before it was opened."""


class Pool:
    """Leases of open voices. `opener` and `resident` are other than the real ones in tests alone."""

    def __init__(
        self,
        settings: Settings,
        *,
        opener: Callable[[Offer, Settings], Opened] | None = None,
        resident: Callable[[], int] = memory.resident,
        told: Told = lambda *_: None,
    ) -> None:
        self._settings, self._resident, self._told = settings, resident, told
        self._opener = opener or partial(open_offer, graphs=Graphs())
        self._base = resident()
        self._open: dict[str, Opened] = {}  # by the offer's key: of one voice two versions may speak
        self._loading: dict[str, asyncio.Task[None]] = {}
        self._wanted: Counter[str] = Counter()  # callers who wait for a voice to be opened
        self._grew: dict[str, int] = {}  # bytes by which the process grew when a voice was opened last
        self._gate = asyncio.Lock()  # opening and closing, one at a time
        self._changed = asyncio.Event()
        self._kept: frozenset[str] | None = None  # keys of what is still served; None is everything
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def open(self) -> tuple[str, ...]:
        """Keys of the open voices."""
        return tuple(self._open)

    @property
    def growth(self) -> int:
        """Bytes of resident memory that came since the pool was made; the budget is for these."""
        return max(0, self._resident() - self._base)

    async def begin(self, offer: Offer, use: Callable[[Opened], None]) -> int:
        """Open a voice, use it and close it, and let the budget begin at what stays: it is no voice's.

        Returns the bytes that came back.

        Raises:
            ArtifactError, BackendError: it cannot be opened.
        """

        def once() -> int:
            opened = self._opener(offer, self._settings)
            try:
                use(opened)
                most = self._resident()
            finally:
                _close(opened)
            return most

        async with self._gate:
            most = await asyncio.to_thread(once)
            self._base = self._resident()
            self._grew[offer.key] = max(0, most - self._base)
            return self._grew[offer.key]

    @contextlib.asynccontextmanager
    async def lease(self, offer: Offer) -> AsyncIterator[Opened]:
        """The voice, open, and not closed before the block ends.

        Raises:
            ArtifactError, BackendError: it cannot be opened; the next caller tries again.
        """
        opened = await self._get(offer)
        opened.users += 1
        try:
            yield opened
        finally:
            opened.users -= 1
            opened.used = time.monotonic()
            self._changed.set()
            if not opened.users and (self._gone(offer.key) or self.growth > self._settings.memory):
                self._start(self._shrink())

    def keep(self, keys: Iterable[str]) -> None:
        """Serve only these from now on: what else is open is closed as soon as nobody is being spoken to by it."""
        self._kept = frozenset(keys)
        if any(map(self._gone, self._open)):
            self._start(self._shrink())

    async def close(self) -> None:
        """Close every voice."""
        for task in self._loading.values():
            task.cancel()
        await asyncio.gather(*self._loading.values(), return_exceptions=True)
        async with self._gate:
            while self._open:
                await asyncio.to_thread(self._open.popitem()[1].close)

    def _gone(self, key: str) -> bool:
        """Whether the voice is not served any more."""
        return self._kept is not None and key not in self._kept

    async def _get(self, offer: Offer) -> Opened:
        key = offer.key
        if key in self._open:
            return self._open[key]
        self._wanted[key] += 1
        try:
            if key not in self._loading:
                task = self._loading[key] = asyncio.create_task(self._load(offer))
                task.add_done_callback(lambda done: self._loaded(key, done))
            await asyncio.shield(self._loading[key])  # a caller who leaves does not stop it for the others
            return self._open[key]
        finally:
            self._wanted[key] -= 1
            if not self._wanted[key]:
                del self._wanted[key]
            if self._gone(key) and key in self._open:
                self._start(self._shrink())
            self._changed.set()

    def _loaded(self, key: str, task: asyncio.Task[None]) -> None:
        self._loading.pop(key, None)
        if not task.cancelled():
            task.exception()  # has been seen, although every caller may have left

    async def _load(self, offer: Offer) -> None:
        async with self._gate:
            await self._make_room(offer)
            before, began = self._resident(), time.monotonic()
            try:
                opened = await asyncio.to_thread(self._opener, offer, self._settings)
            except GsvError as error:
                if self._gone(offer.key):
                    raise Withdrawn(f"{offer.id} was taken back meanwhile") from error
                raise
            opened.used = time.monotonic()
            self._open[offer.key] = opened
            self._grew[offer.key] = max(0, self._resident() - before)
            self._told("opened", offer.id, opened.used - began, self._grew[offer.key])
            while self.growth > self._settings.memory and await self._close_one(but=offer.key):
                pass

    async def _make_room(self, offer: Offer) -> None:
        """Close what is idle until there is room for what the voice grew by the last time; of a voice that was never
        open nobody knows, so it may go beyond the budget until the next look.

        Where all others are speaking it waits, unless only pinned ones are open: one voice can always be opened.
        """
        if self._open and self.growth + self._grew.get(offer.key, 0) > self._settings.memory:
            await asyncio.to_thread(memory.give_back)
        while self.growth + self._grew.get(offer.key, 0) > self._settings.memory:
            if await self._close_one():
                continue
            if all(self._pinned(one.offer) for one in self._open.values()):
                return
            if not self._wanted[offer.key] and not self._pinned(offer):
                raise Abandoned(f"nobody waits for {offer.id} any more")
            self._changed.clear()
            await self._changed.wait()

    def _pinned(self, offer: Offer) -> bool:
        return offer.id in self._settings.pin and not self._gone(offer.key)

    async def _close_one(self, but: str = "") -> bool:
        """Close an idle voice: one that is not served any more, else the one that was not used for longest; false where
        there is none."""
        idle = [
            one
            for key, one in self._open.items()
            if not one.users and not self._wanted[key] and not self._pinned(one.offer) and key != but
        ]
        if not idle:
            return False
        first = min(idle, key=lambda one: (not self._gone(one.offer.key), one.used))
        began = time.monotonic()
        del self._open[first.offer.key]
        await asyncio.to_thread(_close, first)
        self._told("closed", first.offer.id, time.monotonic() - began, 0)
        return True

    async def _shrink(self) -> None:
        """Close what is not served any more, and come back within the budget after somebody spoke; what was used last
        stays."""
        async with self._gate:
            if self._open and self.growth > self._settings.memory:
                await asyncio.to_thread(memory.give_back)
            while self._open and (self.growth > self._settings.memory or self._idle_and_gone()):
                last = max(self._open.values(), key=lambda one: one.used).offer.key
                if not await self._close_one(but="" if self._gone(last) else last):
                    return

    def _idle_and_gone(self) -> bool:
        return any(self._gone(key) and not one.users and not self._wanted[key] for key, one in self._open.items())

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)  # the loop holds tasks weakly
        task.add_done_callback(self._tasks.discard)


def _close(opened: Opened) -> None:
    opened.close()
    memory.give_back()
