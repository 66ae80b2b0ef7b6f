from __future__ import annotations

import math

import numpy as np
import pytest

from gsvexport.errors import InputError
from gsvexport.signal.fbank import fbank

RATE = 16000


def speech(seconds, seed=0):
    random = np.random.default_rng(seed)
    time = np.arange(int(RATE * seconds)) / RATE
    tone = sum(np.sin(2 * np.pi * 130 * order * time) / order for order in range(1, 20))
    return (0.2 * tone * (1 + np.sin(2 * np.pi * 4 * time)) / 2 + 0.01 * random.standard_normal(len(time))) + 0.05


def by_definition(samples):
    """Kaldi's filterbank, one frame and one sum at a time."""
    rows = []
    for start in range(0, len(samples) - 400 + 1, 160):
        frame = [float(value) for value in samples[start : start + 400]]
        mean = math.fsum(frame) / 400
        frame = [value - mean for value in frame]
        emphasised = [frame[0] - 0.97 * frame[0]] + [frame[i] - 0.97 * frame[i - 1] for i in range(1, 400)]
        window = [(0.5 - 0.5 * math.cos(2 * math.pi * i / 399)) ** 0.85 for i in range(400)]
        padded = np.array([value * gain for value, gain in zip(emphasised, window, strict=True)] + [0.0] * 112)
        power = np.abs(np.fft.fft(padded))[:257] ** 2
        low, high = (1127 * math.log(1 + f / 700) for f in (20.0, 8000.0))
        step = (high - low) / 81
        row = []
        for band in range(80):
            left, centre, right = low + band * step, low + (band + 1) * step, low + (band + 2) * step
            energy = 0.0
            for k in range(257):
                mel = 1127 * math.log(1 + k * RATE / 512 / 700)
                if left < mel <= centre:
                    energy += power[k] * (mel - left) / (centre - left)
                elif centre < mel < right:
                    energy += power[k] * (right - mel) / (right - centre)
            row.append(math.log(max(energy, 1.1920928955078125e-07)))
        rows.append(row)
    return np.array(rows)


def test_the_filterbank_follows_its_definition():
    samples = speech(0.2)
    np.testing.assert_allclose(fbank(samples)[0], by_definition(samples), atol=1e-5)


def test_the_filterbank_is_kaldis():
    kaldi = pytest.importorskip("kaldi_native_fbank")
    options = kaldi.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.samp_freq = RATE
    options.mel_opts.num_bins = 80
    samples = speech(1.3, seed=1)
    theirs = kaldi.OnlineFbank(options)
    theirs.accept_waveform(RATE, samples.astype(np.float32).tolist())
    theirs.input_finished()
    expected = np.stack([theirs.get_frame(index) for index in range(theirs.num_frames_ready)])
    found = fbank(samples)[0]
    assert found.shape == expected.shape == (128, 80)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_silence_is_the_floor_and_not_minus_infinity():
    np.testing.assert_allclose(fbank(np.zeros(800)), math.log(np.finfo(np.float32).eps))


@pytest.mark.parametrize(("samples", "frames"), [(400, 1), (559, 1), (560, 2), (16000, 98)])
def test_only_whole_frames_count(samples, frames):
    assert fbank(np.ones(samples)).shape == (1, frames, 80)


@pytest.mark.parametrize("samples", [np.zeros(399), np.zeros((2, 800)), np.full(800, np.nan)])
def test_what_is_no_recording_gives_no_filterbank(samples):
    with pytest.raises(InputError, match="no filterbank"):
        fbank(samples)
