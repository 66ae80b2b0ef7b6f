"""Where everything lies in a `.gsv`: a zip of stored members whose every byte outside of them follows from their names,
sizes and CRCs. Written here and not by `zipfile`, so that no release of Python changes a byte; reading compares.

Formats: PKWARE's APPNOTE.TXT 6.3, sections 4.3.7 (local header), 4.3.12 (directory), 4.3.14 to 4.3.16 (its end), 4.5.3
(zip64).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_SIGNATURE = b"PK\3\4"
_DATE = 0x21  # 1 January 1980, where the format's calendar begins
_UNIX, _MODE = 3 << 8, 0o100644 << 16  # the same on every system
_LIMIT = 0xFFFFFFFF
LONGEST_HEADER = _LOCAL.size + 200 + 20  # bytes: the longest name of a member, and zip64's sizes


@dataclass(frozen=True)
class Entry:
    """One member as it lies in the file: its local header at byte `start`, then `size` bytes with this `crc`."""

    name: str
    start: int
    size: int
    crc: int

    @property
    def offset(self) -> int:
        """Where its bytes begin."""
        return self.start + len(local_header(self))

    @property
    def end(self) -> int:
        """Where the next member begins."""
        return self.offset + self.size


def local_header(entry: Entry) -> bytes:
    """What stands before a member's bytes."""
    name = entry.name.encode("ascii")
    large = entry.size >= _LIMIT
    extra = struct.pack("<HHQQ", 1, 16, entry.size, entry.size) if large else b""
    size = _LIMIT if large else entry.size
    version = 45 if large else 20
    return _LOCAL.pack(_SIGNATURE, version, 0, 0, 0, _DATE, entry.crc, size, size, len(name), len(extra)) + name + extra


def read_header(data: bytes, start: int) -> Entry | None:
    """The member whose local header `data` begins with, or None where it is not one that `local_header` writes."""
    if len(data) < _LOCAL.size:
        return None
    fields = _LOCAL.unpack_from(data)
    crc, size, length, extra = fields[6], fields[7], fields[9], fields[10]
    end = _LOCAL.size + length
    if extra:
        if extra != 20 or len(data) < end + extra:
            return None
        size = struct.unpack_from("<Q", data, end + 4)[0]
    try:
        entry = Entry(data[_LOCAL.size : end].decode("ascii"), start, size, crc)
    except UnicodeDecodeError:
        return None
    return entry if data.startswith(local_header(entry)) else None


def directory(entries: Sequence[Entry]) -> bytes:
    """What stands behind the last member: the table of contents and its end."""
    table = b"".join(_central(entry) for entry in entries)
    start, count = entries[-1].end, len(entries)
    end = b""
    if start + len(table) >= _LIMIT:
        end = _END64.pack(b"PK\6\6", _END64.size - 12, 45 | _UNIX, 45, 0, 0, count, count, len(table), start)
        end += _LOCATOR.pack(b"PK\6\7", 0, start + len(table), 1)
        start = _LIMIT
    return table + end + _END.pack(b"PK\5\6", 0, 0, count, count, len(table), start, 0)


def _central(entry: Entry) -> bytes:
    name = entry.name.encode("ascii")
    sizes = [entry.size, entry.size] if entry.size >= _LIMIT else []
    wide = [*sizes, *([entry.start] if entry.start >= _LIMIT else [])]
    extra = struct.pack(f"<HH{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
    version, size, start = 45 if wide else 20, min(entry.size, _LIMIT), min(entry.start, _LIMIT)
    head = _CENTRAL.pack(
        *(b"PK\1\2", version | _UNIX, version, 0, 0, 0, _DATE, entry.crc, size, size),
        *(len(name), len(extra), 0, 0, 0, _MODE, start),
    )
    return head + name + extra
