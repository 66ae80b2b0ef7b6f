import numpy as np
import pytest

from gsvexport.errors import BackendError
from gsvexport.runtime.sampling import Sampling
from gsvexport.runtime.tokens import Decoder, GrowingCacheDecoder, generate
from gsvexport.stages import EOS_SUPPRESSED_STEPS

EOS = 5
GREEDY = Sampling(greedy=True, repetition_penalty=1.0)


class ScriptedDecoder:
    """A test double: returns scripted logits and notes what it is asked."""

    def __init__(self, rows):
        self.rows = [np.array(row, np.float32) for row in rows]
        self.steps = []

    def prefill(self, phones, bert, prompt):
        return self.rows[0]

    def step(self, token, position):
        self.steps.append((token, position))
        return self.rows[len(self.steps)]


def favour(*codes):
    """One row of logits that makes each code the best by far."""
    return [[10.0 if index == code else 0.0 for index in range(6)] for code in codes]


def run(decoder: Decoder, *, prompt=(), sampling=GREEDY, max_tokens=50, on_token=None):
    return generate(
        decoder,
        np.zeros((1, 3), np.int64),
        np.zeros((1, 1024, 3), np.float32),
        np.array([prompt], np.int64).reshape(1, -1),
        eos=EOS,
        sampling=sampling,
        draws=sampling.draws(),
        max_tokens=max_tokens,
        on_token=on_token,
    )


def test_eos_is_ignored_for_eleven_steps_and_then_ends_the_sentence():
    out = run(ScriptedDecoder(favour(*[EOS] * 30)))
    assert len(out.tokens) == EOS_SUPPRESSED_STEPS == 11
    assert EOS not in out.tokens
    assert out.logits.shape == (12, 6)  # the row that said EOS is there


def test_eos_as_the_most_likely_code_ends_although_another_was_drawn():
    rows = favour(*[1] * 11) + [[2.0, 2.0, 2.0, 2.0, 2.0, 2.1]] * 20
    for seed in range(8):
        out = run(ScriptedDecoder(rows), sampling=Sampling(seed=seed, repetition_penalty=1.0))
        assert len(out.tokens) == 11


def test_the_arg_max_that_ends_is_taken_after_the_penalty():
    # Before the penalty code 1 wins, after it EOS does: 1 has been used, EOS never is.
    out = run(ScriptedDecoder([*favour(*[1] * 11), [0, 3.0, 0, 0, 0, 2.5]]), sampling=Sampling(greedy=True))
    assert len(out.tokens) == 11


def test_all_codes_are_returned_when_the_limit_is_reached():
    decoder = ScriptedDecoder(favour(1, 2, 3, 4, 1, 2))
    out = run(decoder, max_tokens=4)
    assert out.tokens.tolist() == [1, 2, 3, 4]
    assert out.tokens.dtype == np.int64
    assert out.logits.shape == (4, 6)
    assert len(decoder.steps) == 3  # nothing is computed that is not used


def test_a_single_code_needs_no_step():
    decoder = ScriptedDecoder(favour(3))
    assert run(decoder, max_tokens=1).tokens.tolist() == [3]
    assert decoder.steps == []


@pytest.mark.parametrize("prompt", [(), (4, 4, 2)])
def test_the_first_new_code_stands_right_after_the_prompt(prompt):
    decoder = ScriptedDecoder(favour(1, 2, 3))
    run(decoder, prompt=prompt, max_tokens=3)
    assert decoder.steps == [(1, len(prompt)), (2, len(prompt) + 1)]


def test_prompt_codes_and_new_codes_are_penalised():
    rows = [[0, 3.0, 2.9, 2.8, 0, 0]] * 3
    out = run(ScriptedDecoder(rows), prompt=(1,), sampling=Sampling(greedy=True), max_tokens=3)
    assert out.tokens.tolist() == [2, 3, 1]


def test_logits_are_returned_as_the_network_gave_them():
    rows = favour(1, 1, 1)
    out = run(ScriptedDecoder(rows), sampling=Sampling(greedy=True, repetition_penalty=2.0), max_tokens=3)
    np.testing.assert_array_equal(out.logits, rows)


def test_a_listener_hears_exactly_what_is_returned():
    heard = []
    out = run(ScriptedDecoder(favour(*[1, 2] * 6, EOS)), on_token=heard.append)
    assert heard == out.tokens.tolist()
    assert len(heard) == 12


def test_logits_that_are_not_finite_name_the_step():
    with pytest.raises(BackendError, match=r"'step'.*step 2"):
        run(ScriptedDecoder([*favour(1, 2), [0, 0, np.nan, 0, 0, 0]]))
    with pytest.raises(BackendError, match="'prefill'"):
        run(ScriptedDecoder([[0, 0, np.inf, 0, 0, 0]]))


LAYERS, WIDTH = 3, 2


class CountingSession:
    """A test double of both graphs: row r of layer l holds 10000·l + r, values minus that; checks what it is fed."""

    def __init__(self, start):
        self.start = start
        self.seen = []

    def _rows(self, first, count):
        layer = 10000 * np.arange(LAYERS)[:, None, None, None]
        rows = (layer + np.arange(first, first + count)[None, None, :, None]).astype(np.float32)
        return np.broadcast_to(rows, (LAYERS, 1, count, WIDTH)).copy()

    def run(self, feeds):
        if "phones" in feeds:
            rows = self._rows(0, self.start)
            return {"logits": np.zeros((1, 6), np.float32), "keys": rows, "values": -rows}
        size = feeds["keys"].shape[2]
        assert feeds["keys"].flags.c_contiguous
        np.testing.assert_array_equal(feeds["keys"], self._rows(0, size))
        np.testing.assert_array_equal(feeds["values"], -self._rows(0, size))
        assert feeds["token"].shape == (1, 1)
        assert feeds["token"].dtype == feeds["position"].dtype == np.int64
        self.seen.append((size, int(feeds["position"][0])))
        new = self._rows(size, 1)
        return {"logits": np.full((1, 6), size, np.float32), "new_keys": new, "new_values": -new}

    def close(self):
        pass


@pytest.mark.parametrize("start", [1, 700])
def test_the_cache_keeps_every_row_in_place_while_it_grows(start):
    session = CountingSession(start)
    decoder = GrowingCacheDecoder(session, session)
    for _ in range(2):  # a second sentence starts afresh
        session.seen.clear()
        decoder.prefill(np.zeros((1, 1), np.int64), np.zeros((1, 1024, 1), np.float32), np.zeros((1, 0), np.int64))
        for index in range(600):  # grows several times
            logits = decoder.step(1, index)
            assert logits.shape == (6,)
            assert logits[0] == start + index
        assert session.seen == [(start + index, index) for index in range(600)]


def test_a_step_before_the_prefill_is_refused():
    session = CountingSession(1)
    with pytest.raises(BackendError, match="prefill"):
        GrowingCacheDecoder(session, session).step(0, 0)
