"""Distances between two sample-synchronous signals, and what can be said of one signal alone. Mono float arrays [N].

The signals are never aligned first: a fixed-token, fixed-noise comparison is synchronous by construction, and an
alignment would only hide a shift.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsvexport.errors import InputError
from gsvexport.signal.loudness import magnitudes, mel_filters

Array = NDArray[Any]
__all__ = ["magnitudes", "mel_filters"]

MEL_FFT, MEL_HOP, MELS, MEL_FLOOR = 1024, 256, 80, 1e-5
RESOLUTIONS = ((512, 128), (1024, 256), (2048, 512))  # (FFT size = window, hop) in samples
CLIP_LEVEL = 0.999  # of full scale
SILENCE_DB = -60.0  # re full scale, of a 20 ms frame's root mean square
SILENCE_FRAME = 0.020  # s


def log_mel(samples: Array, rate: int) -> NDArray[np.float64]:
    """Natural logarithm of the mel magnitude spectrogram, [frames, 80].

    FFT and periodic Hann window of 1024 samples, hop 256, centred with reflection, magnitude (not power); 80 Slaney
    mels (linear below 1 kHz, area-normalised triangles) from 0 to rate/2 Hz; floor 1e-5 before the logarithm.
    """
    mel = magnitudes(samples, MEL_FFT, MEL_HOP) @ mel_filters(rate, MEL_FFT, MELS).T
    return np.asarray(np.log(np.maximum(mel, MEL_FLOOR)))


def log_mel_l1(reference: Array, value: Array, rate: int) -> float:
    """Mean over frames and bands of |log_mel(x) - log_mel(r)|, in nepers (0.115 is 1 dB)."""
    _same_length(reference, value)
    return float(np.mean(np.abs(log_mel(value, rate) - log_mel(reference, rate))))


def multi_resolution_stft(reference: Array, value: Array) -> float:
    """Mean over `RESOLUTIONS` of spectral convergence + log-magnitude distance.

    Spectral convergence is ‖|R| - |X|‖ / ‖|R|‖ (Frobenius), the log distance the mean of |ln|R| - ln|X||, magnitudes
    floored at 1e-5. Yamamoto, Song, Kim: Parallel WaveGAN, 2020, equations 3 to 6.
    """
    _same_length(reference, value)
    distances = []
    for size, hop in RESOLUTIONS:
        r, x = magnitudes(reference, size, hop), magnitudes(value, size, hop)
        convergence = np.linalg.norm(r - x) / max(float(np.linalg.norm(r)), MEL_FLOOR)
        log_distance = np.mean(np.abs(np.log(np.maximum(r, MEL_FLOOR)) - np.log(np.maximum(x, MEL_FLOOR))))
        distances.append(float(convergence + log_distance))
    return float(np.mean(distances))


def rms(samples: Array) -> float:
    """Root mean square, of full scale 1; 0 for an empty signal."""
    return float(np.sqrt(np.mean(np.square(np.asarray(samples, np.float64))))) if samples.size else 0.0


def clipping_share(samples: Array) -> float:
    """Share of samples with |x| ≥ `CLIP_LEVEL`; 0 for an empty signal."""
    return float(np.mean(np.abs(samples) >= CLIP_LEVEL)) if samples.size else 0.0


def silence_share(samples: Array, rate: int) -> float:
    """Share of 20 ms frames whose root mean square lies below `SILENCE_DB`; the rest of a frame at the end is left out.

    1 for a signal shorter than one frame.
    """
    length = round(rate * SILENCE_FRAME)
    frames = np.asarray(samples, np.float64)[: samples.size // length * length].reshape(-1, length)
    if not frames.size:
        return 1.0
    return float(np.mean(np.sqrt(np.mean(frames**2, axis=1)) < 10.0 ** (SILENCE_DB / 20.0)))


def nonfinite_count(samples: Array) -> int:
    """How many elements are NaN or infinite."""
    return int(samples.size - np.count_nonzero(np.isfinite(samples)))


def _same_length(reference: Array, value: Array) -> None:
    if reference.shape != value.shape:
        raise InputError("only signals of one length can be compared", found=value.shape, limit=reference.shape)
