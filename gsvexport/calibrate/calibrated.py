"""Calibration as a lowering asks for it (`gsvexport.backends.lowered.Calibration`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gsvexport.calibrate.probe import observe
from gsvexport.calibrate.ranges import Estimator, Range
from gsvexport.calibrate.run import CalibrationResult, Spoken
from gsvexport.stages import BERT_WIDTH

if TYPE_CHECKING:
    import onnx_ir as ir


_OBSERVED = 12


@dataclass(frozen=True)
class Calibrated:
    """A result, how outputs are compared (see `damage`), and how ranges are chosen."""

    result: CalibrationResult
    distance: Callable[[str, Sequence[tuple[NDArray[Any], NDArray[Any]]]], float]
    estimator: Estimator = field(default_factory=lambda: Estimator("mse"))

    def feeds(self, stage: str) -> Sequence[Mapping[str, NDArray[Any]]]:
        """What the stage was given, utterance by utterance.

        `prefill` is given its sentence with all codes that followed as its prompt: rows as `step` computes them.
        """
        return [_forced(one) for one in self.result.spoken] if stage == "prefill" else self.result.feeds[stage]

    def damage(self, stage: str, pairs: Sequence[tuple[NDArray[Any], NDArray[Any]]]) -> float:
        """How much of the stage's gates outputs use up, given with what was expected first: 0 for equal ones, 1 at a
        gate."""
        return self.distance(stage, pairs)

    def ranges(self, stage: str, model: ir.Model, tensors: Sequence[str]) -> dict[str, Range]:
        """The range of each tensor of `model` over `_OBSERVED` of those feeds, as the estimator chooses it."""
        return observe(model, tensors, _evenly(self.feeds(stage)), self.estimator)

    def extremes(self, stage: str, model: ir.Model, tensors: Sequence[str]) -> dict[str, Range]:
        """The least and the greatest value of each tensor of `model` over `_OBSERVED` of those feeds."""
        return observe(model, tensors, _evenly(self.feeds(stage)), Estimator("minmax"))

    def peaks(self, model: ir.Model, feeds: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, float]:
        """The largest magnitude of every float tensor that `model` computes, over `_OBSERVED` of `feeds`."""
        import onnx_ir as ir

        floats = [str(value.name) for node in model.graph for value in node.outputs if value.dtype == ir.DataType.FLOAT]
        found = observe(model, floats, _evenly(feeds), Estimator("minmax"))
        return {name: max(-low, high) for name, (low, high) in found.items()}


def _evenly(feeds: Sequence[Mapping[str, NDArray[Any]]]) -> Sequence[Mapping[str, NDArray[Any]]]:
    """`_OBSERVED` of the feeds: all rates and lengths are among them, and time grows with their number."""
    return feeds[:: max(1, len(feeds) // _OBSERVED)]


def _forced(spoken: Spoken) -> dict[str, NDArray[Any]]:
    return {
        "phones": spoken.phones,
        "bert": np.zeros((1, BERT_WIDTH, spoken.phones.shape[1]), np.float32),
        "prompt": np.concatenate([spoken.prompt, spoken.codes[np.newaxis]], axis=1),
    }
