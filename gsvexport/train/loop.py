"""What the trainings share: steps that depend on nothing but their number, checkpoints that appear whole, resuming.

All randomness of a step comes from (seed, step), so a run that was killed and continued gives what one that was not
gives, to the last bit on the same machine.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from gsvexport.files import atomic_file

Say = Callable[[str], None]


@dataclass(frozen=True)
class Schedule:
    """How long and how often: steps in all, between checkpoints, between reports and between evaluations."""

    steps: int
    save: int = 200
    report: int = 50
    evaluate: int = 200

    def scaled(self, factor: float) -> Schedule:
        """The same with another number of steps, at least one."""
        return Schedule(max(1, round(self.steps * factor)), self.save, self.report, self.evaluate)


@dataclass(frozen=True)
class State:
    """What a checkpoint holds: networks and optimisers by name."""

    networks: Mapping[str, nn.Module]
    optimisers: Mapping[str, torch.optim.Optimizer]


def run(
    name: str,
    path: Path,
    schedule: Schedule,
    state: State,
    step: Callable[[int], Mapping[str, float]],
    evaluate: Callable[[], str],
    say: Say,
) -> None:
    """Call `step` for every number up to `schedule.steps` that `path` does not hold yet; say the means of its results.

    Raises:
        EnvironmentProblem: the checkpoint cannot be written.
    """
    done = _load(path, state)
    began, sums, count = time.monotonic(), dict[str, float](), 0
    for number in range(done, schedule.steps):
        for key, value in step(number).items():
            sums[key] = sums.get(key, 0.0) + value
        count += 1
        last = number + 1 == schedule.steps
        if last or (number + 1) % schedule.report == 0:
            means = "  ".join(f"{key} {value / count:.3f}" for key, value in sums.items())
            pace = (time.monotonic() - began) / (number + 1 - done)
            say(f"{name} {number + 1}/{schedule.steps}  {means}  {pace:.2f} s/step")
            sums, count = {}, 0
        if last or (number + 1) % schedule.evaluate == 0:
            say(f"{name} {number + 1}/{schedule.steps}  held out: {evaluate()}")
        if last or (number + 1) % schedule.save == 0:
            _save(path, state, number + 1)


def finished(path: Path, schedule: Schedule) -> bool:
    """Whether the training of this checkpoint is done."""
    return path.is_file() and int(torch.load(path, weights_only=True)["step"]) >= schedule.steps


def restore(path: Path, networks: Mapping[str, nn.Module]) -> int:
    """Fill networks from a checkpoint; returns its step."""
    stored = torch.load(path, weights_only=True)
    for name, network in networks.items():
        network.load_state_dict(stored["networks"][name])
    return int(stored["step"])


def save_tensors(path: Path, value: object) -> None:
    """`torch.save` that leaves either the whole file or the one before."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    with atomic_file(path, force=True) as work:
        work.write_bytes(buffer.getvalue())


def generators(seed: int, step: int) -> tuple[np.random.Generator, torch.Generator]:
    """The random numbers of one step."""
    random = np.random.default_rng([seed, step])
    return random, torch.Generator().manual_seed(int(random.integers(1 << 62)))


def rate(step: int, steps: int, *, warm: int, floor: float = 0.02) -> float:
    """The share of the learning rate: a linear rise over `warm` steps, then a cosine down to `floor`."""
    rise = min(1.0, (step + 1) / max(1, min(warm, steps // 4)))
    return rise * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps))))


def set_rate(optimiser: torch.optim.Optimizer, value: float) -> None:
    """Give all parameters of an optimiser the learning rate `value`."""
    for group in optimiser.param_groups:
        group["lr"] = value


def update(optimiser: torch.optim.Optimizer, loss: Tensor, parameters: Iterable[nn.Parameter], limit: float) -> None:
    """One step down, the gradient's norm cut at `limit`; a gradient that is not finite changes nothing."""
    update_by_parts(optimiser, (loss,), parameters, limit)


def update_by_parts(
    optimiser: torch.optim.Optimizer, losses: Iterable[Tensor], parameters: Iterable[nn.Parameter], limit: float
) -> None:
    """The same for the sum of several losses, of which one is in memory at a time."""
    optimiser.zero_grad(set_to_none=True)
    for loss in losses:
        loss.backward()  # type: ignore[no-untyped-call]
    norm = torch.nn.utils.clip_grad_norm_(parameters, limit)
    if torch.isfinite(norm):
        optimiser.step()


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, step: int, keep: float) -> None:
    """Move an exponential average of weights after the network; early on it forgets faster."""
    share = min(keep, (step + 1) / (step + 20))
    for mean, value in zip(average.parameters(), network.parameters(), strict=True):
        mean.lerp_(value, 1 - share)


def _save(path: Path, state: State, step: int) -> None:
    networks = {name: network.state_dict() for name, network in state.networks.items()}
    optimisers = {name: optimiser.state_dict() for name, optimiser in state.optimisers.items()}
    save_tensors(path, {"step": step, "networks": networks, "optimisers": optimisers})


def _load(path: Path, state: State) -> int:
    if not path.is_file():
        return 0
    step = restore(path, state.networks)
    stored = torch.load(path, weights_only=True)["optimisers"]
    for name, optimiser in state.optimisers.items():
        optimiser.load_state_dict(stored[name])
    return step
