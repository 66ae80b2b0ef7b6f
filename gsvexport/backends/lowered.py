"""What the compile side of a backend is given.

What it offers is declared in its `__init__.py`: see `gsvexport.backends.declaration`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from gsvexport.artifact.manifest import Decisions, Weights

if TYPE_CHECKING:
    import onnx_ir as ir

    from gsvexport.npu.lowering import Taken

ALLOWED = 0.7  # share of the gates for sound that calibration data may use: verification hears other sentences
_PROBES = 4
_PROBE_FRAMES = 48  # about one second of latent: enough to rank layers


class Calibration(Protocol):
    """What a lowering may ask about the data that stages really see."""

    def feeds(self, stage: str) -> Sequence[Mapping[str, NDArray[Any]]]:
        """What the stage was given, utterance by utterance."""
        ...

    def damage(self, stage: str, pairs: Sequence[tuple[NDArray[Any], NDArray[Any]]]) -> float:
        """How much of the stage's gates outputs use up, given with what was expected first: 0 for equal ones, 1 at a
        gate."""
        ...

    def ranges(self, stage: str, model: ir.Model, tensors: Sequence[str]) -> dict[str, tuple[float, float]]:
        """The range of each inner tensor of `model`, a form of the stage's graph in float, over those feeds."""
        ...

    def extremes(self, stage: str, model: ir.Model, tensors: Sequence[str]) -> dict[str, tuple[float, float]]:
        """The same, with everything that a tensor held: nothing is clipped."""
        ...

    def peaks(self, model: ir.Model, feeds: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, float]:
        """The largest magnitude of every float tensor that `model` computes, over `feeds` of its own inputs."""
        ...


@dataclass(frozen=True)
class Lowered:
    """What a lowering did, by stage: in words, and what it measured where it had to decide; and what it stored.

    `files` names the graph of each stage that is not where the source has it. `again` says that a tool from outside
    failed: that is no result, and the next build tries once more.
    """

    notes: dict[str, tuple[str, ...]]
    decisions: dict[str, Decisions]
    weights: tuple[Weights, ...]
    files: dict[str, str] = field(default_factory=dict)
    again: bool = False

    @classmethod
    def windows(cls, taken: Mapping[str, Taken]) -> Lowered:
        """What became of stages that were lowered to windows of one size."""
        notes = {stage: one.notes for stage, one in taken.items()}
        weights = tuple(one.weights for one in taken.values())
        return cls(notes, {}, weights, {stage: one.file for stage, one in taken.items()})


def probes(feeds: Sequence[Mapping[str, NDArray[Any]]]) -> list[dict[str, NDArray[Any]]]:
    """What a vocoder's precisions are judged on: the longest of its feeds, cut to `_PROBE_FRAMES`."""
    port = "latent" if "latent" in feeds[0] else "mel"
    longest = sorted(feeds, key=lambda one: -one[port].shape[2])[:_PROBES]
    return [{**one, port: one[port][:, :, :_PROBE_FRAMES]} for one in longest]
