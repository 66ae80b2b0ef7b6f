"""The stretch of a recording that a voice is cloned from."""

import numpy as np
import pytest
from recordings import RATE, recorded, voiced

from gsvexport.errors import VoiceError
from gsvexport.signal.excerpt import excerpts, speech


def test_it_lies_between_two_long_pauses_and_cuts_no_speech():
    sound = recorded(0.5, voiced(5), 0.25, voiced(2), 0.25, voiced(12), 0.7, voiced(6), 0.8)
    best = excerpts(sound, RATE)[0]
    assert (best.start, best.end) == pytest.approx((20.55, 26.85), abs=0.05)
    assert best.pause == pytest.approx(0.7, abs=0.05)
    assert best.noise > 40
    spans = speech(sound, RATE)
    for one in excerpts(sound, RATE):
        assert 3 <= one.seconds <= 10
        assert all(end <= one.start or start >= one.end or one.start <= start < end <= one.end for start, end in spans)


def test_what_is_clean_is_preferred_to_what_is_not():
    found = excerpts(recorded(0.6, voiced(6, 1.6), 0.6, voiced(5), 0.6, top=0.5), RATE)
    assert [round(one.start) for one in found] == [7]
    beside_a_fan = recorded(0.6, voiced(6), 0.6, noise=-38)
    assert round(excerpts(np.concatenate([beside_a_fan, recorded(0.6, voiced(5), 0.6)]), RATE)[0].start) == 8


def test_two_channels_and_a_short_sentence_that_takes_its_pauses_along():
    sound = np.repeat(recorded(0.6, voiced(2.4), 0.6), 2, axis=1)
    assert excerpts(sound, RATE)[0].seconds == pytest.approx(3.0, abs=0.01)


@pytest.mark.parametrize(
    ("sound", "says"),
    [
        (recorded(0.5, voiced(1.5), 0.5), "too little speech"),
        (recorded(4.0), "too little speech"),
        (np.zeros((RATE * 4, 1), np.float32), "too little speech"),
        (recorded(0.5, voiced(14), 0.5), "neither too short nor too long"),
        (recorded(voiced(6)), "neither too short nor too long"),  # its first and last words may be cut off
        (recorded(0.5, voiced(5, 0.004), 0.5, noise=-85), "too quiet"),
        (recorded(0.5, voiced(5), 0.5, noise=-24), "too noisy"),
        (recorded(0.5, voiced(5, 2.5), 0.5, top=0.5), "clipped"),
    ],
)
def test_what_cannot_be_used_is_told_with_what_was_measured(sound, says):
    with pytest.raises(VoiceError, match=says) as told:
        excerpts(sound, RATE)
    assert told.value.found
    assert told.value.limit
    assert "record" in told.value.fix
