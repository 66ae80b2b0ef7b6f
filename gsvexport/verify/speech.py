"""Metrics of speech that other people's packages bring. Each is optional and says how it is installed.

All of them listen at 16 kHz: `narrow` brings samples there, inside [-1, 1].
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsvexport.artifact.tools import INSTALL
from gsvexport.errors import EnvironmentProblem
from gsvexport.signal.audio import resample
from gsvexport.verify.audio import mel_filters

Array = NDArray[Any]
Floats = NDArray[np.float32]

RATE = 16000


def absent(package: str) -> EnvironmentProblem:
    """The error for a metric whose package is not there."""
    return EnvironmentProblem(f"the package '{package}' is not installed", fix=INSTALL[package])


def narrow(samples: Array, rate: int) -> Floats:
    """Samples [N] at 16 kHz, clipped to ±1, which is all that these metrics take."""
    return np.clip(resample(samples, rate, RATE), -1.0, 1.0).astype(np.float32)


BEST_PESQ = 4.644  # what P.862.2 maps equal signals to


def pesq_wb(reference: Floats, value: Floats) -> float | None:
    """Wideband PESQ (ITU-T P.862.2) of two 16 kHz signals of one length; None where the reference is no speech.

    A value in which no speech is left, unlike in its reference, has the worst of scores, 1.

    Raises:
        EnvironmentProblem: the package `pesq` is absent.
    """
    try:
        import pesq
    except ImportError as error:
        raise absent("pesq") from error
    if not reference.any():
        return None
    if not value.any():  # PESQ divides by the level
        return 1.0
    refused = (pesq.NoUtterancesError, pesq.BufferTooShortError)
    try:
        return float(pesq.pesq(RATE, reference, value, "wb"))
    except refused:
        try:
            pesq.pesq(RATE, reference, reference, "wb")
        except refused:
            return None
        return 1.0


class Dnsmos:
    """DNSMOS (Reddy, Gopal, Cutler, ICASSP 2021 and 2022): the networks in the package `speechmos`.

    Only its networks are used. Features and polynomials are computed here as its code does, which would need librosa.

    Raises:
        EnvironmentProblem: the package is absent.
    """

    SAMPLES = 144160  # 9.01 s, what the networks take
    _FFT, _HOP, _MELS = 321, 160, 120
    _OVR = (-0.06766283, 1.11546468, 0.04602535)  # raw OVR → published scale

    def __init__(self, threads: int = 1) -> None:
        import onnxruntime

        models = folder("speechmos") / "dnsmos_models"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads
        self._p835, self._p808 = (
            onnxruntime.InferenceSession(str(models / name), options, providers=["CPUExecutionProvider"])
            for name in ("sig_bak_ovr.onnx", "model_v8.onnx")
        )

    def __call__(self, samples: Floats) -> tuple[float, float]:
        """(P.808, OVR) of 16 kHz samples in [-1, 1], the means over windows of 9.01 s one second apart.

        What is shorter is repeated, doubling, until a window is full.
        """
        if not samples.size:
            return float("nan"), float("nan")
        while samples.size < self.SAMPLES:
            samples = np.tile(samples, 2)
        count = int(samples.size // RATE - self.SAMPLES / RATE) + 1  # one fewer than fit, now and then, as published
        windows = [samples[index * RATE :][: self.SAMPLES] for index in range(count)]
        p808 = [self._p808.run(None, {"input_1": self._features(one[: -self._HOP])[None]})[0][0, 0] for one in windows]
        raw = [self._p835.run(None, {"input_1": one[None]})[0][0, 2] for one in windows]
        return float(np.mean(p808)), float(np.mean(np.polyval(self._OVR, raw)))

    def _features(self, samples: Floats) -> Floats:
        """Mel power in dB under its peak, at most 80, as (dB + 40) / 40: [frames, 120]."""
        padded = np.pad(np.asarray(samples, np.float64), self._FFT // 2)
        frames = np.lib.stride_tricks.sliding_window_view(padded, self._FFT)[:: self._HOP]
        window = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(self._FFT) / self._FFT)
        power = np.abs(np.fft.rfft(frames * window)) ** 2 @ mel_filters(RATE, self._FFT, self._MELS).T
        level = 10.0 * np.log10(np.maximum(power, 1e-10))
        level -= level.max()
        return np.asarray((np.maximum(level, -80.0) + 40.0) / 40.0, np.float32)


def folder(package: str) -> Path:
    """Where a package is installed; nothing of it is imported."""
    found = importlib.util.find_spec(package.replace("-", "_"))
    if found is None or not found.submodule_search_locations:
        raise absent(package)
    return Path(next(iter(found.submodule_search_locations)))
