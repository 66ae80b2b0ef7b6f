"""Pitch and voicing of one voice: the YIN estimator (de Cheveigné and Kawahara, JASA 111, 2002, steps 1 to 5)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsvexport.signal.audio import resample

Array = NDArray[Any]
Floats = NDArray[np.float64]

RATE = 16000  # Hz; what the samples are brought to
HOP = 160  # samples, 10 ms
WINDOW = 512  # samples that are compared with their own past, 32 ms
LOWEST, HIGHEST = 60.0, 500.0  # Hz
THRESHOLD = 0.2  # of the normalised difference: below it a frame is periodic, so voiced
QUIETEST_DB = -40.0  # a frame's level under the loudest one's, below which it counts as silence


def pitch(samples: Array, rate: int) -> Floats:
    """Fundamental frequency in Hz every 10 ms, [frames], 0 where there is no voice.

    d(τ) = Σ_j (x_j - x_{j+τ})² over `WINDOW` samples, d'(τ) = d(τ)·τ / Σ_{k≤τ} d(k); the period is the first local
    minimum of d' below `THRESHOLD`, refined by a parabola.
    """
    signal = resample(samples, rate, RATE)
    longest, shortest = round(RATE / LOWEST), int(RATE / HIGHEST)
    span = WINDOW + longest + 1
    if signal.size < span:
        return np.zeros(0)
    frames = np.lib.stride_tricks.sliding_window_view(signal, span)[::HOP]
    difference = _difference(frames, longest)
    lags = np.arange(1, longest + 1)
    total = np.maximum(np.cumsum(difference[:, 1:], axis=1), np.finfo(float).tiny)
    normalised = np.concatenate([np.ones((len(frames), 1)), difference[:, 1:] * lags / total], axis=1)
    level = np.mean(frames[:, :WINDOW] ** 2, axis=1)
    loud = level > max(float(level.max()), np.finfo(float).tiny) * 10.0 ** (QUIETEST_DB / 10.0)
    inner = normalised[:, 1:-1]
    dips = (inner < THRESHOLD) & (inner <= normalised[:, :-2]) & (inner < normalised[:, 2:])
    dips[:, : shortest - 1] = False
    rows = np.arange(len(frames))
    lag = np.argmax(dips, axis=1) + 1
    before, here, after = (normalised[rows, lag + step] for step in (-1, 0, 1))
    bend = np.maximum(before - 2.0 * here + after, np.finfo(float).tiny)
    period = lag + np.clip(0.5 * (before - after) / bend, -0.5, 0.5)
    return np.where(dips.any(axis=1) & loud, RATE / period, 0.0)


def f0_cents(reference: Floats, value: Floats) -> float:
    """Median |1200·log2(x/r)| over the frames that are voiced in both tracks of `pitch`; NaN when there is none."""
    both = (reference > 0) & (value > 0)
    return float(np.median(np.abs(1200.0 * np.log2(value[both] / reference[both])))) if both.any() else float("nan")


def voicing_error(reference: Floats, value: Floats) -> float:
    """Share of frames that one track of `pitch` calls voiced and the other does not; 0 without frames."""
    return float(np.mean((reference > 0) != (value > 0))) if reference.size else 0.0


def _difference(frames: Floats, longest: int) -> Floats:
    """d(τ) for τ = 0..`longest` of each frame [n, WINDOW + longest + 1], by correlation in the frequency domain."""
    size = 1 << (frames.shape[1] + WINDOW - 1).bit_length()
    head = np.fft.rfft(frames[:, :WINDOW], size)
    correlation = np.fft.irfft(np.conj(head) * np.fft.rfft(frames, size), size)[:, : longest + 1]
    sums = np.cumsum(np.pad(frames**2, ((0, 0), (1, 0))), axis=1)
    energy = sums[:, WINDOW : WINDOW + longest + 1] - sums[:, : longest + 1]
    return np.asarray(np.maximum(energy[:, :1] + energy - 2.0 * correlation, 0.0))
