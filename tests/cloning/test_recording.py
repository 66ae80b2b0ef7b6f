"""How a recording reaches the networks: rates, silence, loudness, length."""

from __future__ import annotations

import numpy as np
import pytest

from gsvexport.errors import InputError
from gsvexport.signal.audio import resample
from gsvexport.signal.cloning import SILENCE, audio_16k, prompt_codes, speaker_fbank
from gsvexport.signal.fbank import fbank


def sound(rate, seconds=0.7, seed=0):
    """Speech-like: strong below 4 kHz, weak above."""
    noise = np.random.default_rng(seed).standard_normal(int(rate * seconds))
    spectrum = np.fft.rfft(noise)
    frequency = np.fft.rfftfreq(len(noise), 1 / rate)
    shaped = np.fft.irfft(spectrum / (1 + (frequency / 1500) ** 2), len(noise))
    return shaped / np.abs(shaped).max() * 0.8


@pytest.mark.parametrize("rate", [8000, 22050, 24000, 32000, 44100, 48000])
def test_what_hubert_hears_is_what_soxr_gives_upstream(rate):
    soxr = pytest.importorskip("soxr")
    samples = sound(rate)
    expected = soxr.resample(samples, rate, 16000, "HQ")
    found = resample(samples, rate, 16000, sharp=True)
    count = min(len(found), len(expected))
    assert abs(len(found) - len(expected)) <= 1
    middle = slice(200, count - 200)  # the ends hang on what is put around them
    error = found[:count][middle] - expected[:count][middle]
    assert 20 * np.log10(np.abs(error).max()) < -65


@pytest.mark.parametrize("rate", [44100, 48000])
def test_what_16_khz_cannot_hold_is_gone(rate):
    time = np.arange(rate) / rate
    for frequency, level in ((1000, 0.0), (7200, 0.0), (8100, -100.0), (11000, -100.0)):
        tone = resample(np.sin(2 * np.pi * frequency * time), rate, 16000, sharp=True)[500:-500]
        db = 20 * np.log10(np.abs(tone).max())
        assert db == pytest.approx(level, abs=0.01) if level == 0 else db < level


def test_six_tenths_of_a_second_of_silence_follow_and_loudness_stays():
    samples = 1.7 * sound(16000)
    found = audio_16k(samples, 16000)
    assert found.shape == (1, len(samples) + SILENCE)
    assert SILENCE == 0.6 * 16000
    np.testing.assert_array_equal(found[0, : len(samples)], samples.astype(np.float32))
    assert not found[0, len(samples) :].any()


@pytest.mark.parametrize(("peak", "divisor"), [(0.5, 1), (1.5, 1.5), (5, 2)])
def test_the_speaker_network_hears_a_loud_recording_as_the_spectrogram_does(peak, divisor):
    samples = sound(32000)
    samples /= np.abs(samples).max()
    expected = fbank(resample(samples * peak / divisor, 32000, 16000))
    np.testing.assert_allclose(speaker_fbank(samples * peak, 32000), expected, atol=1e-5)


@pytest.mark.parametrize(("seconds", "fits"), [(2.999, False), (3.0, True), (10.0, True), (10.001, False)])
def test_codes_are_made_of_3_to_10_seconds(seconds, fits):
    def run(stage, feeds):
        sizes = {"ssl": feeds.get("audio_16k", np.empty((1, 0))).shape[1]}
        return {"ssl": {"ssl_content": sizes["ssl"]}, "prompt": {"codes": np.zeros((1, 5), np.int64)}}[stage]

    samples = np.ones(round(seconds * 8000))
    if fits:
        assert prompt_codes(run, samples, 8000).dtype == np.int64
    else:
        with pytest.raises(InputError, match="no prompt codes") as error:
            prompt_codes(run, samples, 8000)
        assert "3 to 10 s" in str(error.value)
