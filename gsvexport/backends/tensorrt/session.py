"""Runs a stage as a TensorRT engine that was built on this device."""

from __future__ import annotations

from pathlib import Path

from gsvexport.backends import Session
from gsvexport.errors import BackendError


def open_session(path: Path, *, threads: int | None = None) -> Session:
    """Load the engine of one graph; see `gsvexport.backends.open_session`."""
    raise BackendError(
        f"{path.name} has no TensorRT engine yet: only the device can build it",
        fix="run `gsvexport finalize ARTIFACT` on the device",
    )
