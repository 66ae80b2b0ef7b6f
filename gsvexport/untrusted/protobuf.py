"""Protobuf's wire format: https://protobuf.dev/programming-guides/encoding"""

from __future__ import annotations

import mmap
from collections.abc import Iterator

from gsvexport.untrusted.reading import Refused

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_WIDTHS = {FIXED32: 4, FIXED64: 8}


class Malformed(Refused):
    """No message, or one that is cut short."""


def fields(data: mmap.mmap | bytes, start: int, end: int) -> Iterator[tuple[int, int, int, int, int]]:
    """(number, first byte of all, first byte of the content, end, kind) of every field of the message in [start, end).

    Raises:
        Malformed: see there.
    """
    while start < end:
        begin = start
        tag, first = varint(data, start, end)
        kind = tag & 7
        if kind == VARINT:
            start = varint(data, first, end)[1]
        elif kind == BYTES:
            length, first = varint(data, first, end)
            start = first + length
        elif kind in _WIDTHS:
            start = first + _WIDTHS[kind]
        else:
            raise Malformed("is no protobuf message")
        if start > end:
            raise Malformed("is cut short")
        yield tag >> 3, begin, first, start, kind


def varint(data: mmap.mmap | bytes, start: int, end: int) -> tuple[int, int]:
    """The number at `start`, and where it ends.

    Raises:
        Malformed: see there.
    """
    value = 0
    for shift in range(0, 70, 7):
        if start >= end:
            raise Malformed("is cut short")
        byte = data[start]
        start += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, start
    raise Malformed("is no protobuf message")
