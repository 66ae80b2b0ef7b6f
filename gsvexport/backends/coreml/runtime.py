"""Where Core ML is, and where the package coremltools is, which writes for it everywhere and asks it on macOS."""

from __future__ import annotations

import sys

from gsvexport.artifact.tools import tool_version

PACKAGE = "coremltools"
KNOWN = (9, 0)  # the release whose output is known


def absent() -> str:
    """Why coremltools cannot be used, in words; empty where it can."""
    version = tool_version(PACKAGE)
    try:
        release = tuple(int(part) for part in version.split(".")[:2])
    except ValueError:
        return f"the package {PACKAGE} is not installed"
    wanted = ".".join(map(str, KNOWN))
    return "" if release == KNOWN else f"{PACKAGE} {version} is installed, and {wanted} is what this release knows"


def missing() -> str:
    """Why Core ML cannot run here, in words; empty where it can. See `gsvexport.backends.declaration.Absence`."""
    return absent() if sys.platform == "darwin" else "Core ML is on Apple's devices alone"
