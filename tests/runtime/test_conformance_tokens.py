"""The token loop through the exported graphs, against upstream's own codes and logits."""

import numpy as np
import pytest

from gsvexport import Sampling
from gsvexport.runtime.sampling import probabilities

GREEDY = Sampling(greedy=True)
LOGITS = 1e-4  # the referee's own tolerance for float32


@pytest.mark.parametrize("case", ["a", "b"])
def test_greedy_codes_are_upstreams(referee, case):
    get = {name: referee.arrays[f"t2s_{case}_{name}"] for name in ("phones", "bert", "prompt", "tokens", "logits")}
    tokens, logits = referee.voice.tokens(
        get["phones"], get["bert"], get["prompt"], GREEDY, max_tokens=len(get["tokens"]), return_logits=True
    )
    np.testing.assert_array_equal(tokens, get["tokens"])
    np.testing.assert_allclose(logits, get["logits"], rtol=0, atol=LOGITS)


@pytest.mark.parametrize("case", ["a", "b"])
def test_greedy_codes_without_penalty_are_upstreams(referee, case):
    expected, margin = referee.arrays[f"t2s_{case}_norep_tokens"], referee.arrays[f"t2s_{case}_norep_margin"]
    tokens = referee.voice.tokens(
        referee.arrays[f"t2s_{case}_phones"],
        referee.arrays[f"t2s_{case}_bert"],
        referee.arrays[f"t2s_{case}_prompt"],
        Sampling(greedy=True, repetition_penalty=1.0),
        max_tokens=len(expected),
    )
    ties = np.flatnonzero(margin < 10 * LOGITS)  # from the first tie on, rounding decides
    sure = ties[0] if ties.size else len(expected)
    assert sure >= 5
    np.testing.assert_array_equal(tokens[:sure], expected[:sure])


def test_the_sentence_that_meets_eos_ends_where_upstreams_does(referee):
    arrays = referee.arrays
    tokens, logits = referee.voice.tokens(
        arrays["t2s_eos_phones"][0],
        arrays["t2s_eos_bert"][0],
        arrays["t2s_eos_prompt"][0],
        GREEDY,
        return_logits=True,
    )
    np.testing.assert_array_equal(tokens, arrays["t2s_eos_semantic"][0])
    assert len(tokens) == arrays["t2s_eos_returned_idx"]
    assert len(logits) == len(tokens) + 1
    np.testing.assert_allclose(logits[-1], arrays["t2s_eos_logits_last"], rtol=0, atol=LOGITS)


def test_prompt_free_codes_are_upstreams(referee):
    arrays = referee.arrays
    expected = arrays["t2s_free_tokens"]
    tokens, logits = referee.voice.tokens(
        arrays["t2s_free_phones"], arrays["t2s_free_bert"], [], GREEDY, max_tokens=len(expected), return_logits=True
    )
    np.testing.assert_allclose(logits[:3], arrays["t2s_free_logits_first3"], rtol=0, atol=LOGITS)
    np.testing.assert_array_equal(tokens, expected)


def test_what_codes_are_drawn_from_is_upstreams(referee):
    arrays = referee.arrays
    for (top_k, top_p, temperature, penalty), expected in zip(arrays["samp_cfg"], arrays["samp_probs"], strict=True):
        sampling = Sampling(int(top_k), float(top_p), float(temperature), float(penalty))
        found = probabilities(arrays["samp_logits"][0], arrays["samp_prev"][0], sampling)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
        np.testing.assert_array_equal(found > 0, expected > 0)
