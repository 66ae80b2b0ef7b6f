"""Calibration as a lowering asks for it (`gsvexport.backends.lowering.Calibration`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from gsvexport.calibrate.probe import observe
from gsvexport.calibrate.ranges import Estimator, Range
from gsvexport.calibrate.run import CalibrationResult

if TYPE_CHECKING:
    import onnx_ir as ir


_OBSERVED = 12


@dataclass(frozen=True)
class Calibrated:
    """A result, how two outputs are compared (see `damage`), and how ranges are chosen."""

    result: CalibrationResult
    distance: Callable[[str, NDArray[Any], NDArray[Any]], float]
    estimator: Estimator = field(default_factory=lambda: Estimator("mse"))

    def feeds(self, stage: str) -> Sequence[Mapping[str, NDArray[Any]]]:
        """What the stage was given, utterance by utterance."""
        return self.result.feeds[stage]

    def damage(self, stage: str, expected: NDArray[Any], found: NDArray[Any]) -> float:
        """How much of the stage's gates the difference of two outputs uses up: 0 for equal ones, 1 at a gate."""
        return self.distance(stage, expected, found)

    def ranges(self, stage: str, model: ir.Model, tensors: Sequence[str]) -> dict[str, Range]:
        """The range of each tensor of `model` over `_OBSERVED` of those feeds, as the estimator chooses it.

        They are taken evenly, so all rates and lengths are among them; time grows with their number.
        """
        feeds = self.feeds(stage)
        return observe(model, tensors, feeds[:: max(1, len(feeds) // _OBSERVED)], self.estimator)
