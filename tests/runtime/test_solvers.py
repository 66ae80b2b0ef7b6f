"""Solvers of flow matching on an equation whose answer is known: x' = x, so x(1) = e·x(0)."""

import numpy as np
import pytest

from gsvexport.errors import InputError
from gsvexport.runtime.flow_matching import ADAMS, EULER, MIDPOINT, SOLVERS, solve
from gsvexport.runtime.speech import Manner, _check
from gsvexport.stages import FEATURE_WIDTH, MEL_BANDS

NOISE = np.random.default_rng(0).standard_normal((1, MEL_BANDS, 9), dtype=np.float32)
FEA, PROMPT = np.ones((1, FEATURE_WIDTH, 9), np.float32), np.ones((1, MEL_BANDS, 2), np.float32)


def solved(solver, steps, **how):
    calls = []

    def run(stage, feeds):
        calls.append((stage, float(feeds["time"][0]), float(feeds["span"][0])))
        assert not feeds["state"][..., :2].any()  # nothing stands in the prompt's place
        return {"velocity": feeds["state"] + 5 * (np.arange(9) < 2)}

    return solve(run, FEA, PROMPT, NOISE, steps, solver=solver, **how), calls


def error(solver, steps):
    found, _ = solved(solver, steps)
    assert not found[..., :2].any()
    return float(np.abs(found[..., 2:] / NOISE[..., 2:] - np.e).max())


def test_orders_and_costs():
    for solver, order, each in ((EULER, 1, 1), (ADAMS, 2, 1), (MIDPOINT, 2, 2)):
        assert 2**order * 0.75 < error(solver, 16) / error(solver, 32) < 2**order * 1.25
        calls = solved(solver, 4)[1]
        assert len(calls) == 4 * each
        assert {span for _, _, span in calls} == {0.25}
    assert [time for _, time, _ in solved(MIDPOINT, 2)[1]] == [0, 0.25, 0.5, 0.75]
    assert error(ADAMS, 8) < error(EULER, 8) / 4


def test_euler_is_upstreams_loop_bit_for_bit():
    state = NOISE.copy()
    state[..., :2] = 0
    for _ in range(5):
        state = state + np.float32(1 / 5) * (state + (5 * (np.arange(9) < 2)))
        state[..., :2] = 0
    np.testing.assert_array_equal(solved(EULER, 5)[0], state)


def test_guidance_goes_into_every_slope():
    plain, guided = (solved(MIDPOINT, 3, cfg_rate=rate) for rate in (0.0, 0.5))
    assert len(guided[1]) == 2 * len(plain[1])
    np.testing.assert_array_equal(plain[0], guided[0])  # both of its velocities are equal here


class Voice:
    """As much of a voice as arguments are checked against."""

    def __init__(self, version):
        self.model = type("Model", (), {"version": version})()
        self.stages = {}

    def stage(self, name):
        self.stages.setdefault(name, type("Stage", (), {"inputs": ()})())


@pytest.mark.parametrize(
    ("version", "solver", "said"),
    [("v4", "rk4", f"solver is 'rk4'; it must be one of {', '.join(SOLVERS)}"), ("v2", ADAMS, "are for v3 and v4")],
)
def test_unknown_solvers_and_versions_without_one_are_refused(version, solver, said):
    voice = Voice(version)
    for name in ("prefill", "step", "acoustic", "features", "cfm", "vocoder"):
        voice.stage(name)
    with pytest.raises(InputError, match="cannot be spoken") as caught:
        _check(voice, np.zeros((1, 3), np.int64), {}, Manner(solver=solver))
    assert any(said in problem for problem in caught.value.problems)
