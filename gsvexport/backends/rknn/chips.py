"""The chips that files are made for, by the names that Rockchip's toolkit has for them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from gsvexport.errors import BackendError

# The RK3568's NPU is the RK3566's. What other chips do with our graphs was not looked at.
CHIPS = ("rk3588", "rk3576", "rk3566")


def problems(device: Mapping[str, Any]) -> list[str]:
    """Why no file can be made for a target's device, in words; see `gsvexport.backends.declaration.Bounds`."""
    npu = device.get("npu")
    if not npu:
        return ['backend rknn needs [device.npu] with the name of a chip, chip = "rk3588"']
    if npu["chip"] in CHIPS:
        return []
    near = difflib.get_close_matches(npu["chip"].lower(), CHIPS, n=1)
    hint = f", did you mean {near[0]}?" if near else ""
    return [f"no chip '{npu['chip']}' is known{hint}; there are: {', '.join(CHIPS)}"]


def chip_of(device: Mapping[str, Any]) -> str:
    """The chip of a target's device.

    Raises:
        BackendError: none, or none that is known.
    """
    if found := problems(device):
        raise BackendError(found[0])
    return str(device["npu"]["chip"])
