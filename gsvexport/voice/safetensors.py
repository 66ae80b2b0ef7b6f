"""Reading a `.safetensors` file: a length, a JSON header, and the bytes of tensors. Every size is checked."""

from __future__ import annotations

import hashlib
import mmap
import re
from math import prod
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from gsvexport.errors import VoiceError
from gsvexport.untrusted.reading import Refused, opened, parse_json
from gsvexport.voice.checkpoint import Array, TensorFile

MAX_HEADER = 8 << 20  # bytes; the 24 layers of a large BERT need 50 kB
_DTYPES = {"F16": "<f2", "F32": "<f4", "BF16": "<u2", "I64": "<i8", "BOOL": "?", "F64": "<f8", "I32": "<i4"}
_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,256}")


def read_safetensors(path: Path) -> TensorFile:
    """The tensors of a file as read-only views of its mapping; bfloat16 becomes float32.

    Raises:
        VoiceError: absent, damaged, or with tensors that overlap, lie outside the file or are of an unknown type.
    """
    try:
        with opened(path) as stream:
            data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise VoiceError(f"{path} cannot be read: {error}", fix="copy or download the file again") from error
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or not 2 <= size <= min(MAX_HEADER, len(data) - 8):
        _refuse(path, "its header does not fit the file")
    try:
        header = parse_json(data[8 : 8 + size], limit=MAX_HEADER)
    except ValueError as error:
        _refuse(path, f"its header {error}" if isinstance(error, Refused) else "its header is not JSON")
    if not isinstance(header, dict):
        _refuse(path, "its header is no table")
    tensors: dict[str, Array] = {}
    total = 0
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        array = _tensor(data, 8 + size, name, entry)
        if isinstance(array, str):
            _refuse(path, array)
        total += entry["data_offsets"][1] - entry["data_offsets"][0]
        tensors[name] = array
    if total > len(data) - 8 - size:
        _refuse(path, "its tensors overlap")
    return TensorFile(path, hashlib.sha256(data).hexdigest(), len(data), tensors)


def _tensor(data: mmap.mmap, start: int, name: str, entry: Any) -> Array | str:
    """One tensor, or what is wrong with it."""
    if not _NAME.fullmatch(name) or not isinstance(entry, dict):
        return "it has an entry that is no tensor"
    values: list[Any] = [entry.get(part) for part in ("dtype", "shape", "data_offsets")]
    dtype, shape, place = values
    known = isinstance(dtype, str) and dtype in _DTYPES
    if not known or not _sizes(shape, 8) or not _sizes(place, 2) or len(place) != 2:
        return f"the tensor {name} is described in a way that is not known"
    kind, (first, last) = np.dtype(_DTYPES[dtype]), place
    if last < first or start + last > len(data) or prod(shape) * kind.itemsize != last - first:
        return f"the tensor {name} does not fit its place in the file"
    array: Array = np.frombuffer(data, kind, prod(shape), start + first).reshape(shape)
    if dtype == "F64":
        with np.errstate(over="ignore"):
            return array.astype(np.float32)
    return (array.astype(np.uint32) << 16).view(np.float32) if dtype == "BF16" else array


def _sizes(value: Any, most: int) -> bool:
    return (
        isinstance(value, list) and len(value) <= most and all(type(one) is int and 0 <= one < 1 << 48 for one in value)
    )


def _refuse(path: Path, why: str) -> NoReturn:
    raise VoiceError(f"{path} is no safetensors file that can be used: {why}", fix="copy or download the file again")
