"""Who of a voice's callers speaks when: a bounded line, first come, first served, and room for a few at once."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque

from gsvexport.errors import GsvError

_REMEMBERED = 32  # turns whose times tell how long the next ones take
_LONGEST_WAIT = 600  # seconds, that a caller is told to stay away


class Busy(GsvError):
    """Nobody else can wait here now; `after` is in how many seconds it is worth trying again."""

    def __init__(self, what: str, after: int, **told: object) -> None:
        super().__init__(what, found=told.get("found"), limit=told.get("limit"), fix=f"try again in {after} s")
        self.after = after


class Line:
    """The callers of one voice: at most `most` speak at once and `room` wait, in the order in which they came."""

    def __init__(self, name: str, most: int, room: int) -> None:
        self._name, self._most, self._room = name, most, room
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._took: deque[float] = deque(maxlen=_REMEMBERED)
        self.speaking = 0
        self._began: dict[object, float] = {}

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    async def enter(self) -> object:
        """Wait for a turn; hand what this returns to `leave`.

        Raises:
            Busy: too many wait already.
        """
        if self.speaking >= self._most or self._waiting:
            if len(self._waiting) >= self._room:
                what = f"too many want to hear {self._name}"
                raise Busy(what, self._after(), found=f"{self.speaking} spoken to, {self.waiting} waiting")
            mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(mine)
            try:
                await mine
            except asyncio.CancelledError:
                if mine.done() and not mine.cancelled():  # the turn came as the caller left
                    self.speaking -= 1
                    self._next()
                else:
                    with contextlib.suppress(ValueError):  # passed over already
                        self._waiting.remove(mine)
                raise
        else:
            self.speaking += 1
        turn = object()
        self._began[turn] = time.monotonic()
        return turn

    def leave(self, turn: object) -> None:
        """Give a turn to whoever waits longest."""
        self._took.append(time.monotonic() - self._began.pop(turn))
        self.speaking -= 1
        self._next()

    def _next(self) -> None:
        while self._waiting and self.speaking < self._most:
            first = self._waiting.popleft()
            if not first.done():
                self.speaking += 1
                first.set_result(None)

    def _after(self) -> int:
        """Seconds until there is room, if turns take as long as the last ones took."""
        each = sum(self._took) / len(self._took) if self._took else 1.0
        return max(1, min(_LONGEST_WAIT, round(each * (self.waiting + 1) / self._most)))
