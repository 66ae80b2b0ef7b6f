"""The distance by which the gates judge a sound (`gsvexport.signal.loudness`), as a loss: with gradients, for crops."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gsvexport.signal.loudness import ADDED, EXPONENT, FFT, HOP, MELS, mel_filters

_POWER = 1e-7  # added to powers of bins, and
_FLOOR = 1e-5  # to mel magnitudes, where a root has no slope: an inaudible -100 dB


class Loudness(nn.Module):
    """√mean(w²·(Lx - Lr)²) / mean(Lr) of audio [B, N] to a reference [B, N], over all of a batch; w is `ADDED` where
    Lx > Lr, else 1."""

    def __init__(self, rate: int) -> None:
        super().__init__()
        filters = torch.tensor(mel_filters(rate, FFT, MELS), dtype=torch.float32)
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("window", torch.hann_window(FFT), persistent=False)

    def forward(self, made: Tensor, reference: Tensor) -> Tensor:  # noqa: D102 - the class says it
        ours, theirs = self._loudness(made), self._loudness(reference)
        change = ours - theirs
        squares = torch.where(change > 0, ADDED * change, change).square().mean()
        return (squares + 1e-8).sqrt() / theirs.detach().mean()

    def _loudness(self, audio: Tensor) -> Tensor:
        window, filters = self.get_buffer("window"), self.get_buffer("filters")
        bins = torch.stft(audio, FFT, HOP, FFT, window, return_complex=True, pad_mode="constant")
        loud: Tensor = (filters @ (bins.abs().square() + _POWER).sqrt() + _FLOOR) ** EXPONENT
        return loud
