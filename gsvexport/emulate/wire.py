"""Messages between a process and its emulated guest: plain values and arrays over a pipe.

A message is one line of JSON, which lists the arrays that follow as raw bytes. Both ends are little-endian.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
_KINDS = "biuf"  # of dtypes: nothing that would need unpickling


class Message(NamedTuple):
    """Plain values, and arrays by name."""

    values: dict[str, Any]
    arrays: dict[str, Array]


def write(stream: IO[bytes], values: Mapping[str, Any], arrays: Mapping[str, Array] | None = None) -> None:
    """Send one message.

    Raises:
        TypeError: an array of objects or text.
    """
    held = {name: np.asarray(array, order="C") for name, array in (arrays or {}).items()}
    if wrong := [name for name, array in held.items() if array.dtype.kind not in _KINDS]:
        raise TypeError(f"only arrays of numbers can be sent, not {', '.join(wrong)}")
    index = [[name, array.dtype.str, array.shape] for name, array in held.items()]
    stream.write(json.dumps({"values": dict(values), "arrays": index}).encode() + b"\n")
    for array in held.values():
        stream.write(array.tobytes())
    stream.flush()


def read(stream: IO[bytes]) -> Message | None:
    """Receive one message; None when the other end has closed or died, even in the middle of one."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    header = json.loads(line)
    arrays: dict[str, Array] = {}
    for name, kind, shape in header["arrays"]:
        dtype = np.dtype(kind)
        size = math.prod(shape) * dtype.itemsize
        data = stream.read(size)
        if len(data) < size:
            return None
        arrays[name] = np.frombuffer(data, dtype).reshape(shape).copy()
    return Message(header["values"], arrays)
