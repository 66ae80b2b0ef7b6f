"""A desk whose voices are open elsewhere: each speech is a stream of messages from a replica that may die meanwhile.

    ("rate", 24000)                                 once the caller has his turn
    ("piece", samples float32 [N], rate, notes)     each piece of sound
    ("fault", status, message, code, param, headers)

The same wish gives the same sound. So what is lost before the caller heard anything is asked for again. Afterwards
another machine's sound might not fit on to it, and the answer is cut.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from gsvexport.runtime.audio import Audio
from gsvexport.serve.catalogue import Offer
from gsvexport.serve.faults import Fault
from gsvexport.serve.speech import Wish

_TRIES = 4
_PAUSE = 0.2  # s before the second try; each further one waits as much longer
_AFTER = "5"  # s, that who is refused is told to wait


class Stream(Protocol):
    """Messages from a replica; `cancel` has it write no further."""

    async def __anext__(self) -> tuple[Any, ...]: ...

    def cancel(self) -> None:
        """Nobody listens any more."""


class FarDesk:
    """`call` begins a wish somewhere; `busy` and `lost` are the errors of a queue that is full and of a replica, or a
    machine, that is gone."""

    opened = None  # which voices are open, and the memory they take, only the replicas know
    growth = None

    def __init__(
        self, call: Callable[[Wish], Stream], busy: tuple[type[Exception], ...], lost: tuple[type[Exception], ...]
    ) -> None:
        self.call, self.busy, self.lost = call, busy, lost
        self.waiting = 0

    async def open(self, offer: Offer) -> None:
        """Nothing: each replica opens what is pinned."""

    def keep(self, keys: Iterable[str]) -> None:
        """Nothing: each replica looks for itself."""

    def speech(self, wish: Wish) -> FarSpeech:
        """What is said to one caller; `async with` it."""
        return FarSpeech(self, wish)

    async def close(self) -> None:
        """Nothing is open here."""


class FarSpeech:
    """As `Speech`, from elsewhere."""

    def __init__(self, desk: FarDesk, wish: Wish) -> None:
        self._desk, self._wish = desk, wish
        self._stream: Stream | None = None
        self._heard, self._tries = False, 0
        self.rate = 0

    async def __aenter__(self) -> FarSpeech:
        self._desk.waiting += 1
        try:
            while not self.rate:
                await self._receive()
        except BaseException:
            self._leave()
            raise
        finally:
            self._desk.waiting -= 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self._leave()

    def _leave(self) -> None:
        if self._stream is not None:
            self._stream.cancel()

    async def next(self) -> Audio | None:
        """The next piece; None after the last one.

        Raises:
            Fault: what the replica refused; nobody has time; or whoever spoke is gone, and the caller has heard some
                of it, or nobody else could be had.
        """
        while (message := await self._receive()) is not None:
            if message[0] == "piece":
                self._heard = True
                _, samples, rate, notes = message
                return Audio(samples, rate, tuple(notes))
        return None

    async def _receive(self) -> tuple[Any, ...] | None:
        """The next message, from another replica where this one is lost; None after the last one."""
        if self._stream is None:
            self._stream = self._desk.call(self._wish)
        try:
            message = await self._stream.__anext__()
        except StopAsyncIteration:
            return None
        except self._desk.busy as error:
            what = f"too many want to hear {self._wish.offer.id}"
            raise Fault(429, what, "busy", headers=(("retry-after", _AFTER),)) from error
        except self._desk.lost as error:
            self._tries += 1
            if self._heard or self._tries == _TRIES:
                what = "the machine that spoke is gone"
                raise Fault(503, what, "lost", headers=(("retry-after", _AFTER),)) from error
            self._stream = None
            await asyncio.sleep(_PAUSE * self._tries)
            return ("again",)
        if message[0] == "fault":
            raise Fault(*message[1:])
        if message[0] == "rate":
            if self.rate not in (0, message[1]):  # it was replaced meanwhile, and the caller was told the old rate
                raise Fault(503, "the voice was replaced", "replaced", headers=(("retry-after", _AFTER),))
            self.rate = message[1]
        return message
