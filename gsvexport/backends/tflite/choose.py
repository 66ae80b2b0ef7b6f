"""How much of a vocoder runs on integers: its longest beginning, in whole segments, that stays clear of the gates.

An accelerator takes one piece from the graph's input on. What follows stays float, on the processor. Longer and longer
rows of segments are tried on what calibration heard, and the sound of each is held against float. A longer row has the
noise of a shorter one and its own, so the first that is too loud ends the search.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsvexport.artifact.manifest import Decisions, Group, digits
from gsvexport.backends.lowered import ALLOWED
from gsvexport.backends.tflite.flatbuffer import dump
from gsvexport.backends.tflite.graph import Graph
from gsvexport.backends.tflite.quantise import Integers, quantise
from gsvexport.backends.tflite.segments import computed, frames, products, rate
from gsvexport.backends.tflite.session import Runner, interpreter
from gsvexport.errors import BackendError

Array = NDArray[Any]
Feeds = Mapping[str, Array]


@dataclass(frozen=True)
class Choice:
    """How many segments run on integers, with which ranges, and what was measured: `ladder` has the share of the gates
    that the first 1, 2, … segments use up, as far as they were tried."""

    count: int
    ranges: Mapping[str, tuple[float, float]]
    decisions: Decisions
    ladder: tuple[float, ...]


def peaks(parts: Sequence[Graph], feeds: Sequence[Feeds]) -> dict[str, Array]:
    """The largest magnitude of each channel, float32 [C], of every tensor of a row of segments, over `feeds`.

    `feeds` are [1, C, T], by input. Segment by segment, because every tensor of one is kept until it was read.
    """
    found: dict[str, Array] = {}
    given = [nhwc(one) for one in feeds]
    for part in parts:
        runner = Runner(part.description, interpreter(dump(part), None, keep=True))
        results = []
        for one in given:
            results.append({"": runner.run(one)})
            for index, tensor in enumerate(part.tensors):
                if tensor.data is None:
                    top = np.abs(runner.tensor(index)).max(axis=(0, 1, 2))
                    found[tensor.name] = np.maximum(found.get(tensor.name, top), top)
        given = results
    return found


def choose(
    parts: Sequence[Graph],
    observe: Callable[[Sequence[str]], Mapping[str, tuple[float, float]]],
    feeds: Sequence[Feeds],
    damage: Callable[[Sequence[tuple[Array, Array]]], float],
    kind: Integers,
    precision: str,
) -> Choice:
    """The longest row of first segments whose damage over `feeds` is at most `ALLOWED`, on integers of a `kind` that
    targets call `precision`.

    `observe` gives the ranges of tensors by name; `damage` compares arrays [1, N] of sound, see `Calibration`.

    Raises:
        BackendError: not even the first segment can run on integers.
    """
    floats = [Runner(part.description, interpreter(dump(part), None)) for part in parts]
    given = [nhwc(one) for one in feeds]
    exact = [_chain(floats, one) for one in given]
    ranges: dict[str, tuple[float, float]] = {}
    integers: list[Runner] = []
    alone: list[float] = []
    ladder: list[float] = []

    def measured(first: int) -> float:
        """The damage with the segments from `first` to the last that was tried on integers."""
        row = [*integers[first:], *floats[len(integers) :]]
        pairs = []
        for one, steps in zip(given, exact, strict=True):
            found = _chain(row, {"": steps[first - 1]} if first else one)
            pairs.append((_sound(steps[-1]), _sound(found[-1])))
        return damage(pairs)

    for place, part in enumerate(parts):
        ranges |= observe(computed(part))
        integers.append(Runner(part.description, interpreter(dump(quantise(part, ranges, kind)), None)))
        alone.append(measured(place))
        ladder.append(measured(0) if place else alone[0])
        if ladder[-1] > ALLOWED:
            break
    count = len(ladder) - (ladder[-1] > ALLOWED)
    if not count:
        name = _names(parts)[0]
        raise BackendError(
            f"{parts[0].description}: not even its first segment, {name}, can run on integers",
            found=f"{ladder[0]:.3g} of the gates for its sound",
            limit=f"{ALLOWED:g}",
            fix="place the stage on the backend onnxruntime, or calibrate with more sentences",
        )
    groups = tuple(
        Group(name, sum(operator.kind == "CONV_2D" for operator in part.operators), cost, digits(share), precision)
        for name, part, cost, share, precision in zip(
            _names(parts),
            parts,
            (products(part) // frames(parts[0]) for part in parts),
            alone,
            [precision if place < count else "float" for place in range(len(parts))],
            strict=False,  # what was not tried is not told
        )
    )
    return Choice(count, ranges, Decisions(ALLOWED, digits(ladder[count - 1]), groups), tuple(ladder))


def nhwc(feeds: Feeds) -> dict[str, Array]:
    """[1, C, T] → [1, 1, T, C]."""
    return {name: np.asarray(one, np.float32).transpose(0, 2, 1)[:, None] for name, one in feeds.items()}


def _names(parts: Sequence[Graph]) -> list[str]:
    """Segments by the rate at which they compute: "x1" at the frames of the latent. An upsampling begins a segment, and
    what follows at the same rate is "last"."""
    rates = np.cumprod([rate(part) for part in parts])
    return [f"x{one}" if not place or one != rates[place - 1] else "last" for place, one in enumerate(rates)]


def _chain(runners: Sequence[Runner], feeds: Mapping[str, Array]) -> list[Array]:
    """What each segment gives."""
    found: list[Array] = []
    for runner in runners:
        found.append(runner.run({"": found[-1]} if found else feeds))
    return found


def _sound(array: Array) -> Array:
    return array.reshape(1, -1)
