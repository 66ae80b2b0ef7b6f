"""What v3 and v4 generate a mel with: a WaveNet over the text encoder's states, and a diffusion transformer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from gsvexport.stages import FEATURE_WIDTH, MEL_BANDS
from gsvexport.voice.dims import SovitsDims
from gsvexport.voice.matching import HEAD_WIDTH, TIME_WIDTH, MatchingDims
from gsvexport.voice.networks.flow import WaveNet


class FeatureNet(nn.Module):
    """Upstream's `wns1`: [B, 512, M] and ge [B, G, 1] to [B, 512, M], zero where the mask [B, 1, M] is."""

    def __init__(self, dims: SovitsDims) -> None:
        super().__init__()
        self.pre = nn.Conv1d(FEATURE_WIDTH, dims.flow_hidden, 1)
        self.enc = WaveNet(dims)
        self.proj = nn.Conv1d(dims.flow_hidden, FEATURE_WIDTH, 1)

    def forward(self, x: Tensor, mask: Tensor, ge: Tensor) -> Tensor:  # noqa: D102 - the class says it
        out: Tensor = self.proj(self.enc(self.pre(x) * mask, ge, mask) * mask) * mask
        return out


class Estimator(nn.Module):
    """Upstream's `cfm.estimator`: state, prompt_mel [B, 100, M], fea [B, 512, M], time and span [B] to velocity."""

    def __init__(self, dims: MatchingDims) -> None:
        super().__init__()
        self.time_embed, self.d_embed = _Moment(dims.width), _Moment(dims.width)
        self.text_embed = _Text(dims)
        self.input_embed = _Input(dims)
        self.rotary_embed = nn.Module()
        self.rotary_embed.register_buffer("inv_freq", torch.zeros(dims.rotary))
        self.transformer_blocks = nn.ModuleList(_Layer(dims) for _ in range(dims.layers))
        self.norm_out = nn.ModuleDict({"linear": nn.Linear(dims.width, 2 * dims.width)})
        self.proj_out = nn.Linear(dims.width, MEL_BANDS)

    def forward(self, state: Tensor, prompt_mel: Tensor, fea: Tensor, time: Tensor, span: Tensor) -> Tensor:
        """The velocity [B, 100, M] of one step."""
        moment = functional.silu(self.time_embed(time) + self.d_embed(span))
        text = fea.mT + _positions(fea.shape[2], FEATURE_WIDTH).to(fea)
        for block in self.text_embed.text_blocks:
            text = block(text)
        x = self.input_embed(torch.cat([state.mT, prompt_mel.mT, text], dim=2))
        angles = torch.arange(x.shape[1]).to(fea)[:, None] * self.rotary_embed.get_buffer("inv_freq")
        for layer in self.transformer_blocks:
            x = layer(x, moment, angles)
        scale, shift = self.norm_out["linear"](moment)[:, None].chunk(2, dim=-1)
        out: Tensor = self.proj_out(_norm(x) * (1 + scale) + shift)
        return out.mT


def _norm(x: Tensor) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:], eps=1e-6)


def _positions(rows: int, width: int) -> Tensor:
    """Cosines, then sines, of position / 10000^(2i / width): [rows, width]."""
    frequency = 1e4 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.arange(rows, dtype=torch.float64)[:, None] * frequency
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class _Moment(nn.Module):
    """Sines, then cosines, of 1000·t at frequencies from 1 to 1e-4, through two layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.time_mlp = nn.Sequential(nn.Linear(TIME_WIDTH, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, time: Tensor) -> Tensor:
        angles = 1000 * time[:, None] * torch.logspace(0, -4, TIME_WIDTH // 2, dtype=torch.float64).to(time)
        out: Tensor = self.time_mlp(torch.cat([angles.sin(), angles.cos()], dim=1))
        return out


class _Text(nn.Module):
    def __init__(self, dims: MatchingDims) -> None:
        super().__init__()
        self.text_blocks = nn.ModuleList([_Block(dims) for _ in range(dims.text_layers)])


class _Block(nn.Module):
    """ConvNeXt V2 over [B, M, 512]; its response norm is taken over time."""

    def __init__(self, dims: MatchingDims) -> None:
        super().__init__()
        kernel = dims.text_kernel
        self.dwconv = nn.Conv1d(FEATURE_WIDTH, FEATURE_WIDTH, kernel, padding=kernel // 2, groups=FEATURE_WIDTH)
        self.norm = nn.LayerNorm(FEATURE_WIDTH, eps=1e-6)
        self.pwconv1 = nn.Linear(FEATURE_WIDTH, dims.text_inner)
        shape = (1, 1, dims.text_inner)
        self.grn = nn.ParameterDict({"gamma": torch.zeros(shape), "beta": torch.zeros(shape)})
        self.pwconv2 = nn.Linear(dims.text_inner, FEATURE_WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.gelu(self.pwconv1(self.norm(self.dwconv(x.mT).mT)))
        response = torch.linalg.vector_norm(y, dim=1, keepdim=True)
        response = response / (response.mean(dim=-1, keepdim=True) + 1e-6)
        out: Tensor = x + self.pwconv2(self.grn["gamma"] * y * response + self.grn["beta"] + y)
        return out


class _Input(nn.Module):
    def __init__(self, dims: MatchingDims) -> None:
        super().__init__()
        self.proj = nn.Linear(2 * MEL_BANDS + FEATURE_WIDTH, dims.width)
        kernel, groups = dims.position_kernel, dims.position_groups
        convolutions = [nn.Conv1d(dims.width, dims.width, kernel, padding=kernel // 2, groups=groups) for _ in range(2)]
        stack = nn.Sequential(convolutions[0], nn.Mish(), convolutions[1], nn.Mish())
        self.conv_pos_embed = nn.ModuleDict({"conv1d": stack})

    def forward(self, x: Tensor) -> Tensor:
        x = self.proj(x)
        out: Tensor = x + self.conv_pos_embed["conv1d"](x.mT).mT
        return out


class _Layer(nn.Module):
    """Attention and feed-forward, each gated and modulated by the moment."""

    def __init__(self, dims: MatchingDims) -> None:
        super().__init__()
        inner = dims.heads * HEAD_WIDTH
        self.heads = dims.heads
        self.attn_norm = nn.ModuleDict({"linear": nn.Linear(dims.width, 6 * dims.width)})
        self.attn = _Projections(dims.width, inner)
        first = nn.Sequential(nn.Linear(dims.width, dims.inner), nn.GELU(approximate="tanh"))
        self.ff = nn.ModuleDict({"ff": nn.Sequential(first, nn.Identity(), nn.Linear(dims.inner, dims.width))})

    def forward(self, x: Tensor, moment: Tensor, angles: Tensor) -> Tensor:
        shift, scale, gate, shift_2, scale_2, gate_2 = self.attn_norm["linear"](moment)[:, None].chunk(6, dim=-1)
        x = x + gate * self._attend(_norm(x) * (1 + scale) + shift, angles)
        out: Tensor = x + gate_2 * self.ff["ff"](_norm(x) * (1 + scale_2) + shift_2)
        return out

    def _attend(self, x: Tensor, angles: Tensor) -> Tensor:
        attn = self.attn
        query, key, value = _rotated(attn.to_q(x), angles), _rotated(attn.to_k(x), angles), attn.to_v(x)
        query, key, value = (
            part.reshape(*part.shape[:2], self.heads, -1).transpose(1, 2) for part in (query, key, value)
        )
        mixed = functional.scaled_dot_product_attention(query, key, value)
        out: Tensor = attn.to_out[0](mixed.transpose(1, 2).flatten(2))
        return out


class _Projections(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, inner) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(inner, width)])


def _rotated(x: Tensor, angles: Tensor) -> Tensor:
    """The first channels of [B, M, W], all heads together, turned in neighbouring pairs by angles [M, n]."""
    count = angles.shape[1]
    pairs = torch.view_as_complex(x[..., : 2 * count].reshape(*x.shape[:2], count, 2).contiguous())
    turned = torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(-2)
    return torch.cat([turned, x[..., 2 * count :]], dim=-1)
