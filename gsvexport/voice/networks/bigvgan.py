"""BigVGAN v2, the vocoder of v3: periodic activations at twice the rate between anti-aliasing filters."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from gsvexport.stages import MEL_BANDS
from gsvexport.voice.dims import SovitsDims
from gsvexport.voice.networks.layers import NormedConv1d, NormedConvTranspose1d


class BigVGAN(nn.Module):
    """Mel [B, 100, M] to audio [B, 1, M·hop], with upstream's names; `taps` are those of every filter."""

    def __init__(self, dims: SovitsDims, taps: int = 12) -> None:
        super().__init__()
        assert dims.matching is not None
        log_scale, self.clamp = dims.matching.log_scale, dims.matching.clamp
        widths = [dims.upsample_initial >> stage for stage in range(len(dims.upsample_rates) + 1)]
        self.branches = len(dims.resblock_kernels)
        self.conv_pre = NormedConv1d(MEL_BANDS, widths[0], 7)
        self.ups, self.resblocks = nn.ModuleList(), nn.ModuleList()
        stages = zip(widths, widths[1:], dims.upsample_kernels, dims.upsample_rates, strict=False)
        for wide, narrow, kernel, rate in stages:
            self.ups.append(nn.ModuleList([NormedConvTranspose1d(wide, narrow, kernel, rate)]))
            for size, dilations in zip(dims.resblock_kernels, dims.resblock_dilations, strict=True):
                self.resblocks.append(_Block(narrow, size, dilations, dims.resblock == "1", taps, log_scale))
        self.activation_post = _Activation(widths[-1], taps, log_scale)
        self.conv_post = NormedConv1d(widths[-1], 1, 7)

    def forward(self, mel: Tensor) -> Tensor:  # noqa: D102 - the class says it
        x = self.conv_pre(mel)
        for stage, up in enumerate(self.ups):
            assert isinstance(up, nn.ModuleList)
            x = up[0](x)
            branches = self.resblocks[stage * self.branches : (stage + 1) * self.branches]
            x = torch.stack([branch(x) for branch in branches]).mean(dim=0)
        x = self.conv_post(self.activation_post(x))
        return x.clamp(-1, 1) if self.clamp else torch.tanh(x)


class _Block(nn.Module):
    def __init__(
        self, width: int, kernel: int, dilations: tuple[int, ...], paired: bool, taps: int, log_scale: bool
    ) -> None:
        super().__init__()
        dilated = nn.ModuleList(NormedConv1d(width, width, kernel, dilation) for dilation in dilations)
        self.paired = paired
        if paired:
            self.convs1, self.convs2 = dilated, nn.ModuleList(NormedConv1d(width, width, kernel) for _ in dilations)
        else:
            self.convs = dilated
        count = len(dilations) * (2 if paired else 1)
        self.activations = nn.ModuleList(_Activation(width, taps, log_scale) for _ in range(count))

    def forward(self, x: Tensor) -> Tensor:
        if not self.paired:
            for convolve, activate in zip(self.convs, self.activations, strict=True):
                x = x + convolve(activate(x))
            return x
        for place, (first, second) in enumerate(zip(self.convs1, self.convs2, strict=True)):
            y = first(self.activations[2 * place](x))
            x = x + second(self.activations[2 * place + 1](y))
        return x


class _Activation(nn.Module):
    """x + sin²(αx)/β between an upsampling and a downsampling by 2."""

    def __init__(self, width: int, taps: int, log_scale: bool) -> None:
        super().__init__()
        self.log_scale, self.width = log_scale, width
        self.act = nn.ParameterDict({"alpha": torch.zeros(width), "beta": torch.zeros(width)})
        self.upsample, self.downsample = _Filter(taps), nn.ModuleDict({"lowpass": _Filter(taps)})

    def forward(self, x: Tensor) -> Tensor:
        alpha, beta = (self.act[name][:, None] for name in ("alpha", "beta"))
        if self.log_scale:
            alpha, beta = alpha.exp(), beta.exp()
        taps = self.upsample.get_buffer("filter").expand(self.width, -1, -1)
        half = taps.shape[-1] // 2
        x = functional.pad(x, (half - 1, half - 1), mode="replicate")
        x = 2 * functional.conv_transpose1d(x, taps, stride=2, groups=self.width)
        cut = 2 * (half - 1) + half - 1
        x = x[..., cut:-cut]
        x = x + torch.sin(alpha * x) ** 2 / (beta + 1e-9)
        x = functional.pad(x, (half - 1, half), mode="replicate")
        taps = self.downsample["lowpass"].get_buffer("filter").expand(self.width, -1, -1)
        return functional.conv1d(x, taps, stride=2, groups=self.width)


class _Filter(nn.Module):
    def __init__(self, taps: int) -> None:
        super().__init__()
        self.register_buffer("filter", torch.zeros(1, 1, taps))
