"""The vocoder with the rounding of the backends' integers in it.

Every tensor that an integer graph stores is rounded where it is computed, as `gsvexport.backends.tflite` lowers a
vocoder and `gsvexport.passes.quantise_conv` counts: one scale and zero point for each activation, one scale for each
output channel of a weight. (The backend onnxruntime rounds at some of these points, and others leaves float.) Gradients
pass as if nothing were rounded, and stop where a value was cut off (Bengio et al., 2013, arXiv 1308.3432; Jacob et al.,
2018, arXiv 1712.05877). The last convolution and its tanh stay float.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import leaky_relu

from gsvexport.calibrate.ranges import Estimator, Observer
from gsvexport.passes.quantise_conv import affine
from gsvexport.slim.prune import Group
from gsvexport.voice.networks.layers import NormedConv1d, NormedConvTranspose1d
from gsvexport.voice.networks.vocoder import LAST_SLOPE, SLOPE, Generator

Point = Callable[[str, Tensor], Tensor]  # what becomes of a tensor at a point of this name
Ranges = Mapping[str, tuple[float, float]]
_LEVELS = 255
_LEAST = 1e-3  # of a group's largest channel: one below is not blown up further


def plain(_: str, x: Tensor) -> Tensor:
    """A point that leaves everything as it is."""
    return x


def rounded(ranges: Ranges) -> Point:
    """Points that round to 8 bits over `ranges`, (low, high) by a point's name."""
    steps = {name: affine(*one) for name, one in ranges.items()}

    def point(name: str, x: Tensor) -> Tensor:
        found: Tensor = _Round.apply(x, *steps[name])  # type: ignore[no-untyped-call]
        return found

    return point


class _Round(torch.autograd.Function):
    """To the nearest of 256 steps; gradients pass."""

    @staticmethod
    def forward(_: Any, x: Tensor, scale: float, zero: int) -> Tensor:
        # Half as long as torch.fake_quantize_per_tensor_affine.
        return (x * (1 / scale)).round_().clamp_(-zero, _LEVELS - zero).mul_(scale)

    @staticmethod
    def backward(_: Any, *slopes: Any) -> Any:
        return slopes[0], None, None


def weight(values: Tensor, bits: int) -> Tensor:
    """w [out, …] in steps of one scale for each output channel; as it is at 0 bits."""
    if not bits:
        return values
    limit = 2 ** (bits - 1) - 1
    peak = values.detach().abs().flatten(1).amax(dim=1)
    scales = torch.where(peak > 0, peak, 1) / limit
    return torch.fake_quantize_per_channel_affine(values, scales, torch.zeros_like(scales), 0, -limit, limit)


def phased(values: Tensor, rate: int, bits: int) -> Tensor:
    """The same for a transposed convolution's w [in, out, k], whose phases are output channels of their own: taps
    that are `rate` apart belong to one (see `gsvexport.passes.polyphase`)."""
    inputs, outputs, taps = values.shape
    full = functional.pad(values, (0, -taps % rate)).view(inputs, outputs, -1, rate)
    rows = weight(full.permute(1, 3, 0, 2).reshape(outputs * rate, -1), bits)
    back = rows.view(outputs, rate, inputs, -1).permute(2, 0, 3, 1)
    return back.reshape(inputs, outputs, -1)[:, :, :taps]


@dataclass(frozen=True)
class Manner:
    """What is rounded, and how: the `bits` of weights, 0 for float, and the number of first upsamplings in it."""

    bits: int = 0
    stages: int = 16


FLOAT = Manner()


def sound(network: Generator, latent: Tensor, ge: Tensor, point: Point, manner: Manner) -> Tensor:
    """What `network` makes of latent [B, I, F] and ge [B, G, 1]: audio [B, 1, F·hop].

    `point` is called with every tensor that an integer graph stores, by a name that begins with that of its group of
    channels in `gsvexport.slim.prune` and a colon.
    """
    bits = manner.bits
    x = _conv(network.conv_pre, point("latent", latent), bits)
    cond = _conv(network.cond, point("ge", ge), bits)
    x = point("dec.0:sum", point("dec.0:pre", x) + point("dec.0:cond", cond))
    for stage, up in enumerate(network.ups):
        if stage == manner.stages:
            point, bits = plain, 0
        assert isinstance(up, NormedConvTranspose1d)
        x, group = point(f"dec.{stage}:leaky", leaky_relu(x, SLOPE)), f"dec.{stage + 1}"
        shifted = phased(up.weight, up.rate, bits)
        x = functional.conv_transpose1d(x, shifted, up.bias, stride=up.rate, padding=up.padding)
        x = point(f"{group}:up", x)
        small: list[Tensor] = []
        for branch in range(network.branches):
            number = stage * network.branches + branch
            small += _branch(network.resblocks[number], f"dec.resblocks.{number}", group, x, point, bits)
        x = point(f"{group}:both", x + _mean(small, network.branches, group, point))
    return torch.tanh(network.conv_post(leaky_relu(x, LAST_SLOPE)))


def _conv(module: nn.Module, x: Tensor, bits: int) -> Tensor:
    assert isinstance(module, (nn.Conv1d, NormedConv1d))
    return functional.conv1d(
        x, weight(module.weight, bits), module.bias, padding=module.padding, dilation=module.dilation
    )


def _branch(block: Any, name: str, group: str, x: Tensor, point: Point, bits: int) -> list[Tensor]:
    """What a residual block adds to x, term by term."""
    terms: list[Tensor] = []
    paired = hasattr(block, "convs1")  # kind "1"
    pairs = zip(block.convs1, block.convs2, strict=True) if paired else ((None, one) for one in block.convs)
    for place, (first, last) in enumerate(pairs):
        at = f"{group}:{name}.{place}"
        if place:
            x = point(f"{at}.sum", x + terms[-1])
        y = point(f"{at}.leaky", leaky_relu(x, SLOPE))
        if first is not None:
            y = point(f"{name}.{place}:conv", _conv(first, y, bits))
            y = point(f"{name}.{place}:leaky", leaky_relu(y, SLOPE))
        terms.append(point(f"{at}.conv", _conv(last, y, bits)))
    return terms


def _mean(terms: Sequence[Tensor], branches: int, group: str, point: Point) -> Tensor:
    """The terms of all blocks, added up one after the other, over the number of blocks."""
    total = terms[0]
    for place, one in enumerate(terms[1:]):
        total = point(f"{group}:small{place}", total + one)
    return point(f"{group}:mean", total / branches) if branches > 1 else total


class Watch:
    """A point that looks: the values' ranges, as calibration estimates them, and each channel's largest magnitude."""

    def __init__(self) -> None:
        self._observer = Observer(Estimator("mse"))
        self.peaks: dict[str, Tensor] = {}

    def __call__(self, name: str, x: Tensor) -> Tensor:
        """Count one tensor [B, C, T]."""
        self._observer.add(name, x.detach().numpy())
        peak = x.detach().abs().amax(dim=(0, 2))
        self.peaks[name] = torch.maximum(self.peaks.get(name, peak), peak)
        return x

    def ranges(self) -> dict[str, tuple[float, float]]:
        """(low, high) by a point's name."""
        return self._observer.ranges()


def equalise(tensors: dict[str, Tensor], groups: Sequence[Group], peaks: Mapping[str, Tensor]) -> None:
    """Bring the channels of each group to one size in `tensors`, folded as by `prune.folded`, in place.

    Exact in float: what lies between two convolutions is positively homogeneous in each channel. So the single scale
    of a tensor's integers serves all of its channels (see `gsvexport.passes.equalise_channels`).
    """
    for group in groups:
        found = [peak for name, peak in peaks.items() if name.partition(":")[0] == group.name]
        size = torch.stack(found).amax(dim=0)
        factors = size.max() / size.clamp(min=_LEAST * float(size.max()))
        for name, axis in group.slots:
            written = name.endswith("bias") or axis == (1 if name.startswith("dec.ups.") else 0)
            shape = [-1 if place == axis else 1 for place in range(tensors[name].ndim)]
            tensors[name] = tensors[name] * (factors if written else 1 / factors).view(shape)
