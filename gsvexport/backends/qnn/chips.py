"""The chips that contexts are made for: `chips.toml`, and whether a target's is among them."""

from __future__ import annotations

import difflib
import functools
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsvexport.errors import BackendError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ABOUT = "ep_compatibility_info.QNNExecutionProvider"  # metadata of a context: schema, kind, QAIRT, ABI, arch, chip …
_TABLE = Path(__file__).parent / "chips.toml"


@dataclass(frozen=True)
class Chip:
    """A chip: the architecture of its NPU and its number, both as the compiler takes them."""

    name: str
    htp_arch: int
    soc_model: int

    @property
    def options(self) -> dict[str, str]:
        """What the provider is told."""
        return {"htp_arch": str(self.htp_arch), "soc_model": str(self.soc_model)}

    def differs(self, words: str) -> str:
        """Why a context with these words of itself is not this chip's; empty where it is.

        The compiler takes an architecture that it does not know, and writes a context for architecture 0.
        """
        found = words.split(":")[4:6]
        if found == [str(self.htp_arch), str(self.soc_model)]:
            return ""
        says = (
            f"it is for architecture {found[0]}, chip number {found[1]}" if len(found) == 2 else "it does not say which"
        )
        return f"{says}; {self.name} is architecture {self.htp_arch}, chip number {self.soc_model}"


@functools.cache
def chips() -> dict[str, Chip]:
    """All of them by name."""
    table = tomllib.loads(_TABLE.read_text(encoding="utf-8"))
    return {name: Chip(name, **values) for name, values in table.items()}


def problems(device: Mapping[str, Any]) -> list[str]:
    """Why no context can be made for a target's device, in words; see `gsvexport.backends.declaration.Bounds`."""
    npu = device.get("npu")
    if not npu:
        return ['backend qnn needs [device.npu] with the name of a chip, chip = "SM8650"']
    if npu["chip"] in chips():
        return []
    near = difflib.get_close_matches(npu["chip"].upper(), chips(), n=1)
    hint = f", did you mean {near[0]}?" if near else ""
    return [f"no chip '{npu['chip']}' is known{hint}; there are: {', '.join(chips())}"]


def chip_of(device: Mapping[str, Any]) -> Chip:
    """The chip of a target's device.

    Raises:
        BackendError: none, or none that is known.
    """
    if found := problems(device):
        raise BackendError(found[0])
    return chips()[device["npu"]["chip"]]
