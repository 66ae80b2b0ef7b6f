"""Building blocks that several networks share: weight-normed convolutions and channel-first layer norm."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class _WeightNorm(nn.Module):
    """w = g · v / ‖v‖, the norm taken over every axis but the first (torch's old `weight_norm` with dim 0).

    Kept un-folded, with the old parameter names, because checkpoints store it so and training changes g and v.
    The first axis is the output channel of a convolution and the input channel of a transposed one.
    """

    def __init__(self, shape: tuple[int, int, int], bias: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(bias))
        self.weight_g = nn.Parameter(torch.ones(shape[0], 1, 1))
        self.weight_v = nn.Parameter(torch.randn(shape) / (shape[1] * shape[2]) ** 0.5)

    @property
    def weight(self) -> Tensor:
        length: Tensor = torch.linalg.vector_norm(self.weight_v, dim=(1, 2), keepdim=True)
        return self.weight_v * (self.weight_g / length)


class NormedConv1d(_WeightNorm):
    """Weight-normed convolution, [B, inputs, T] → [B, outputs, T]: odd kernel, padded to keep the length."""

    def __init__(self, inputs: int, outputs: int, kernel: int, dilation: int = 1) -> None:
        super().__init__((outputs, inputs, kernel), outputs)
        self.dilation, self.padding = dilation, dilation * (kernel - 1) // 2

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102 - the class says it
        return functional.conv1d(x, self.weight, self.bias, padding=self.padding, dilation=self.dilation)


class NormedConvTranspose1d(_WeightNorm):
    """Weight-normed transposed convolution, [B, inputs, T] → [B, outputs, T · rate] for an even kernel − rate."""

    def __init__(self, inputs: int, outputs: int, kernel: int, rate: int) -> None:
        super().__init__((inputs, outputs, kernel), outputs)
        self.rate, self.padding = rate, (kernel - rate) // 2

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return functional.conv_transpose1d(x, self.weight, self.bias, stride=self.rate, padding=self.padding)


class ChannelNorm(nn.Module):
    """Layer norm over the channels of [B, C, T]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return functional.layer_norm(x.mT, self.gamma.shape, self.gamma, self.beta, eps=1e-5).mT
