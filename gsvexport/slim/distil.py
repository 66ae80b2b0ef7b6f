"""What the three recoveries share: T2S (`codes`), vocoder and text encoder (`encoder`), each by itself.

All run in the loop of `gsvexport.train.loop`: a step depends on nothing but seed and number, so a run that was killed
ends with the numbers of one that was not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gsvexport.slim.recipe import Train
from gsvexport.slim.sparse import Masks
from gsvexport.train import loop

KEEP = 0.998  # of the average of weights
LIMIT = 3.0  # of a gradient's norm
Measure = Callable[[], Tensor]  # computes a scalar whose slopes say what channels do; see `prune`


@dataclass(frozen=True)
class Run:
    """What the three trainings share: how, from which seed, what stays 0, and where checkpoints lie."""

    train: Train
    seed: int
    masks: Masks
    folder: Path
    say: loop.Say

    def schedule(self, steps: int) -> loop.Schedule:
        """A training's; what is said and kept comes more often in a short one."""
        often = max(1, min(100, steps // 4))
        return loop.Schedule(steps, save=often, report=often, evaluate=max(1, steps // 4))

    def helped(self, name: str, before: float, after: float) -> bool:
        """Whether a loss fell; says it where it did not, because then what was learned is not taken."""
        if after < before:
            return True
        self.say(f"{name} was {before:.4f} before and {after:.4f} after: it is left out")
        return False


def words(found: Mapping[str, float]) -> str:
    """Losses in a line."""
    return "  ".join(f"{name} {value:.4f}" for name, value in found.items())


def relative(ours: Tensor, theirs: Tensor) -> Tensor:
    """The mean difference, in shares of what the teacher's are in the mean."""
    return (ours - theirs).abs().mean() / (theirs.abs().mean() + 1e-6)


@contextmanager
def outputs(layers: Any) -> Iterator[list[Tensor]]:
    """What layers of T2S give, in their order."""
    found: list[Tensor] = []

    def keep(_: nn.Module, __: Any, made: tuple[Tensor, ...]) -> None:
        found.append(made[0])

    with _hooked([layer.register_forward_hook(keep) for layer in layers]):
        yield found


@contextmanager
def inputs(modules: Sequence[Any]) -> Iterator[list[Tensor]]:
    """What modules are given, in their order."""
    found: list[Tensor] = []

    def keep(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        found.append(given[0])

    with _hooked([module.register_forward_pre_hook(keep) for module in modules]):
        yield found


@contextmanager
def _hooked(hooks: Sequence[Any]) -> Iterator[None]:
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def instead(network: nn.Module, name: str, part: nn.Module) -> Iterator[None]:
    """A network with another part while the block lasts."""
    own = getattr(network, name)
    setattr(network, name, part)
    try:
        yield
    finally:
        setattr(network, name, own)


def along(values: Tensor, generator: torch.Generator) -> Tensor:
    """Values times random signs, summed."""
    signs = torch.randint(0, 2, values.shape, generator=generator) * 2 - 1
    return (values * signs).sum()
