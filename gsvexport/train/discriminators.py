"""The judges of the adversarial stage: small convolutional networks over spectrograms and over the folded waveform."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

Seen = list[tuple[Tensor, list[Tensor]]]  # for each judge its scores and its features on the way

_RESOLUTIONS = ((512, 128), (1024, 256), (256, 64))  # transform size and hop, in samples
_PERIODS = (3, 7, 11)  # samples a row
_WIDTH = 16
_SLOPE = 0.1


class Discriminators(nn.Module):
    """Multi-resolution spectrogram judges (as in UnivNet) and multi-period ones (as in HiFi-GAN), for audio [B, N]."""

    def __init__(self) -> None:
        super().__init__()
        self.spectral = nn.ModuleList([_Spectral(size, hop) for size, hop in _RESOLUTIONS])
        self.periodic = nn.ModuleList([_Periodic(period) for period in _PERIODS])

    def forward(self, audio: Tensor) -> Seen:  # noqa: D102 - the class says it
        return [judge(audio) for judge in [*self.spectral, *self.periodic]]


def told_apart(real: Seen, made: Seen) -> Tensor:
    """What the judges minimise (least squares): 1 for real, 0 for made."""
    pairs = zip(real, made, strict=True)
    losses = [(good - 1).square().mean() + bad.square().mean() for (good, _), (bad, _) in pairs]
    return torch.stack(losses).mean()


def fooled(made: Seen) -> Tensor:
    """What the generator minimises: the judges' distance from calling its audio real."""
    return torch.stack([(score - 1).square().mean() for score, _ in made]).mean()


def matched(real: Seen, made: Seen) -> Tensor:
    """The mean difference of the judges' features, each layer relative to its size."""
    losses = [
        functional.l1_loss(ours, theirs.detach()) / (theirs.detach().abs().mean() + 1e-3)
        for (_, wanted), (_, got) in zip(real, made, strict=True)
        for ours, theirs in zip(got, wanted, strict=True)
    ]
    return torch.stack(losses).mean()


class _Judge(nn.Module):
    """A stack of strided convolutions over [B, C, H, W]."""

    def __init__(self, layers: list[nn.Conv2d]) -> None:
        super().__init__()
        self.layers = nn.ModuleList([weight_norm(layer) for layer in layers])

    def judge(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        features = []
        for layer in self.layers[:-1]:
            x = functional.leaky_relu(layer(x), _SLOPE)
            features.append(x)
        return self.layers[-1](x), features


class _Spectral(_Judge):
    def __init__(self, size: int, hop: int) -> None:
        widths = [(1, _WIDTH), (_WIDTH, _WIDTH), (_WIDTH, 2 * _WIDTH), (2 * _WIDTH, 2 * _WIDTH)]
        layers = [nn.Conv2d(i, o, (7, 3), stride=(2, 1), padding=(3, 1)) for i, o in widths]
        super().__init__([*layers, nn.Conv2d(2 * _WIDTH, 1, 3, padding=1)])
        self.size, self.hop = size, hop
        self.register_buffer("window", torch.hann_window(size), persistent=False)

    def forward(self, audio: Tensor) -> tuple[Tensor, list[Tensor]]:
        spectrum = torch.stft(
            audio, self.size, self.hop, self.size, self.get_buffer("window"), return_complex=True, pad_mode="constant"
        )
        power = spectrum.abs().square() * (256 / self.size)
        return self.judge(torch.log(power + 1e-4)[:, None] / 4)


class _Periodic(_Judge):
    def __init__(self, period: int) -> None:
        widths = [(1, _WIDTH), (_WIDTH, 2 * _WIDTH), (2 * _WIDTH, 4 * _WIDTH), (4 * _WIDTH, 4 * _WIDTH)]
        layers = [nn.Conv2d(i, o, (5, 1), stride=(3, 1), padding=(2, 0)) for i, o in widths]
        super().__init__([*layers, nn.Conv2d(4 * _WIDTH, 1, (3, 1), padding=(1, 0))])
        self.period = period

    def forward(self, audio: Tensor) -> tuple[Tensor, list[Tensor]]:
        rest = -audio.shape[1] % self.period
        folded = functional.pad(audio, (0, rest)).view(len(audio), -1, self.period)
        return self.judge(10 * folded[:, None])
