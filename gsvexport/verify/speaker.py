"""Whose voice is it? The speaker encoder of the package `resemblyzer`, run in numpy.

Three LSTM layers over 40 mel bands (Wan et al., "Generalized end-to-end loss for speaker verification", 2018). Only its
weights are used: the package itself would need torch, and a compiler. Silence is left out by level and not by its voice
detector, so its numbers are comparable among each other alone.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from gsvexport.errors import EnvironmentProblem
from gsvexport.files import sha256_file
from gsvexport.verify.audio import mel_filters
from gsvexport.verify.speech import RATE, folder

Floats = NDArray[np.float32]

_FFT, _HOP, _MELS = 400, 160, 40
_PARTIAL = 160  # frames, 1.6 s: what the network was trained on
_STRIDE = 77  # frames between the partials' starts, 1.3 a second
_LEVEL_DB = -30.0  # what the network expects; quieter speech is made as loud
_SILENT_DB = -40.0  # under the loudest frame
_SHA256 = "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e"  # of the weights in resemblyzer 0.1.4


class SpeakerEncoder:
    """Speech to a direction in 256 dimensions; the cosine between two of them says how alike two voices are.

    Raises:
        EnvironmentProblem: the package is absent, or its weights are not those of release 0.1.4.
    """

    def __init__(self) -> None:
        path = folder("resemblyzer") / "pretrained.pt"
        if not path.is_file() or sha256_file(path) != _SHA256:
            raise EnvironmentProblem(
                f"{path} does not hold the weights of resemblyzer 0.1.4",
                fix="pip install --no-deps --force-reinstall resemblyzer==0.1.4",
            )
        self._w = _weights(path)

    def __call__(self, utterances: Sequence[Floats]) -> Floats:
        """The unit vectors [n, 256] of 16 kHz utterances; NaN for one without sound. All of them go in one batch."""
        partials = [_partials(_mels(samples)) for samples in utterances]
        rows = np.concatenate(partials) if partials else np.zeros((0, _PARTIAL, _MELS), np.float32)
        for layer in range(3):
            rows = self._lstm(rows, layer)
        raw = np.maximum(rows[:, -1] @ self._w["linear.weight"].T + self._w["linear.bias"], 0.0)
        raw /= np.linalg.norm(raw, axis=1, keepdims=True)
        ends = np.cumsum([len(one) for one in partials])
        found = np.full((len(partials), raw.shape[1]), np.nan, np.float32)
        for index, (one, end) in enumerate(zip(partials, ends, strict=True)):
            if len(one):
                mean = raw[end - len(one) : end].mean(axis=0)
                found[index] = mean / np.linalg.norm(mean)
        return found

    def _lstm(self, rows: Floats, layer: int) -> Floats:
        """One layer over rows [batch, frames, width]; the gates are stored as input, forget, cell, output."""
        weights = [self._w[f"lstm.{name}_l{layer}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        fed = rows @ weights[0].T + weights[2] + weights[3]
        hidden = cell = np.zeros((len(rows), weights[1].shape[1]), np.float32)
        out = []
        for frame in range(rows.shape[1]):
            i, f, g, o = np.split(fed[:, frame] + hidden @ weights[1].T, 4, axis=1)
            cell = _sigmoid(f) * cell + _sigmoid(i) * np.tanh(g)
            hidden = _sigmoid(o) * np.tanh(cell)
            out.append(hidden)
        return np.stack(out, axis=1)


def _weights(path: Path) -> dict[str, Floats]:
    """The tensors of a file in torch's format before 1.6: three pickles of no interest, one with the names, shapes and
    storages, one with the order of the storages, then each of these as a count and so many float32.
    """
    with open(path, "rb") as stream:
        for _ in range(3):
            _References(stream).load()
        tensors = _References(stream).load()["model_state"]
        storages = {}
        for key in _References(stream).load():
            count = int(np.frombuffer(stream.read(8), "<i8")[0])
            storages[key] = np.frombuffer(stream.read(4 * count), "<f4")
    found: dict[str, Floats] = {}
    for name, (key, offset, shape, stride) in tensors.items():
        steps = tuple(4 * step for step in stride)
        found[name] = np.array(np.ndarray(shape, np.float32, storages[key].tobytes(), 4 * offset, steps))
    return found


class _References(pickle.Unpickler):
    """Makes plain tuples of tensors, and nothing of any other class."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(stream)

    def find_class(self, module: str, name: str) -> Any:
        known: dict[str, Any] = {
            "collections.OrderedDict": OrderedDict,
            "torch._utils._rebuild_tensor_v2": lambda key, offset, shape, stride, *_: (key, offset, shape, stride),
            "torch.FloatStorage": None,
        }
        if f"{module}.{name}" not in known:
            raise pickle.UnpicklingError(f"{module}.{name} has no place in these weights")
        return known[f"{module}.{name}"]

    def persistent_load(self, pid: Any) -> Any:
        return pid[2]  # ("storage", kind, key, place, count, view)


def _partials(mels: Floats) -> Floats:
    """Mel frames [frames, 40] as overlapping pieces [n, 160, 40]; the first is filled up with silence."""
    if len(mels) and len(mels) < _PARTIAL:
        mels = np.pad(mels, ((0, _PARTIAL - len(mels)), (0, 0)))
    pieces = [mels[start : start + _PARTIAL] for start in range(0, len(mels) - _PARTIAL + 1, _STRIDE)]
    return np.stack(pieces) if pieces else np.zeros((0, _PARTIAL, _MELS), np.float32)


def _mels(samples: Floats) -> Floats:
    """Mel power of the frames that are not silent, [frames, 40], at the level that the network expects."""
    signal = np.asarray(samples, np.float64)
    level = float(np.sqrt(np.mean(signal**2))) if signal.size else 0.0
    if level == 0.0:
        return np.zeros((0, _MELS), np.float32)
    signal = signal * max(1.0, 10.0 ** (_LEVEL_DB / 20.0) / level)
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(signal, _FFT // 2), _FFT)[::_HOP]
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(_FFT) / _FFT)
    power = np.abs(np.fft.rfft(frames * window)) ** 2
    loud = power.sum(axis=1)
    kept = power[loud > loud.max() * 10.0 ** (_SILENT_DB / 10.0)]
    return np.asarray(kept @ mel_filters(RATE, _FFT, _MELS).T, np.float32)


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)), np.float32)
