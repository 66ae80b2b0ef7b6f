"""What an .rknn file says of itself, in the JSON that stands in it for whoever loads it."""

from __future__ import annotations

import mmap
import re
from pathlib import Path

MAGIC = b"RKNN"
_CHIPS = re.compile(rb'"target_platform":\[([^\]]{0,200})\]')


def differs(path: Path, chip: str) -> str:
    """Why the file `path` is none for `chip`; empty where nothing speaks against it.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        if stream.read(len(MAGIC)) != MAGIC:
            return "it does not begin as an .rknn file"
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            said = [name.decode("ascii", "replace") for found in _CHIPS.findall(data) for name in found.split(b",")]
    names = sorted({name.strip(' "') for name in said})
    if names == [chip]:
        return ""
    return f"it is for {', '.join(names)}, and not for {chip}" if names else "it does not say for which chip it is"
