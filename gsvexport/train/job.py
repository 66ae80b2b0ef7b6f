"""What the parts of a demo voice's training are given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Say = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """Where the work is, on what device it is done, and what part of the full schedules.

    `texts` are trained on, `acoustic` of them with sound. `fresh` begins from nothing, not from what was shipped.
    """

    work: Path
    device: str
    scale: float
    texts: int
    acoustic: int
    workers: int
    out: Path
    say: Say
    fresh: bool = False

    @property
    def corpus(self) -> Path:
        """The folder of the corpus."""
        return self.work / "corpus"

    def file(self, name: str) -> Path:
        """A checkpoint, or what else the parts hand to each other."""
        return self.work / f"{name}.pt"


Part = Callable[[Job], None]
