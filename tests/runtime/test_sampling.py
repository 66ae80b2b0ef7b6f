import numpy as np
import pytest

from gsvexport.errors import InputError
from gsvexport.runtime.draws import Draws
from gsvexport.runtime.sampling import Sampling, choose, penalise, probabilities

NOTHING = np.empty(0, np.int64)


def row(*scores):
    return np.array(scores, np.float32)


def test_penalty_moves_each_distinct_code_once_towards_unlikely():
    out = penalise(row(2.0, -2.0, 3.0, -3.0), np.array([0, 1, 0, 0, 1]), 1.5)
    np.testing.assert_array_equal(out, row(2.0 / 1.5, -3.0, 3.0, -3.0))


def test_penalty_leaves_its_input_alone():
    logits = row(1.0, 2.0)
    penalise(logits, np.array([0]), 2.0)
    np.testing.assert_array_equal(logits, row(1.0, 2.0))


def test_top_p_drops_the_code_that_crosses_the_limit_but_never_the_first():
    logits = np.log(row(0.5, 0.3, 0.15, 0.05))
    crossing = probabilities(logits, NOTHING, Sampling(top_p=0.6))
    np.testing.assert_allclose(crossing, [1, 0, 0, 0])
    two = probabilities(logits, NOTHING, Sampling(top_p=0.9))
    np.testing.assert_allclose(two, [0.5 / 0.8, 0.3 / 0.8, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(probabilities(logits, NOTHING, Sampling(top_p=0.0)), [1, 0, 0, 0])


def test_top_p_is_measured_before_the_temperature():
    logits = np.log(row(0.5, 0.3, 0.15, 0.05))
    hot = probabilities(logits, NOTHING, Sampling(top_p=0.9, temperature=50.0))
    assert np.count_nonzero(hot) == 2


def test_top_k_keeps_every_code_that_equals_the_last_one():
    kept = probabilities(row(3.0, 1.0, 2.0, 2.0, 0.0), NOTHING, Sampling(top_k=2))
    assert np.flatnonzero(kept).tolist() == [0, 2, 3]


def test_top_k_larger_than_the_vocabulary_keeps_all():
    assert np.count_nonzero(probabilities(row(1.0, 2.0, 3.0), NOTHING, Sampling(top_k=500))) == 3


def test_temperature_zero_is_cold_but_finite():
    np.testing.assert_array_equal(probabilities(row(30.0, 30.5, -30.0), NOTHING, Sampling(temperature=0)), [0, 1, 0])


def test_draws_follow_the_probabilities():
    logits, sampling = np.log(row(0.6, 0.3, 0.1)), Sampling()
    drawn = [choose(logits, NOTHING, sampling, draws)[0] for draws in map(Draws, range(60)) for _ in range(100)]
    np.testing.assert_allclose(np.bincount(drawn) / 6000, [0.6, 0.3, 0.1], atol=0.02)


def test_a_forbidden_code_is_neither_drawn_nor_best_whatever_the_filters():
    logits = row(0.0, 9.0, 1.0)
    for sampling in (Sampling(top_k=3), Sampling(top_p=0.9), Sampling(greedy=True)):
        draws = sampling.draws()
        for _ in range(50):
            assert 1 not in choose(logits, np.array([1]), sampling, draws, forbidden=1)


def test_the_same_seed_draws_the_same_codes():
    logits = np.random.default_rng(0).normal(size=1025).astype(np.float32)
    first, second, other = (
        [choose(logits, NOTHING, s, draws)[0] for draws in [s.draws()] for _ in range(40)]
        for s in (Sampling(seed=1), Sampling(seed=1), Sampling(seed=2))
    )
    assert first == second != other


def test_greedy_is_the_arg_max_after_the_penalty():
    assert choose(row(2.0, 1.9), np.array([0]), Sampling(greedy=True), Draws(0)) == (1, 1)


def test_every_bad_setting_is_reported_at_once():
    with pytest.raises(InputError) as caught:
        Sampling(top_k=0, top_p=1.5, temperature=float("nan"), repetition_penalty=0, greedy="yes", seed=-1)
    text = str(caught.value)
    assert len(caught.value.problems) == 6
    for name in ("top_k is 0", "top_p is 1.5", "temperature is nan", "repetition_penalty is 0", "greedy", "seed is -1"):
        assert name in text


@pytest.mark.parametrize("setting", [{"top_k": 1.5}, {"top_k": True}, {"temperature": float("inf")}, {"top_p": "all"}])
def test_a_value_of_the_wrong_kind_is_refused(setting):
    with pytest.raises(InputError):
        Sampling(**setting)


def test_numpy_numbers_are_numbers():
    assert Sampling(top_k=np.int64(3), top_p=np.float32(0.5), greedy=np.bool_(True)).top_k == 3
