"""Reading what somebody else made. Files are opened, names that stand in files are judged, and JSON and arrays are
parsed here and nowhere else, each within a bound.

What is refused is a `Refused`, with the reason in words that follow a file's name; callers make it an error of theirs.
Artifacts carry this module: it runs on Python 3.8 and needs numpy for arrays alone.
"""

from __future__ import annotations

import ast
import errno
import json
import math
import os
import re
import stat
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from gsvexport.system.names import refused

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_DEPTH = 32  # of lists and tables in one another
MOST_VALUES = 200_000  # in one JSON text; 100 bytes each, about, once they are Python's
LARGEST_JSON = 8 << 20  # bytes
LARGEST_ARRAY = 256 << 20  # bytes: 180 s of a reference's mel, or text features of 65,000 phones
LONGEST_NAME = 200
_LARGEST_NUMBER = 1 << 63
_LONGEST_DIGITS = 40
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_KINDS = {
    stat.S_IFDIR: "is a folder, where a file is wanted",
    stat.S_IFIFO: "is a pipe and cannot be read at any place; write it to a file first",
    stat.S_IFCHR: "is a device, no file",
    stat.S_IFBLK: "is a device, no file",
    stat.S_IFSOCK: "is a socket, no file",
}
_JUNCTION = 0xA0000003  # IO_REPARSE_TAG_MOUNT_POINT
_NPY = b"\x93NUMPY"
_LONGEST_HEADER = 4096  # bytes of an array's description


class Refused(ValueError):
    """Why something is not read, in words that follow its name."""


def safe_name(name: object) -> bool:
    """Whether a name out of a file stays inside the folder that it is looked up in, on every system.

    It is parts with `/` between them; each begins with a letter, a digit or `_`, so none is "..", hidden, or a drive's,
    and none is one that Windows reads as another.
    """
    return (
        isinstance(name, str)
        and len(name) <= LONGEST_NAME
        and all(_PART.fullmatch(part) and not refused(part) for part in name.split("/"))
    )


def inside(folder: Path, name: object) -> Path:
    """The file or folder that a name out of a file means, below `folder`.

    Raises:
        Refused: the name leads, or could lead, somewhere else; or a part of it is a link, which could, too.
    """
    if not safe_name(name):
        raise Refused(f"names a file {str(name)[:LONGEST_NAME]!a}, which is no name inside a folder")
    path = folder
    for part in str(name).split("/"):
        path = path / part
        if _is_link(path):
            raise Refused(f"names {name}, and {path} is a link, which is not followed")
    return path


def _is_link(path: Path) -> bool:
    """Whether a name stands for another place: a link, or what Windows calls a junction."""
    if path.is_symlink():
        return True
    try:
        return getattr(os.lstat(path), "st_reparse_tag", 0) == _JUNCTION
    except (OSError, ValueError):
        return False


def opened(path: Path) -> BinaryIO:
    """A regular file, open for reading. Nothing waits: a pipe without a writer does not hold anybody up.

    Raises:
        Refused: it is no regular file.
        OSError: it cannot be opened.
    """
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except PermissionError:
        if os.path.isdir(path):  # which Windows does not open
            raise Refused(_KINDS[stat.S_IFDIR]) from None
        raise
    try:
        kind = stat.S_IFMT(os.fstat(handle).st_mode)
        if kind != stat.S_IFREG:
            raise Refused(_KINDS.get(kind, "is no regular file"))
    except BaseException:
        os.close(handle)
        raise
    return os.fdopen(handle, "rb")  # owns the handle from its first line on, also where a Ctrl-C ends it


def regular(path: Path) -> bool:
    """Whether a regular file is there; false as well where the name is none."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def read_bytes(path: Path, limit: int) -> bytes:
    """All of a regular file of at most `limit` bytes.

    Raises:
        Refused: larger, or no regular file.
        OSError: it cannot be read.
    """
    with opened(path) as stream:
        if (size := os.fstat(stream.fileno()).st_size) > limit:
            raise Refused(f"has {size} bytes; at most {limit} are read")
        most = min(limit, max(size, 1 << 16))  # those of /proc have no size; and memory is taken for all that is asked
        data = stream.read(most + 1)
    if len(data) > most:
        raise Refused(f"has more than {most} bytes, or grows while it is read")
    return data


def read_text(path: Path, limit: int, *, mark: bool = False) -> str:
    """All of a regular file of UTF-8 text; with `mark` one at its start is left out.

    Raises: as `read_bytes`, and `Refused` where it is not UTF-8.
    """
    return utf8(read_bytes(path, limit), mark=mark)


def utf8(data: bytes, *, mark: bool = False) -> str:
    """Bytes as text.

    Raises:
        Refused: they are not UTF-8; says where, and what they seem to be.
    """
    try:
        return data.decode("utf-8-sig" if mark else "utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        seems = "; it seems to be UTF-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        raise Refused(f"is not UTF-8: byte {data[error.start]:#04x} in line {line}{seems}") from None


def lines(text: str) -> list[str]:
    """The lines of a text as editors count them. For `str.splitlines` form feeds, U+2028 and others end one, too."""
    found = re.split("\r\n|\r|\n", text)
    return found[:-1] if not found[-1] else found


def parse_json(data: bytes, *, most: int = MOST_VALUES, limit: int = LARGEST_JSON) -> Any:
    """The value of a JSON text, of at most `limit` bytes and about `most` values.

    Raises:
        Refused: too large, too deep, not JSON or not UTF-8, with a key twice, or with numbers that nothing here has.
    """
    if len(data) > limit:
        raise Refused(f"has {len(data)} bytes of JSON; at most {limit} are read")
    if sum(map(data.count, (b",", b"[", b"{", b":"))) > most:  # before it is parsed: each value takes 50 times its text
        raise Refused(f"has more than {most} values")
    try:
        text = utf8(data)
    except Refused as error:
        raise Refused(f"is not JSON: it {error}") from None
    try:
        value = json.loads(
            text, object_pairs_hook=_table, parse_int=_whole, parse_float=_real, parse_constant=_no_number
        )
    except Refused:
        raise
    except ValueError as error:
        raise Refused(f"is not JSON: {error}") from None
    except RecursionError:
        raise Refused(f"is not JSON that is read: it is deeper than {MOST_DEPTH} lists and tables") from None
    if _deeper(value, MOST_DEPTH):
        raise Refused(f"is not JSON that is read: it is deeper than {MOST_DEPTH} lists and tables")
    if "\\ud" in text.lower():  # an escape may stand for half of a character, which cannot be written again
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise Refused("has half of a character") from None
    return value


def read_json(path: Path, *, most: int = MOST_VALUES, limit: int = LARGEST_JSON) -> Any:
    """The value of a JSON file.

    Raises: as `read_bytes` and `parse_json`.
    """
    return parse_json(read_bytes(path, limit), most=most, limit=limit)


def read_array(path: Path, limit: int = LARGEST_ARRAY) -> NDArray[Any]:
    """The array of a `.npy` file: numbers or truth values of at most 8 bytes each, and not a byte more in the file.

    Format: numpy's NEP 1, versions 1 and 2.

    Raises: as `read_bytes`, and `Refused` where the file is no such array.
    """
    return parse_array(read_bytes(path, limit))


def parse_array(data: bytes) -> NDArray[Any]:
    """The array of the content of a `.npy` file; see `read_array`."""
    import numpy as np

    layout = {b"\1\0": "<H", b"\2\0": "<I"}.get(data[6:8])
    if data[:6] != _NPY or layout is None or len(data) < 12:
        raise Refused("is no .npy array of version 1 or 2")
    start = 8 + struct.calcsize(layout)
    (length,) = struct.unpack_from(layout, data, 8)
    if length > min(_LONGEST_HEADER, len(data) - start):
        raise Refused("is no .npy array: its description is too long")
    try:
        told = ast.literal_eval(data[start : start + length].decode("latin-1").strip())
        kind, shape, fortran = np.dtype(told["descr"]), told["shape"], told["fortran_order"]
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError):
        raise Refused("is no .npy array: its description cannot be read") from None
    if kind.kind not in "fiub" or kind.itemsize > 8 or kind.shape or not isinstance(told["descr"], str):
        raise Refused(f"is an array of {str(kind)[:40]}; numbers alone are read (allow_pickle=False)")
    if not isinstance(shape, tuple) or len(shape) > 8 or not all(type(one) is int and one >= 0 for one in shape):
        raise Refused("is no .npy array: its shape is none")
    start += length
    if math.prod(shape) * kind.itemsize != len(data) - start or not isinstance(fortran, bool):
        raise Refused(f"is damaged: {len(data) - start} bytes are no array {list(shape)} of {kind}")
    array = np.frombuffer(bytearray(data[start:]), kind)
    return array.reshape(shape, order="F" if fortran else "C")


def why(error: Exception) -> str:
    """What kept a file from being read, in words that follow its name; of `opened` and all that is built on it."""
    if not isinstance(error, OSError):
        return str(error)
    if error.errno == errno.ENXIO:
        return "is a socket or a pipe, no file"
    return f"cannot be read: {error.strerror or error}"


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Refused("has a key twice in one table")
    return found


def _whole(text: str) -> int:
    if len(text) > _LONGEST_DIGITS or not -_LARGEST_NUMBER <= int(text) < _LARGEST_NUMBER:
        raise Refused(f"has a whole number of {len(text)} digits")
    return int(text)


def _real(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise Refused(f"has the number {text[:_LONGEST_DIGITS]}, which is beyond all measure")
    return value


def _no_number(text: str) -> Any:
    raise Refused(f"has {text}, which is no number")


def _deeper(value: Any, most: int) -> bool:
    level = [value]
    for _ in range(most + 1):
        level = [
            part
            for item in level
            if isinstance(item, (list, dict))
            for part in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return False
    return True
