"""What verification compares: a stage's inputs, and what the reference makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from gsvexport.model import Model
from gsvexport.runtime.side_by_side import Rows
from gsvexport.stages import Stage

Array = NDArray[Any]


class Runnable(Protocol):
    """What verification needs of a loaded voice (`gsvexport.load` gives one)."""

    model: Model
    stages: dict[str, Stage]
    baked: dict[str, Array]

    def run(self, stage: str, feeds: Mapping[str, Any]) -> dict[str, Array]:
        """One stage: arrays in, arrays out."""
        ...


@runtime_checkable
class WritesRows(Protocol):
    """A loaded voice that may write several sentences in one step."""

    def rows(self, most: int) -> Rows:
        """At most so many side by side."""
        ...


@dataclass(frozen=True)
class Size:
    """Lengths of one set of cases. `prompt` 0 is prompt-free; `bert` fills part of the text features.

    With a `sentence` of phone ids that is what is said, not `phones` random ones, after the voice's own prompt.
    """

    name: str
    phones: int
    prompt: int
    tokens: int
    codes: int
    speed: float
    spectrogram: int
    ssl: int
    bert: bool
    sentence: tuple[int, ...] = ()


@dataclass(frozen=True)
class Case:
    """One stage's (or TEACHER's) inputs and the reference's outputs, by port name.

    TEACHER: phones [1, X], bert [1, 1024, X], prompt [1, Y], tokens [n] in; logits [n, V] and the projected caches
    keys and values [L, X + Y + n - 1, 4] out. Row 0 of the logits comes from `prefill`.
    """

    name: str
    stage: str
    inputs: dict[str, Array]
    outputs: dict[str, Array]
