"""The grid, the vocabulary, what packing rounds, and the flow that is not learned."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gsvexport.train import festival
from gsvexport.train.festival import Segment
from gsvexport.train.grid import FEWEST_CYCLES, MOST_CYCLES, frequency, label_of, plan, units

SAID = [("pau", 0.2), ("hh", 0.06), ("ay", 0.17), ("pau", 0.3)]


def segments(said):
    ends = np.cumsum([length for _, length in said])
    return [Segment(name, end - length, end) for (name, length), end in zip(said, ends.tolist(), strict=True)]


@given(st.lists(st.integers(FEWEST_CYCLES, MOST_CYCLES), min_size=1, max_size=40))
def test_every_token_starts_at_phase_0_with_its_own_number_of_cycles(cycles):
    hertz, phase = frequency(np.array(cycles))
    np.testing.assert_allclose(np.diff(phase[::2]), cycles, atol=1e-9)
    assert (hertz > 0).all()


def test_a_short_text_is_placed_as_the_front_end_writes_it():
    phones, found = units("Hi.", segments(SAID))
    assert phones == (".", "HH", "AY1", ".")
    assert [(unit.tokens, unit.phone) for unit in found] == [(2, 0), (2, 1), (4, 2), (4, 3)]
    placed = plan(phones, found, np.full(200, 180.0), 0.005)
    assert set(placed.cycles) == {7}
    assert placed.keys()[:, 2].tolist() == [0] * 4 + [7] * 4 + [0] * 4  # pauses and HH have no pitch
    assert placed.aligned().tolist() == [0, 0, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]


@pytest.mark.parametrize("said", [SAID[:2] + SAID[3:], [SAID[0], ("hh", 0.1), ("iy", 0.1), SAID[3]]])
def test_other_phones_than_the_front_end_asks_for_are_refused(said):
    assert units("Hi.", segments(said)) is None


def test_pitch_follows_the_source_but_ignores_a_single_jump():
    phones, found = units("Hi.", segments([("pau", 0.2), ("hh", 0.08), ("ay", 0.8), ("pau", 0.3)]))
    pitch = np.concatenate([np.full(130, 150.0), np.full(150, 200.0)])
    pitch[90:94] = 190.0
    cycles = plan(phones, found, pitch, 0.005).cycles[4:-4]
    assert set(cycles[:8]) == {6}
    assert set(cycles[-8:]) == {8}


def test_both_stresses_are_one_label_and_signs_are_pauses():
    assert label_of("AH2") == label_of("AH1") != label_of("AH0")
    assert label_of(",") == label_of("?") == 0


def test_festival_gets_a_spelling_for_each_pronunciation_and_no_apostrophes():
    spellings = {}
    said = festival._plain("I want to record - it's a record.", spellings)
    assert said == "i want to record, itxs a recordx."
    assert spellings[("record", ("R", "AH0", "K", "AO1", "R", "D"))] == "record"
    assert spellings[("record", ("R", "EH1", "K", "ER0", "D"))] == "recordx"
    assert festival._syllables(("AH0", "B", "R", "AO1", "D")) == "((ax) 0) ((b r ao d) 1)"


torch = pytest.importorskip("torch")
pack, shape, tokens = (pytest.importorskip(f"gsvexport.train.{name}") for name in ("pack", "shape", "tokens"))


@settings(max_examples=50)
@given(st.floats(-60000, 60000).filter(lambda value: abs(value) > 1e-3), st.integers(4, 8))
def test_rounding_keeps_the_leading_bits(value, bits):
    (result,) = pack.rounded(np.array([value], np.float32), bits).astype(np.float64)
    assert abs(result - value) <= abs(value) * 2.0**-bits * 1.02 + 2.0**-24  # float16 itself rounds, too
    assert pack.rounded(np.array([result]), bits) == result


def test_a_rare_key_becomes_the_nearest_of_its_phone():
    ah1, ah0 = label_of("AH1"), label_of("AH0")
    known = tokens.vocabulary([np.array([[ah1, 0, 7]] * 20 + [[ah1, 1, 7]] * 20 + [[0, 0, 0]] * 20)])
    assert known.codes(np.array([[ah1, 0, 9], [ah1, 3, 7], [ah0, 1, 7]])).tolist() == [1, 2, 2]
    rows = known.codebook()
    assert np.abs(rows[:3]).min() == 1
    assert not rows[3:].any()
    with pytest.raises(ValueError, match="B"):
        known.codes(np.array([[label_of("B"), 0, 7]]))


def test_the_flow_moves_every_channel_is_inverted_exactly_and_hears_ge():
    network = shape.untrained().double()
    generator = torch.Generator().manual_seed(0)
    latent = torch.randn((1, shape.SOVITS.inter, 50), generator=generator, dtype=torch.float64)
    ge = 0.5 * torch.randn((2, shape.SOVITS.gin, 1), generator=generator, dtype=torch.float64)
    with torch.no_grad():
        moved = network.flow(latent, ge[:1], inverse=False)
        other = network.flow(latent, ge[1:], inverse=False)
        back = network.flow(moved, ge[:1], inverse=True)
        noise = 0.1 * torch.randn(latent.shape, generator=generator, dtype=torch.float64)
        off = network.flow(moved + noise, ge[:1], inverse=True) - latent
    assert (moved - latent).std(dim=2).min() > 0.01
    assert (other - moved).abs().mean() > 0.1
    assert (back - latent).abs().max() < 1e-12
    assert 0.8 < off.std() / noise.std() < 1.3  # an error of the encoder stays an error of its size
