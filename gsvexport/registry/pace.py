"""How long a transfer may take: what is too slow, or takes too long, ends.

A server that sends a byte now and then would hold a pull for ever, since every one of them is progress.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import IO, Any

from gsvexport.errors import ArtifactError, EnvironmentProblem

FLOOR = 1000  # bytes a second, over WINDOW
WINDOW = 20.0  # seconds
SLACK = 600.0  # seconds that any transfer may take, whatever its size
CHUNK = 1 << 20  # bytes


class Pace:
    """The clock of one file's transfer, of about `size` bytes, over all of its connections."""

    def __init__(self, size: int, what: str) -> None:
        self._what, self._limit = what, SLACK + size / FLOOR
        self._began = self._since = time.monotonic()
        self._came = 0

    def came(self, count: int) -> None:
        """Note bytes that came, and look at the clock.

        Raises:
            EnvironmentProblem: they come too slowly, or the transfer takes too long.
        """
        now = time.monotonic()
        self._came += count
        if now - self._began > self._limit:
            raise self._problem(f"{now - self._began:.0f} s", f"{self._limit:.0f} s")
        if now - self._since >= WINDOW:
            rate = self._came / (now - self._since)
            if rate < FLOOR:
                raise self._problem(f"{rate:.0f} bytes a second", f"at least {FLOOR}, over {WINDOW:.0f} s")
            self._since, self._came = now, 0

    def pause(self, seconds: float) -> None:
        """Wait, outside of the time that counts for speed."""
        time.sleep(seconds)
        self._since, self._came = time.monotonic(), 0

    def _problem(self, found: str, limit: str) -> EnvironmentProblem:
        return EnvironmentProblem(
            f"{self._what} comes too slowly", found=found, limit=limit, fix="try again later, or another place"
        )


def pieces(stream: IO[bytes], most: int, pace: Pace, chunk: int = CHUNK) -> Iterator[bytes]:
    """At most so many bytes of a stream, each piece as soon as it is there."""
    read: Any = getattr(stream, "read1", None) or stream.read
    while most > 0 and (piece := read(min(chunk, most))):
        pace.came(len(piece))
        yield piece[:most]
        most -= len(piece)


class Interrupted(Exception):
    """A transfer that ended early or that a server had no time for; trying again may help."""


def bounded(stream: IO[bytes], limit: int, where: str) -> bytes:
    """All bytes of a stream, or `ArtifactError` where there are more than `limit`."""
    data = b"".join(pieces(stream, limit + 1, Pace(limit, where)))
    if len(data) > limit:
        raise ArtifactError(f"{where} is larger than it may be", limit=f"{limit} bytes")
    return data
