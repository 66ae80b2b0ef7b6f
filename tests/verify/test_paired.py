from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsvexport.verify.gates import judge, resolve
from gsvexport.verify.paired import as_ratio, estimate

numbers = st.lists(st.floats(-10, 10), min_size=1, max_size=30)


@given(numbers)
def test_the_value_is_the_mean_and_lies_inside_its_interval(differences: list[float]) -> None:
    found = estimate(differences)
    assert found.value == pytest.approx(np.mean(differences), abs=1e-12)
    assert min(differences) - 1e-9 <= found.low <= found.high <= max(differences) + 1e-9
    assert estimate(differences) == found  # the draws are always the same


def test_no_difference_has_no_width() -> None:
    found = estimate([0.0] * 12)
    assert (found.value, found.low, found.high, found.n) == (0.0, 0.0, 0.0, 12)


def test_the_interval_holds_the_truth_about_19_times_in_20() -> None:
    random = np.random.default_rng(0)
    found = [estimate(random.normal(0.1, 0.2, 24).tolist()) for _ in range(200)]
    inside = sum(one.low <= 0.1 <= one.high for one in found)
    assert 0.88 <= inside / 200 <= 0.99


def test_seeds_of_one_sentence_are_not_taken_for_more_sentences() -> None:
    """Each sentence is said four times and fails each time alike: the interval is that of the sentences alone."""
    random = np.random.default_rng(1)
    inside: dict[bool, int] = {False: 0, True: 0}
    for _ in range(150):
        sentences = random.normal(0.1, 0.2, 24)
        differences, places = np.tile(sentences, 4), np.tile(np.arange(24), 4)
        once = estimate(sentences.tolist())
        for clusters in inside:
            found = estimate(differences.tolist(), clusters=places.tolist() if clusters else None)
            inside[clusters] += found.low <= 0.1 <= found.high
            if clusters:
                assert (found.n, found.value) == (96, pytest.approx(once.value))
                assert (found.low, found.high) == (pytest.approx(once.low), pytest.approx(once.high))
    assert inside[True] / 150 >= 0.88
    assert inside[False] / 150 < 0.75  # half as wide as it should be


def test_weights_make_it_a_ratio_of_sums() -> None:
    assert estimate([1, 0, 2], [10, 5, 15]).value == pytest.approx(0.1)


@pytest.mark.parametrize("differences", [[], [math.nan], [0.1, math.nan]])
def test_what_cannot_be_estimated_is_no_number_and_fails(differences: list[float]) -> None:
    found = estimate(differences)
    assert math.isnan(found.value)
    check = judge(resolve(), "free_run", "p808_drop", "source", found.value, found.n, interval=(found.low, found.high))
    assert check.status == "fail"


@given(st.floats(-1, 1), st.floats(0, 1))
def test_half_and_double_are_the_same_ratio(middle: float, width: float) -> None:
    logarithms = estimate([middle - width, middle + width])
    mirrored = estimate([-middle - width, -middle + width])
    one, other = as_ratio(logarithms), as_ratio(mirrored)
    assert one.value == pytest.approx(other.value)
    assert one.value >= 1
    assert 1 <= one.low <= one.value + 1e-9
    assert one.high >= one.value - 1e-9


def test_the_bound_decides_and_not_the_mean() -> None:
    gates = resolve("fp32", {"p808_drop": 0.2})
    kept = judge(gates, "free_run", "p808_drop", "source", 0.1, 24, interval=(0.02, 0.19))
    missed = judge(gates, "free_run", "p808_drop", "source", 0.1, 24, interval=(-0.05, 0.21))
    assert (kept.status, missed.status) == ("pass", "fail")
    assert (missed.low, missed.high) == (-0.05, 0.21)
