"""An artifact on genuine aarch64 kernels, on a machine of another kind: qemu's user mode plays a named core.

Emulation shows what the kernels compute, never how fast. `setup` fetches an emulator once; nothing else downloads.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gsvexport.emulate.guest import EmulatedVoice, Guest
    from gsvexport.emulate.install import Emulator, find, setup

__all__ = ["EmulatedVoice", "Emulator", "Guest", "find", "setup"]
_HOMES = {"EmulatedVoice": "guest", "Guest": "guest", "Emulator": "install", "find": "install", "setup": "install"}


def __getattr__(name: str) -> Any:
    """A public name, imported when it is first used: to look for an emulator takes neither numpy nor a runtime."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
