"""Where Rockchip's toolkit is: in an environment of its own, because its pins exclude ours."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "GSVEXPORT_RKNN_PYTHON"
PACKAGE, LITE = "rknn-toolkit2", "rknn-toolkit-lite2"
KNOWN = "2.5.0"  # the release whose log and output are known
BUILDING = f"make rknn-env in a clone of gsvexport, or name a Python that has {PACKAGE} {KNOWN} with {VARIABLE}"
ON_DEVICE = f"pip install {LITE}, and Rockchip's librknnrt.so of the board's image"
_MADE = Path(__file__).resolve().parents[3] / ".rknn/bin/python"


def python() -> Path:
    """The Python that has the toolkit, or would have it."""
    return Path(os.environ.get(VARIABLE) or _MADE)


def version(of: Path) -> str:
    """The toolkit's release there; empty where there is none. It is read, and nothing is run."""
    name = PACKAGE.replace("-", "_")
    found = sorted(of.parent.parent.glob(f"lib/python3*/*-packages/{name}-*.dist-info"))
    return found[-1].name.removeprefix(f"{name}-").removesuffix(".dist-info") if found and of.is_file() else ""


def missing() -> str:
    """Why the toolkit cannot be used, in words; empty where it can."""
    there = python()
    if not there.is_file():
        return f"Rockchip's {PACKAGE} has no environment here: {there} is not there"
    if not (found := version(there)):
        return f"{PACKAGE} is not installed for {there}"
    return (
        "" if found == KNOWN else f"{PACKAGE} {found} is installed for {there}, and {KNOWN} is what this release knows"
    )
