"""The zip container of a torch file, read in place.

Members are found through the central directory and located through their own headers; every offset and size is checked
against the file before a byte of the member is touched. Nothing is ever extracted to a path.
"""

from __future__ import annotations

import io
import itertools
import mmap
import struct
import zipfile
import zlib
from collections import Counter
from dataclasses import dataclass

MAX_DIRECTORY_BYTES = 2 << 20  # a full-size voice's has 0.1 MB
MAX_EXPANSION = 16  # of all compressed members together, relative to the file
MAX_UNPACKED = 1 << 30  # bytes of the same
_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
_ENCRYPTED, _SIZES_FOLLOW = 0x1, 0x8
_ZIP64 = 0xFFFFFFFF


class ArchiveError(ValueError):
    """The container is damaged, contradicts itself, or uses a feature that no voice needs."""


@dataclass(frozen=True)
class Member:
    """One entry: `start` and `stored` give the place and length of its bytes, `size` the unpacked length."""

    name: str
    start: int
    stored: int
    size: int
    compressed: bool
    crc: int


class _Reader(io.RawIOBase):
    """The mapped file as `zipfile` wants it, with a limit on what is read at once."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data, self._at = data, 0

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + {0: 0, 1: self._at, 2: len(self._data)}[whence]
        if self._at < 0:
            raise OSError("seek before the start")
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        size = len(self._data) - self._at if size < 0 else size
        if size > MAX_DIRECTORY_BYTES:
            raise ArchiveError(f"the zip directory has {size} bytes, more than {MAX_DIRECTORY_BYTES}")
        found = self._data[self._at : self._at + size]
        self._at += len(found)
        return found


def members(data: mmap.mmap) -> dict[str, Member]:
    """Every entry of the archive by name.

    Raises:
        ArchiveError: not a whole zip file, an encrypted or doubled entry, an entry whose sizes or place are wrong.
    """
    try:
        with zipfile.ZipFile(_Reader(data)) as archive:
            entries, directory = archive.infolist(), archive.start_dir
    except ArchiveError:
        raise
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError) as error:
        raise ArchiveError(f"the zip directory cannot be read ({error}): the file is cut short or damaged") from error
    except (ValueError, KeyError, OSError, EOFError, OverflowError, struct.error) as error:
        raise ArchiveError(f"the zip directory is damaged ({error})") from error
    if doubled := [name for name, count in Counter(entry.filename for entry in entries).items() if count > 1]:
        raise ArchiveError(f"the zip holds {doubled[0]!a} more than once")
    found = sorted((_member(data, entry, directory) for entry in entries), key=lambda member: member.start)
    for first, second in itertools.pairwise(found):
        if first.start + first.stored > second.start:
            raise ArchiveError(f"the zip entries {first.name!a} and {second.name!a} overlap")
    limit = min(MAX_EXPANSION * len(data), MAX_UNPACKED)
    if (unpacked := sum(member.size for member in found if member.compressed)) > limit:
        raise ArchiveError(f"the zip entries unpack to {unpacked} bytes, more than {limit}")
    return {member.name: member for member in found}


def _member(data: mmap.mmap, entry: zipfile.ZipInfo, directory: int) -> Member:
    name = entry.filename
    if entry.flag_bits & _ENCRYPTED:
        raise ArchiveError(f"the zip entry {name!a} is encrypted")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ArchiveError(f"the zip entry {name!a} is packed by method {entry.compress_type}; only 0 and 8 are read")
    offset = entry.header_offset
    if not 0 <= offset <= directory - _LOCAL_HEADER.size:
        raise ArchiveError(f"the zip entry {name!a} lies outside of the file")
    header = _LOCAL_HEADER.unpack_from(data, offset)
    magic, _, flags, method, _, _, _, stored, size, name_length, extra_length = header
    start = offset + _LOCAL_HEADER.size + name_length + extra_length
    if magic != b"PK\x03\x04" or method != entry.compress_type or start + entry.compress_size > directory:
        raise ArchiveError(f"the zip entry {name!a} has a wrong header, or is longer than the file")
    told = {_ZIP64, 0} if flags & _SIZES_FOLLOW else {_ZIP64}
    compressed = method == zipfile.ZIP_DEFLATED
    if (
        (stored not in told and stored != entry.compress_size)
        or (size not in told and size != entry.file_size)
        or (not compressed and entry.compress_size != entry.file_size)
    ):
        raise ArchiveError(
            f"the zip entry {name!a} lies about its size: {entry.file_size} bytes in the directory, "
            f"{size} in its header, {entry.compress_size} stored"
        )
    return Member(name, start, entry.compress_size, entry.file_size, compressed, entry.CRC)


def content(data: mmap.mmap, member: Member) -> memoryview:
    """The bytes of a member: a view of the file where it is stored as is, else an unpacked copy.

    Raises:
        ArchiveError: the bytes do not unpack to the size told, or do not have the checksum told.
    """
    view = memoryview(data)[member.start : member.start + member.stored]
    if member.compressed:
        unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            view = memoryview(unpacker.decompress(view, member.size + 1))
        except zlib.error as error:
            raise ArchiveError(f"the zip entry {member.name!a} cannot be unpacked ({error})") from error
        if len(view) != member.size or not unpacker.eof:
            raise ArchiveError(
                f"the zip entry {member.name!a} lies about its size: it does not unpack to {member.size}"
            )
    if zlib.crc32(view) != member.crc:
        raise ArchiveError(f"the zip entry {member.name!a} is damaged: its checksum is wrong")
    return view


def small_content(data: mmap.mmap, member: Member, limit: int) -> bytes:
    """A copy of a member that may have at most `limit` bytes.

    Raises:
        ArchiveError: it is larger, or as `content`.
    """
    if member.size > limit:
        raise ArchiveError(f"the zip entry {member.name!a} has {member.size} bytes, more than {limit}")
    return bytes(content(data, member))
