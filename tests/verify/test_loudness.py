"""The distance of loudness: what it is on known signals, and what its order is."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
from test_speech import RATE, recording

from gsvexport.signal import loudness
from gsvexport.verify import damage


def _distance(value: np.ndarray, reference: np.ndarray | None = None) -> float:
    return loudness.distance([(recording() if reference is None else reference, value)], RATE)


def test_equal_sounds_are_not_apart_and_silence_is_infinitely_far_from_sound() -> None:
    silence = np.zeros(RATE, np.float32)
    assert _distance(recording()) == 0.0
    assert _distance(silence, silence) == 0.0
    assert _distance(recording()[:RATE], silence) == float("inf")


def test_a_gain_moves_loudness_by_its_own_power() -> None:
    """L ∝ mag^0.3, so a gain g moves every band by g^0.3 - 1 of itself."""
    noise = np.random.default_rng(0).standard_normal(RATE).astype(np.float32)  # all bands alike: rms ≈ mean
    spread = loudness.loudness(noise, RATE)
    expected = (1 - 0.5**0.3) * np.sqrt(np.mean(spread**2)) / np.mean(spread)
    assert _distance(0.5 * noise, noise) == pytest.approx(expected, rel=1e-6)
    louder = (2**0.3 - 1) * loudness.ADDED * np.sqrt(np.mean(spread**2)) / np.mean(spread)
    assert _distance(2 * noise, noise) == pytest.approx(louder, rel=1e-6)


def test_what_is_added_counts_more_than_what_is_missing() -> None:
    low, high = recording(), damage.noise(recording(), 30)
    assert _distance(high, low) > 1.5 * _distance(low, high)


def test_more_damage_is_further_away() -> None:
    for change, strengths in (
        (damage.noise, (60, 50, 40, 30, 20, 10)),
        (damage.mu_law, (11, 9, 7, 5)),
        (damage.gain, (-0.5, -1, -3, -9)),
    ):
        found = [_distance(change(recording(), strength)) for strength in strengths]
        assert found == sorted(found)
        assert found[0] > 0


def test_pairs_are_weighed_by_their_length() -> None:
    sound, noisy = recording(), damage.noise(recording(), 20)
    clean = (np.tile(sound, 3), np.tile(sound, 3))
    assert loudness.distance([(sound, noisy), clean], RATE) == pytest.approx(_distance(noisy) / 2, rel=0.05)


def test_the_unit_has_a_floor_and_a_ceiling() -> None:
    assert [loudness.unit(one) for one in (0.0, 0.03, 0.2, 0.5, 7.0)] == [0.2, 0.2, 0.2, 0.5, 1.0]


def test_the_module_that_artifacts_carry_needs_numpy_alone() -> None:
    tree = ast.parse(Path(loudness.__file__).read_text(encoding="utf-8"))
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert modules | names <= {"__future__", "collections.abc", "functools", "typing", "numpy", "numpy.typing"}
