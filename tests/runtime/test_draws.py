"""docs/seeds.md is the specification of these numbers; its vectors are read from it here."""

import re
from pathlib import Path

import numpy as np
import pytest

import gsvexport
from gsvexport.errors import InputError
from gsvexport.runtime.draws import LARGEST_SEED, Draws, philox

PAGE = (Path(__file__).parents[2] / "docs/seeds.md").read_text("utf-8")


def rows(heading):
    """The cells of the table under a heading of the page."""
    table = re.search(rf"^## {heading}\n[^|]*((?:\|.*\n)+)", PAGE, re.M)[1]
    return [[cell.strip().strip("`") for cell in line.strip("|\n").split("|")] for line in table.splitlines()[2:]]


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [  # of Random123's known answers, philox4x32 with 10 rounds
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_the_blocks_are_the_authors_known_answers(counter, key, words):
    def numbers(text):
        return tuple(int(word, 16) for word in text.split())

    assert philox(numbers(counter), numbers(key)) == numbers(words)
    assert [counter, key, words] in rows("Blocks")


def test_uniform_numbers_are_those_of_the_page():
    for seed, sentence, attempt, *wanted in rows("Codes"):
        draws = Draws(int(seed), int(sentence), int(attempt))
        assert [f"{int(draws.uniform() * 2**53):014x}" for _ in wanted] == wanted


def test_normal_numbers_are_those_of_the_page_to_one_float32():
    for seed, sentence, attempt, *wanted in rows("Noise"):
        found = Draws(int(seed), int(sentence), int(attempt)).normal(3, 2)
        exact = np.array([float(value) for value in wanted])
        np.testing.assert_allclose(found[0].T.ravel(), exact, rtol=1.2e-7, atol=0)


def test_many_blocks_at_once_are_the_blocks_one_by_one():
    draws = Draws(LARGEST_SEED, 2**32 - 1, 5)
    key = (2**32 - 1, 2**32 - 1)
    expected = [philox((block, 1, 2**32 - 1, 5), key) for block in range(7, 40)]
    assert draws._blocks(7, 40).tolist() == [list(words) for words in expected]


@pytest.mark.parametrize("parts", [[40], [1] * 40, [3, 30, 7]])
def test_noise_does_not_depend_on_how_it_is_asked_for(parts):
    draws, codes = Draws(5), Draws(5)
    for _ in range(9):
        draws.uniform()  # codes take nothing away from the noise
    found = np.concatenate([draws.normal(3, count) for count in parts], axis=2)
    np.testing.assert_array_equal(found, codes.normal(3, 40))


def test_noise_is_standard_normal_and_sentences_tries_and_seeds_are_unlike():
    kinds = [(1, 0, 0), (1, 1, 0), (1, 0, 1), (2, 0, 0), (1 << 32, 0, 0)]
    tracks = np.array([Draws(*kind).normal(50, 400).ravel() for kind in kinds], np.float64)
    np.testing.assert_allclose(tracks.mean(axis=1), 0, atol=0.04)  # five standard errors of 20000 values
    np.testing.assert_allclose(tracks.var(axis=1), 1, atol=0.05)
    np.testing.assert_allclose((tracks**4).mean(axis=1), 3, atol=0.35)
    np.testing.assert_allclose(np.corrcoef(tracks), np.eye(len(kinds)), atol=0.04)
    assert tracks.min() < -3.5
    assert tracks.max() > 3.5


def test_a_seed_is_64_bits_and_no_more():
    assert Draws(np.int64(7)).uniform() == Draws(7).uniform()
    assert gsvexport.Sampling(seed=LARGEST_SEED).seed == LARGEST_SEED
    with pytest.raises(InputError, match="from 0 to 18446744073709551615"):
        gsvexport.Sampling(seed=LARGEST_SEED + 1)
