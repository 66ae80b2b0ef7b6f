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


@dataclass(frozen=True)
class Calibrated:
    """A result, how two outputs are compared (see `damage`), and how ranges are chosen."""

    result: CalibrationResult
    distance: Callable[[NDArray[Any], NDArray[Any]], float]
    estimator: Estimator = field(default_factory=lambda: Estimator("mse"))

    def feeds(self, stage: str) -> Sequence[Mapping[str, NDArray[Any]]]:
        """What the stage was given, utterance by utterance."""
        return self.result.feeds[stage]

    def damage(self, expected: NDArray[Any], found: NDArray[Any]) -> float:
        """How differently two outputs of a stage that makes sound would be heard; 0 for equal ones."""
        return self.distance(expected, found)

    def ranges(self, stage: str, model: ir.Model, tensors: Sequence[str]) -> dict[str, Range]:
        """The range of each tensor of `model` over those feeds, as the estimator chooses it."""
        return observe(model, tensors, self.feeds(stage), self.estimator)
