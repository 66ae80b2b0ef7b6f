"""The normalising flow between the prior's latent and the vocoder's."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gsvexport.voice.dims import SovitsDims
from gsvexport.voice.networks.layers import NormedConv1d


class Flow(nn.Module):
    """Mean-only couplings, each followed by a reversal of the channels; [B, I, F] both ways."""

    def __init__(self, dims: SovitsDims) -> None:
        super().__init__()
        blocks = [block for _ in range(dims.flows) for block in (_Coupling(dims), _Flip())]
        self.flows = nn.ModuleList(blocks)

    def forward(self, x: Tensor, ge: Tensor, *, inverse: bool) -> Tensor:
        """Speech latent to prior latent, or back when `inverse` (the direction of synthesis); ge [B, G, 1]."""
        for block in reversed(self.flows) if inverse else self.flows:
            x = block(x, ge, inverse)
        return x


class _Flip(nn.Module):
    def forward(self, x: Tensor, _ge: Tensor, _inverse: bool) -> Tensor:
        return x.flip(1)


class _Coupling(nn.Module):
    """Half of the channels moves the other half by a mean computed from itself and ge."""

    def __init__(self, dims: SovitsDims) -> None:
        super().__init__()
        half = dims.inter // 2
        self.pre = nn.Conv1d(half, dims.flow_hidden, 1)
        self.enc = WaveNet(dims)
        self.post = nn.Conv1d(dims.flow_hidden, half, 1)

    def forward(self, x: Tensor, ge: Tensor, inverse: bool) -> Tensor:
        still, moved = x.chunk(2, dim=1)
        mean = self.post(self.enc(self.pre(still), ge))
        return torch.cat([still, moved - mean if inverse else moved + mean], dim=1)


class WaveNet(nn.Module):
    """Gated convolutions with residual and skip outputs; the last layer has a skip output only.

    A `mask` is multiplied to what goes from layer to layer.
    """

    def __init__(self, dims: SovitsDims) -> None:
        super().__init__()
        hidden, layers = dims.flow_hidden, dims.flow_layers
        self.in_layers = nn.ModuleList([NormedConv1d(hidden, 2 * hidden, dims.flow_kernel) for _ in range(layers)])
        self.res_skip_layers = nn.ModuleList(
            [NormedConv1d(hidden, 2 * hidden if layer < layers - 1 else hidden, 1) for layer in range(layers)]
        )
        self.cond_layer = NormedConv1d(dims.gin, 2 * hidden * layers, 1)

    def forward(self, x: Tensor, ge: Tensor, mask: Tensor | None = None) -> Tensor:  # noqa: D102
        conditions = self.cond_layer(ge).chunk(len(self.in_layers), dim=1)
        skips: list[Tensor] = []
        for convolve, leave, condition in zip(self.in_layers, self.res_skip_layers, conditions, strict=True):
            tangent, gate = (convolve(x) + condition).chunk(2, dim=1)
            out = leave(torch.tanh(tangent) * torch.sigmoid(gate))
            if len(skips) < len(self.in_layers) - 1:
                residual, out = out.chunk(2, dim=1)
                x = x + residual if mask is None else (x + residual) * mask
            skips.append(out)
        return torch.stack(skips).sum(dim=0)
