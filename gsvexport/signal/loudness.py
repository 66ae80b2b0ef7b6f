"""How far one sound is from another to an ear, roughly: a distance of compressed mel spectra, with numpy alone.

A logarithm counts a change in an inaudible pause as much as one in a vowel, a magnitude hardly counts anything but
vowels. Loudness lies between: it grows with a small power of intensity. What is added to a sound (hiss, hum, grit) is
noticed before what is missing from it. Exponent and weight were found by `gsvexport.verify.sensitivity`, whose table
says how much nearer to PESQ's order they come than a log-mel distance does.

Artifacts carry this file to devices: it runs on Python 3.8 with the numpy of those days, and imports nothing else.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Array = NDArray[Any]

FFT, HOP, MELS = 1024, 256, 80  # of the spectra; window = FFT, in samples
EXPONENT = 0.3  # of a mel band's magnitude, 0.15 of its intensity
ADDED = 2.0  # what is louder than in the reference counts so many times

# A voice that hardly uses its noise is not as easily hurt as that: 0.2 is what a trained VITS decoder moves by, and on
# that one and on one that moves by 0.03, PESQ leaves 4.4 at half of 0.2. No speech moves by more than 1.
LEAST_UNIT, MOST_UNIT = 0.2, 1.0


def unit(variation: float) -> float:
    """The distance that counts as 1 for a voice whose sound moves by `variation` from one noise seed to another."""
    return min(max(variation, LEAST_UNIT), MOST_UNIT)


def loudness(samples: Array, rate: int) -> Array:
    """Mel magnitudes of a mono signal [N] to the power of `EXPONENT`, [frames, `MELS`]; silence is 0."""
    return np.asarray((magnitudes(samples, FFT, HOP) @ mel_filters(rate, FFT, MELS).T) ** EXPONENT)


def distance(pairs: Sequence[tuple[Array, Array]], rate: int) -> float:
    """Of pairs (reference, value) of mono signals, each of one length: the difference beside the loudness itself.

    √mean(w²·(Lx - Lr)²) / mean(Lr) over all bands and frames of all pairs; w is `ADDED` where Lx > Lr, else 1. 0 for
    equal signals; a reference of silence is infinitely far from any sound.
    """
    squares = loud = 0.0
    count = 0
    for reference, value in pairs:
        expected, found = loudness(reference, rate), loudness(value, rate)
        change = found - expected
        squares += float(np.sum(np.square(np.where(change > 0, ADDED * change, change))))
        loud += float(np.sum(expected))
        count += expected.size
    if squares == 0.0:
        return 0.0
    return float(np.sqrt(squares / count) / (loud / count)) if loud > 0.0 else float("inf")


def magnitudes(samples: Array, size: int, hop: int) -> Array:
    """|STFT| with a periodic Hann window of `size` samples, centred by reflection: [1 + N // hop, size // 2 + 1].

    A signal too short to reflect is padded with zeros instead.
    """
    signal = np.asarray(samples, np.float64)
    if signal.ndim != 1 or not signal.size:
        raise ValueError(f"a spectrogram needs a non-empty one-dimensional signal, not one of shape {signal.shape}")
    padded = np.pad(signal, size // 2, mode="reflect" if signal.size > size // 2 else "constant")
    starts = np.arange(0, padded.size - size + 1, hop)
    frames = padded[starts[:, None] + np.arange(size)]
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(size) / size)
    return np.asarray(np.abs(np.fft.rfft(frames * window, axis=-1)))


@lru_cache(maxsize=8)
def mel_filters(rate: int, size: int, mels: int) -> Array:
    """Slaney's triangular filters [mels, size // 2 + 1], each with unit area in Hz (Auditory Toolbox, 1998)."""
    edges = _mel_to_hz(np.linspace(0.0, _hz_to_mel(rate / 2.0), mels + 2))
    bins = np.arange(size // 2 + 1) * (rate / size)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    filters = np.maximum(0.0, np.minimum(rising, falling)) * (2.0 / (edges[2:] - edges[:-2]))[:, None]
    filters.setflags(write=False)  # shared by every caller
    return np.asarray(filters)


_LINEAR = 200.0 / 3.0  # Hz for each mel below the knee
_KNEE = 1000.0  # Hz
_LOG_STEP = np.log(6.4) / 27.0  # for each mel above it


def _hz_to_mel(hz: float) -> float:
    return hz / _LINEAR if hz < _KNEE else _KNEE / _LINEAR + float(np.log(hz / _KNEE) / _LOG_STEP)


def _mel_to_hz(mel: Array) -> Array:
    knee = _KNEE / _LINEAR
    return np.where(mel < knee, mel * _LINEAR, _KNEE * np.exp(_LOG_STEP * (mel - knee)))
