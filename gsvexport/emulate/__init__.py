"""An artifact on genuine aarch64 kernels, on a machine of another kind: qemu's user mode plays a named core.

Emulation shows what the kernels compute, never how fast. `setup` fetches an emulator once; nothing else downloads.
"""

from __future__ import annotations

from gsvexport.emulate.guest import EmulatedVoice, Guest
from gsvexport.emulate.install import Emulator, find, setup

__all__ = ["EmulatedVoice", "Emulator", "Guest", "find", "setup"]
