"""How strongly an artifact is proven, in words, the strongest first. Reports, `inspect`, `targets` and the docs have
these words and no others; `docs/proof.md` says what each means."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class Proof(str, Enum):
    """What has run, and where. No speed is claimed below the first; what a vendor's tool estimates is called that."""

    DEVICE = "ran on the device"
    RUNTIME = "ran in the real runtime"
    EMULATED = "ran as compiled bytes in the vendor's emulation"
    SIMULATED = "ran in the vendor's simulator (the graph, not the file)"
    COMPILED = "compiled, placement known"
    BUILT = "built"

    @property
    def rank(self) -> int:
        """0 is the strongest."""
        return list(Proof).index(self)


def told(rungs: Mapping[str, Proof]) -> str:
    """The rung of each stage in one line, the strongest first."""
    parts = [
        f"{', '.join(stage for stage, rung in rungs.items() if rung is one)} {one.value}"
        for one in sorted(set(rungs.values()), key=lambda rung: rung.rank)
    ]
    return "; ".join(parts)
