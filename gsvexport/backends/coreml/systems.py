"""For which systems a package is written. Which chip is in a device does not matter: Core ML compiles there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# What the package asks for at least: specification 8, with the operators of iOS 17.
SYSTEMS = {"ios": "iOS 17", "macos": "macOS 14"}
SPECIFICATION, OPSET = 8, "CoreML7"


def problems(device: Mapping[str, Any]) -> list[str]:
    """Why no package can be made for a target's device, in words; see `gsvexport.backends.declaration.Bounds`."""
    if device.get("os") in SYSTEMS:
        return []
    return [f"Core ML is on os = {' or '.join(SYSTEMS)}, and not on {device.get('os')}"]
