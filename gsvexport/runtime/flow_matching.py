"""From the features of v3 and v4 to a mel: flow matching, chunk by chunk, each after the end of the one before.

    x ~ N(0, 1)        x += v(x, t)/n for t = 0, 1/n, …        v = v₁ + rate·(v₁ - v₀), v₀ without prompt and features

What stands for the prompt in x is 0 all the while. That is Euler's method, upstream's own. In place of v(x, t) take

    midpoint    v(x + v(x, t)/2n, t + 1/2n)                of second order, and twice the work of a step
    adams       3/2·v(x, t) - 1/2·v(x', t - 1/n)           of second order with the step before, and no more work

(Adams and Bashforth 1883, Hairer et al. 1993, III.1). The network is told the same span 1/n by all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gsvexport.runtime.draws import Draws
from gsvexport.runtime.ports import Array
from gsvexport.stages import MEL_BANDS, Mel, denormalised, mel_mask

SOLVERS = EULER, MIDPOINT, ADAMS = "euler", "midpoint", "adams"

Run = Callable[[str, Mapping[str, Any]], dict[str, Array]]


def features(run: Run, codes: Array, phones: Array, ge: Array, mel: Mel, speed: float = 1.0) -> Array:
    """fea [1, 512, M] of codes [1, T], after upstream's own mask."""
    count, ones = mel_mask(codes.shape[1], speed, mel)
    mask = np.zeros((1, 1, count), np.float32)
    mask[..., :ones] = 1
    return run("features", {"codes": codes, "phones": phones, "ge": ge, "mask": mask})["fea"]


def solve(
    run: Run,
    fea: Array,
    prompt_mel: Array,
    noise: Array,
    steps: int,
    cfg_rate: float = 0.0,
    solver: str = EULER,
) -> Array:
    """The normalised mel [1, 100, M] for fea [1, 512, M], whose first P frames are the prompt [1, 100, P]; 0 there."""
    first, count = prompt_mel.shape[2], fea.shape[2]
    known = np.zeros((1, MEL_BANDS, count), np.float32)
    known[..., :first] = prompt_mel
    state: Array = np.array(noise, np.float32)
    state[..., :first] = 0
    nothing = {"prompt_mel": np.zeros_like(known), "fea": np.zeros_like(fea)} if cfg_rate else {}
    span, time = 1 / steps, 0.0

    def velocity(state: Array, time: float) -> Array:
        moment = {"time": np.array([time], np.float32), "span": np.array([span], np.float32)}
        feeds = {"prompt_mel": known, "fea": fea, **moment}
        found = run("cfm", {"state": state, **feeds})["velocity"]
        if cfg_rate:
            other = run("cfm", {"state": state, **feeds, **nothing})["velocity"]
            found = found + (found - other) * np.float32(cfg_rate)
        return found

    def moved(state: Array, velocity: Array, span: float) -> Array:
        state = state + np.float32(span) * velocity
        state[..., :first] = 0
        return state

    before: Array | None = None
    for _ in range(steps):
        now = slope = velocity(state, time)
        if solver == MIDPOINT:
            slope = velocity(moved(state, now, span / 2), time + span / 2)
        elif solver == ADAMS and before is not None:
            slope = np.float32(1.5) * now - np.float32(0.5) * before
        state, before = moved(state, slope, span), now
        time += span
    return state


def mel_of(
    run: Run,
    fea: Array,
    prompt_fea: Array,
    prompt_mel: Array,
    mel: Mel,
    draws: Draws,
    *,
    steps: int,
    cfg_rate: float = 0.0,
    noise_scale: float = 1.0,
    solver: str = EULER,
) -> Array:
    """The log-mel [1, 100, M] of a whole sentence.

    The prompt's features [1, 512, ≥P] and normalised mel [1, 100, P] are cut to their last `mel.prompt` frames; each
    chunk takes the frames that are left of `mel.chunk`, and the ends of both become the next chunk's prompt.
    """
    least = min(prompt_mel.shape[2], prompt_fea.shape[2])
    held = min(least, mel.prompt)
    known, before = (one[..., :least][..., -held:] for one in (prompt_mel, prompt_fea))
    size, found = mel.chunk - held, []
    for start in range(0, fea.shape[2], size):
        chunk = fea[..., start : start + size]
        both = np.concatenate([before, chunk], axis=2)
        noise = draws.normal(MEL_BANDS, both.shape[2]) * np.float32(noise_scale)
        made = solve(run, both, known, noise, steps, cfg_rate, solver)[..., known.shape[2] :]
        known, before = made[..., -held:], chunk[..., -held:]
        found.append(made)
    return np.asarray(denormalised(np.concatenate(found, axis=2)), np.float32)
