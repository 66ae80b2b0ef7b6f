"""The HiFi-GAN generator: latent frames in, samples out."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from gsvexport.stages import MEL_BANDS
from gsvexport.voice.dims import SovitsDims
from gsvexport.voice.networks.layers import NormedConv1d, NormedConvTranspose1d

SLOPE = 0.1
LAST_SLOPE = 0.01  # upstream leaves the last one at torch's default


class Generator(nn.Module):
    """Upstream's `dec`: latent [B, I, F] and ge [B, G, 1] to audio [B, 1, F·hop]. Each stage halves the channels.

    v4's takes a mel [B, 100, M] and no ge, and has a bias at its end.
    """

    def __init__(self, dims: SovitsDims) -> None:
        super().__init__()
        block = {"1": _ResBlock1, "2": _ResBlock2}[dims.resblock]
        widths = [dims.upsample_initial >> stage for stage in range(len(dims.upsample_rates) + 1)]
        self.mel = dims.matching is not None
        self.conv_pre = nn.Conv1d(MEL_BANDS if self.mel else dims.inter, widths[0], 7, padding=3)
        self.ups = nn.ModuleList()
        self.resblocks = nn.ModuleList()
        self.branches = len(dims.resblock_kernels)
        stages = zip(widths, widths[1:], dims.upsample_kernels, dims.upsample_rates, strict=False)
        for wide, narrow, kernel, rate in stages:
            self.ups.append(NormedConvTranspose1d(wide, narrow, kernel, rate))
            for size, dilations in zip(dims.resblock_kernels, dims.resblock_dilations, strict=True):
                self.resblocks.append(block(narrow, size, dilations))
        self.conv_post = nn.Conv1d(widths[-1], 1, 7, padding=3, bias=self.mel)
        if not self.mel:
            self.cond = nn.Conv1d(dims.gin, widths[0], 1)

    def forward(self, latent: Tensor, ge: Tensor | None = None) -> Tensor:  # noqa: D102 - the class says it
        x = self.conv_pre(latent)
        if not self.mel:
            x = x + self.cond(ge)
        for stage, up in enumerate(self.ups):
            x = up(leaky_relu(x, SLOPE))
            branches = self.resblocks[stage * self.branches : (stage + 1) * self.branches]
            x = torch.stack([branch(x) for branch in branches]).mean(dim=0)
        return torch.tanh(self.conv_post(leaky_relu(x, LAST_SLOPE)))


class _ResBlock1(nn.Module):
    """A dilated and a plain convolution with each residual."""

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList([NormedConv1d(channels, channels, kernel, dilation) for dilation in dilations])
        self.convs2 = nn.ModuleList([NormedConv1d(channels, channels, kernel) for _ in dilations])

    def forward(self, x: Tensor) -> Tensor:
        for dilated, plain in zip(self.convs1, self.convs2, strict=True):
            x = x + plain(leaky_relu(dilated(leaky_relu(x, SLOPE)), SLOPE))
        return x


class _ResBlock2(nn.Module):
    """One dilated convolution with each residual."""

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.convs = nn.ModuleList([NormedConv1d(channels, channels, kernel, dilation) for dilation in dilations])

    def forward(self, x: Tensor) -> Tensor:
        for dilated in self.convs:
            x = x + dilated(leaky_relu(x, SLOPE))
        return x
