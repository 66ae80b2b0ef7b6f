"""Where Core ML is, and where the package coremltools is, which writes for it everywhere and asks it on macOS."""

from __future__ import annotations

import sys

from gsvexport.artifact.tools import other_release

PACKAGE = "coremltools"
KNOWN = (9, 0)  # the release whose output is known


def absent() -> str:
    """Why coremltools cannot be used, in words; empty where it can."""
    return other_release(PACKAGE, KNOWN)


def missing() -> str:
    """Why Core ML cannot run here, in words; empty where it can. See `gsvexport.backends.declaration.Absence`."""
    return absent() if sys.platform == "darwin" else "Core ML is on Apple's devices alone"
