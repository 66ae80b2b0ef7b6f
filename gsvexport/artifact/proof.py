"""How strongly an artifact is proven, in words, the strongest first. Reports, `inspect`, `targets` and the docs have
these words and no others; `docs/proof.md` says what each means."""

from __future__ import annotations

from enum import Enum


class Proof(str, Enum):
    """What has run, and where. No speed is claimed below the first; what a vendor's tool estimates is called that."""

    DEVICE = "ran on the device"
    RUNTIME = "ran in the real runtime"
    EMULATED = "ran as compiled bytes in the vendor's emulation"
    SIMULATED = "ran in the vendor's simulator"
    COMPILED = "compiled, placement known"
    BUILT = "built"

    @property
    def rank(self) -> int:
        """0 is the strongest."""
        return list(Proof).index(self)


WORDS = tuple(one.value for one in Proof)
