"""How much of a vocoder runs on integers: its longest beginning, in whole segments, that stays clear of the gates.

An accelerator takes one piece from the graph's input on. What follows stays float, on the processor. Segments are
tried one by one and in longer and longer rows, on what calibration heard; the sound of each is held against float.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsvexport.artifact.manifest import Decisions, Group
from gsvexport.backends.lowering import ALLOWED, digits
from gsvexport.backends.tflite.flatbuffer import dump
from gsvexport.backends.tflite.graph import Graph
from gsvexport.backends.tflite.quantise import quantise
from gsvexport.backends.tflite.segments import frames, products, rate
from gsvexport.backends.tflite.session import Runner, interpreter
from gsvexport.errors import BackendError

Array = NDArray[Any]
Feeds = Mapping[str, Array]


@dataclass(frozen=True)
class Choice:
    """How many segments run on integers, what was measured, and the share of gates that 1, 2, … of them use up."""

    count: int
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
    ranges: Mapping[str, tuple[float, float]],
    feeds: Sequence[Feeds],
    damage: Callable[[Array, Array], float],
) -> Choice:
    """The longest row of first segments whose worst damage over `feeds` is at most `ALLOWED`.

    `damage` compares two arrays [1, N] of sound; see `Calibration.damage`.

    Raises:
        BackendError: not even the first segment can run on integers.
    """
    floats = [Runner(part.description, interpreter(dump(part), None)) for part in parts]
    integers = [Runner(part.description, interpreter(dump(quantise(part, ranges)), None)) for part in parts]
    given = [nhwc(one) for one in feeds]
    exact = [_chain(floats, one) for one in given]

    def measured(chosen: Sequence[bool]) -> float:
        """The worst damage with these segments on integers; what comes before the first of them is known."""
        first = chosen.index(True)
        row = [integers[i] if use else floats[i] for i, use in enumerate(chosen)][first:]
        worst = 0.0
        for one, steps in zip(given, exact, strict=True):
            begin = one if first == 0 else {"": steps[first - 1]}
            worst = max(worst, damage(_sound(steps[-1]), _sound(_chain(row, begin)[-1])))
        return worst

    places = range(len(parts))
    alone = [measured([i == place for i in places]) for place in places]
    ladder = tuple(alone[:1] + [measured([i <= place for i in places]) for place in places[1:]])
    count = max((place + 1 for place in places if ladder[place] <= ALLOWED), default=0)
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
            ["int8" if place < count else "float" for place in places],
            strict=True,
        )
    )
    return Choice(count, Decisions(ALLOWED, digits(ladder[count - 1]), groups), ladder)


def nhwc(feeds: Feeds) -> dict[str, Array]:
    """[1, C, T] → [1, 1, T, C]."""
    return {name: np.asarray(one, np.float32).transpose(0, 2, 1)[:, None] for name, one in feeds.items()}


def _names(parts: Sequence[Graph]) -> list[str]:
    """Segments by the rate at which they compute: "x1" at the frames of the latent. An upsampling begins a segment."""
    rates = np.cumprod([rate(part) for part in parts])
    return [f"x{one}" for one in rates]


def _chain(runners: Sequence[Runner], feeds: Mapping[str, Array]) -> list[Array]:
    """What each segment gives."""
    found: list[Array] = []
    for runner in runners:
        found.append(runner.run({"": found[-1]} if found else feeds))
    return found


def _sound(array: Array) -> Array:
    return array.reshape(1, -1)
