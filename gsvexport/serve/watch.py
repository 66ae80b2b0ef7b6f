"""Looking again, while the server runs, for what is published and what was taken back."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable

from gsvexport.errors import GsvError
from gsvexport.serve.catalogue import Catalogue
from gsvexport.serve.logs import Log


class Watch:
    """Looks every `seconds`, or when it is told to, and hands on what there is now."""

    def __init__(
        self, look: Callable[[], Catalogue], change: Callable[[Catalogue], Awaitable[None]], seconds: float, log: Log
    ) -> None:
        self._look, self._change, self._seconds, self._log = look, change, seconds, log
        self._now = asyncio.Event()
        self._failed = ""
        self._looking: asyncio.Future[None] | None = None
        self._refused: dict[str, str] = {}

    def begun(self, catalogue: Catalogue) -> None:
        """Tell of what was passed over at the first look."""
        self._tell(catalogue)

    def now(self) -> None:
        """Look without waiting."""
        self._now.set()

    async def run(self) -> None:
        """Until it is cancelled. A look that fails changes nothing; it is told of once."""
        while True:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._now.wait(), self._seconds or None)
            self._now.clear()
            await self.look()

    async def look(self) -> None:
        """Look once, now, unless somebody does: then that look is waited for."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.ensure_future(self._once())
        await asyncio.shield(self._looking)

    async def _once(self) -> None:
        try:
            found = await _in_thread(self._look)
            self._tell(found)
            await self._change(found)
        except Exception as error:  # also a defect of ours: what is served now goes on being served
            known = isinstance(error, (GsvError, OSError))
            failed = " ".join(str(error).split()) if known else repr(error)
            if failed != self._failed:
                self._log("look_failed", error=failed)
            self._failed = failed
        else:
            self._failed = ""

    def _tell(self, found: Catalogue) -> None:
        """Log what is passed over now and was not before."""
        for where, why in found.refused.items():
            if self._refused.get(where) != why:
                self._log("refused", where=where, why=" ".join(why.split()))
        self._refused = dict(found.refused)


async def _in_thread(work: Callable[[], Catalogue]) -> Catalogue:
    """In a thread that nobody waits for at the end: a repository may take its time to answer."""
    loop, done = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()

    def give(set_it: Callable[..., None], value: object) -> None:
        if not done.done():
            set_it(value)

    def run() -> None:
        try:
            found: tuple[Callable[..., None], object] = (done.set_result, work())
        except BaseException as error:
            found = (done.set_exception, error)
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(give, *found)

    threading.Thread(target=run, name="gsvexport-watch", daemon=True).start()
    result: Catalogue = await done
    return result
