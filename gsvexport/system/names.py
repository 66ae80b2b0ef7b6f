"""Names that Windows keeps for itself or does not take. A voice made elsewhere must not have one: it travels.

Microsoft, "Naming Files, Paths, and Namespaces". Artifacts carry this module: it runs on Python 3.8.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

LONGEST = 259  # characters of a path, unless long paths are switched on
_DEVICES = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³]) *(?:\..*)?", re.IGNORECASE | re.DOTALL)
_REFUSED = re.compile(r'[\x00-\x1f<>:"|?*\\/]')


def refused(name: str) -> str | None:
    """Why Windows takes no file of that name, in words that follow it; None where it does."""
    if _DEVICES.fullmatch(name):
        return "is a device's name under Windows"
    if name != name.rstrip(". "):
        return "ends in a dot or a space, which Windows leaves out"
    if found := _REFUSED.search(name):
        return f"has {found[0]!a} in it, which is not allowed under Windows"
    return None


def refused_path(path: Path) -> str | None:
    """Why Windows takes no such path because of a name in it, in words; None where it does. The drive is left out."""
    for part in path.parts[1:] if path.anchor else path.parts:
        if part not in (".", "..") and (why := refused(part)):
            return f"{part!a} {why}"
    return None


def too_long(path: str | os.PathLike[str]) -> str | None:
    """What to say of a path that Windows takes only where long paths are switched on; None for any other."""
    length = len(os.path.abspath(path))
    return f"{length} characters, of which Windows takes {LONGEST}" if length > LONGEST else None
