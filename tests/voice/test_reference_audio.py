from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from conformance import conformance

from gsvexport.errors import EnvironmentProblem, InputError, VoiceError
from gsvexport.model import Spectrogram
from gsvexport.signal.audio import MAX_SECONDS, read_audio, resample, spectrogram, spectrogram_frames

soundfile = pytest.importorskip("soundfile")
SETTINGS = Spectrogram()


def tone(rate, seconds=0.5, pitch=440.0):
    return np.sin(2 * np.pi * pitch * np.arange(int(rate * seconds)) / rate)


@pytest.mark.parametrize("version", ["v1", "v2", "v2Pro", "v2ProPlus"])
def test_the_spectrogram_is_upstreams(version):
    arrays = conformance(version).arrays
    found = spectrogram(arrays["s2_a_ref_wav32k"][0], SETTINGS)
    assert found.dtype == np.float32
    assert found.shape == (1, 1025, arrays["s2_a_refer"].shape[-1])
    # upstream's own numbers are float32 with magnitudes above 100, so their last bit is worth 1.5e-5
    np.testing.assert_allclose(found[..., :12], arrays["s2_a_refer_exact12"], rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize(("peak", "divisor"), [(0.5, 1.0), (1.0, 1.0), (1.5, 1.5), (5.0, 2.0)])
def test_a_loud_recording_is_divided_by_its_peak_but_at_most_by_two(peak, divisor):
    samples = tone(32000)
    samples /= np.abs(samples).max()
    expected = spectrogram(samples, SETTINGS) * (peak / divisor)
    np.testing.assert_allclose(spectrogram(peak * samples, SETTINGS), expected, rtol=1e-5, atol=1e-3)


def test_a_tone_stands_at_its_frequency_and_silence_at_the_floor():
    found = spectrogram(tone(32000, 1.0, 1000.0), SETTINGS)[0]
    assert (found[:, 5:-5].argmax(axis=0) == 64).all()  # 1000 Hz · 2048 / 32000
    np.testing.assert_allclose(spectrogram(np.zeros(3200), SETTINGS), 1e-4, rtol=1e-6)  # sqrt(1e-8)


@pytest.mark.parametrize("samples", [0, 704, 705, 1279, 1280, 1919, 1920, 32000])
def test_the_number_of_frames_is_known_beforehand(samples):
    frames = spectrogram_frames(samples, SETTINGS)
    if frames:
        assert spectrogram(np.ones(samples), SETTINGS).shape == (1, 1025, frames)
    else:
        with pytest.raises(InputError, match="no spectrogram"):
            spectrogram(np.ones(samples), SETTINGS)


@pytest.mark.parametrize("samples", [np.zeros((2, 4000)), np.full(4000, np.nan), np.full(4000, np.inf)])
def test_what_is_no_recording_gives_no_spectrogram(samples):
    with pytest.raises(InputError):
        spectrogram(samples, SETTINGS)


def dense_resample(samples, rate, new_rate):
    """torchaudio's definition as it is written: one filter for each output phase, applied with a stride."""
    common = math.gcd(rate, new_rate)
    old, new = rate // common, new_rate // common
    base = min(old, new) * 0.99
    width = math.ceil(6 * old / base)
    time = (-np.arange(new)[:, None] / new + np.arange(-width, width + old)[None] / old) * base
    time = time.clip(-6, 6)
    kernels = np.sinc(time) * np.cos(time * np.pi / 12) ** 2 * base / old
    padded = np.pad(samples, (width, width + old))
    frames = np.lib.stride_tricks.sliding_window_view(padded, kernels.shape[1])[::old]
    return (frames @ kernels.T).reshape(-1)[: math.ceil(new * len(samples) / old)]


@pytest.mark.parametrize(
    ("rate", "new"), [(44100, 32000), (16000, 32000), (48000, 16000), (22050, 32000), (32000, 32000)]
)
def test_resampling_follows_its_definition(rate, new):
    samples = np.random.default_rng(0).standard_normal(5000)
    expected = samples if rate == new else dense_resample(samples, rate, new)
    np.testing.assert_allclose(resample(samples, rate, new), expected, atol=1e-12)


@pytest.mark.parametrize(("rate", "new"), [(44100, 32000), (44101, 32000), (8000, 32000), (96000, 32000)])
def test_resampling_keeps_a_tone(rate, new):
    found, expected = resample(tone(rate), rate, new), tone(new)
    assert abs(len(found) - len(expected)) <= 1
    middle = slice(500, -500)
    assert np.abs(found[: len(expected)][middle] - expected[middle]).max() < 2e-3


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_reading_gives_mono_at_the_rate_asked_for(tmp_path, subtype):
    stereo = np.stack([tone(44100), 0.5 * tone(44100)], axis=1)
    soundfile.write(tmp_path / "a.wav", stereo, 44100, subtype=subtype)
    found = read_audio(tmp_path / "a.wav", 32000)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, resample(stereo.mean(axis=1), 44100, 32000), atol=1e-4)


def write(path, samples, rate=32000):
    soundfile.write(path, samples, rate, subtype="FLOAT")
    return path


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: write(path, np.zeros(0)), "holds no sound"),
        (lambda path: write(path, np.zeros(96000)), "96000 samples, all of them zero"),
        (lambda path: path.write_bytes(b""), "not a sound file"),
        (lambda path: path.write_bytes(b"RIFF, but no more"), "not a sound file"),
        (lambda path: path.mkdir(), "is a folder, where a file is wanted"),
        (lambda path: None, "cannot be read"),
        (lambda path: write(path, np.array([0.0, np.nan])), "NaN or infinite"),
        (lambda path: write(path, np.array([0.0, np.inf])), "NaN or infinite"),
        (lambda path: write(path, np.zeros(int(MAX_SECONDS * 100) + 1), 100), "too long"),
    ],
)
def test_what_cannot_be_a_reference_is_refused(tmp_path, make, said):
    path = tmp_path / "a.wav"
    make(path)
    with pytest.raises(VoiceError, match=said) as caught:
        read_audio(path, 32000)
    assert str(path) in str(caught.value)


def test_without_soundfile_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(EnvironmentProblem, match=r"gsvexport\[compile\]"):
        read_audio(tmp_path / "a.wav", 32000)
