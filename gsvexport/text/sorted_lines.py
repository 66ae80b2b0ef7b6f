"""A dictionary as one block of sorted lines, searched by bisection: a dict would take ten times as much memory."""

from __future__ import annotations

import lzma
from collections.abc import Iterable, Iterator
from pathlib import Path

_FILTER = {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 4, "lp": 0, "pb": 0}  # smallest of a few


class SortedLines:
    """Lines "key TAB value", sorted by their bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = b"\n" + data

    def get(self, key: str) -> bytes | None:
        """The value of a key, or None where there is none."""
        found, value = self._first(key.encode("utf-8"))
        return value if found == key.encode("utf-8") else None

    def __iter__(self) -> Iterator[str]:
        """All keys, in the order of their bytes."""
        for line in self._data[1:].splitlines():
            yield line.partition(b"\t")[0].decode("utf-8")

    def find(self, key: str) -> tuple[bytes | None, bool]:
        """The value of a key, or None; and whether there is a key that begins with it."""
        wanted = key.encode("utf-8")
        found, value = self._first(wanted)
        return (value if found == wanted else None), found.startswith(wanted)

    def _first(self, wanted: bytes) -> tuple[bytes, bytes]:
        """The first entry that does not come before a key; an empty one after the last."""
        data = self._data
        low, high = 0, len(data) - 1  # both at the line break before an entry
        while low < high:
            start = data.rfind(b"\n", 0, (low + high) // 2 + 1)
            stop = data.index(b"\n", start + 1)
            if data[start + 1 : stop].partition(b"\t")[0] < wanted:
                low = stop
            else:
                high = start
        key, _, value = data[low + 1 : data.find(b"\n", low + 1)].partition(b"\t")
        return key, value


def load(path: Path, parts: int) -> list[SortedLines]:
    """The blocks of a file of `pack`."""
    blocks = lzma.decompress(path.read_bytes()).split(b"\0", parts - 1)
    return [SortedLines(block) for block in blocks]


def pack(blocks: Iterable[dict[str, bytes]]) -> bytes:
    """Several dictionaries, compressed; equal input gives equal bytes."""
    texts = []
    for block in blocks:
        entries = sorted((key.encode("utf-8"), value) for key, value in block.items())
        texts.append(b"".join(key + b"\t" + value + b"\n" for key, value in entries))
    return lzma.compress(b"\0".join(texts), filters=[_FILTER])
