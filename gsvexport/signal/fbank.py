"""The filterbank that upstream's speaker network is fed: Kaldi's definition, in numpy.

Frames of 25 ms every 10 ms, only whole ones; each loses its mean, is pre-emphasised (0.97, the first sample by itself),
and gets Povey's window, a Hann window to the power 0.85. The power spectrum of 512 points goes through 80 triangles,
equally wide on the scale 1127·ln(1 + f/700) from 20 Hz to 8 kHz; the result is a natural logarithm. No dither.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gsvexport.errors import InputError

RATE = 16000  # Hz
BANDS = 80
_LENGTH, _SHIFT, _FFT = 400, 160, 512  # samples
_EMPHASIS = 0.97
_POWER = 0.85
_LOWEST = 20.0  # Hz
_FLOOR = float(np.finfo(np.float32).eps)  # of a band's power


def fbank(samples: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Log mel energies float32 [1, frames, 80] of mono samples [N] in ±1 at 16 kHz, computed in float64.

    Raises:
        InputError: not one channel, not finite, or shorter than a frame.
    """
    values = np.asarray(samples, np.float64)
    if values.ndim != 1 or len(values) < _LENGTH or not np.isfinite(values).all():
        raise InputError(
            "the recording gives no filterbank",
            found=f"shape {list(values.shape)}",
            limit=f"mono, finite, at least {_LENGTH} samples",
        )
    frames = np.lib.stride_tricks.sliding_window_view(values, _LENGTH)[::_SHIFT]
    frames = frames - frames.mean(axis=1, keepdims=True)
    before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_LENGTH) / (_LENGTH - 1))) ** _POWER
    spectrum = np.fft.rfft((frames - _EMPHASIS * before) * window, _FFT, axis=1)
    power = spectrum.real**2 + spectrum.imag**2
    return np.log(np.maximum(power @ _triangles().T, _FLOOR)).astype(np.float32)[None]


def _triangles() -> npt.NDArray[np.float64]:
    """[80, 257]: the weight of each frequency in each band."""

    def mel(frequency: npt.ArrayLike) -> npt.NDArray[np.float64]:
        return 1127.0 * np.log1p(np.asarray(frequency, np.float64) / 700.0)

    edges = np.linspace(mel(_LOWEST), mel(RATE / 2), BANDS + 2)
    left, centre, right = (edges[start : start + BANDS, None] for start in range(3))
    place = mel(np.arange(_FFT // 2 + 1) * RATE / _FFT)
    return np.maximum(0.0, np.minimum((place - left) / (centre - left), (right - place) / (right - centre)))
