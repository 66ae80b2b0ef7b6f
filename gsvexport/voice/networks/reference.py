"""What is computed once for a voice: its conditioning from a reference spectrogram, and its prompt codes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from gsvexport.voice.dims import SovitsDims


class ReferenceEncoder(nn.Module):
    """Upstream's `ref_enc`: magnitude spectrogram [B, bins, R] to [B, G, 1], the mean over time of a style encoder."""

    def __init__(self, dims: SovitsDims) -> None:
        super().__init__()
        hidden = dims.ref_hidden
        # Indices 1, 2, 4 and 5 are the parameter-free activations and dropouts of upstream's layout.
        self.spectral = nn.ModuleDict({"0": _Linear(dims.ref_bins, hidden), "3": _Linear(hidden, hidden)})
        self.temporal = nn.ModuleList([_GatedConv(hidden, dims.ref_kernel) for _ in range(2)])
        self.slf_attn = _SelfAttention(hidden, dims.ref_heads)
        self.fc = _Linear(hidden, dims.gin)

    def forward(self, spectrogram: Tensor) -> Tensor:  # noqa: D102 - the class says it
        x = spectrogram.mT
        for layer in self.spectral.values():
            x = functional.mish(layer(x))
        x = x.mT
        for layer in self.temporal:
            x = layer(x)
        out: Tensor = self.fc(self.slf_attn(x.mT))
        return out.mean(dim=1)[..., None]


class Quantizer(nn.Module):
    """One Euclidean codebook, under upstream's buffer names: `embed` holds it, the others are training's statistics."""

    def __init__(self, codes: int, width: int) -> None:
        super().__init__()
        codebook = nn.Module()
        codebook.register_buffer("inited", torch.ones(1))
        codebook.register_buffer("cluster_size", torch.ones(codes))
        codebook.register_buffer("embed", torch.randn(codes, width))
        codebook.register_buffer("embed_avg", torch.zeros(codes, width))
        layer = nn.Module()
        layer._codebook = codebook
        self.vq = nn.Module()
        self.vq.layers = nn.ModuleList([layer])

    @property
    def codebook(self) -> Tensor:
        """The rows, [codes, width]."""
        table: Tensor = self.get_buffer("vq.layers.0._codebook.embed")
        return table

    def encode(self, x: Tensor) -> Tensor:
        """The nearest row for each column of [B, width, S], as int64 [B, S]; the first of equals.

        argmin ‖x − e‖² = argmax 2x·e − ‖e‖²: ‖x‖² is the same for every row.
        """
        scores = 2 * (x.mT @ self.codebook.T) - self.codebook.square().sum(dim=1)
        return scores.argmax(dim=-1)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes [B, S] to rows [B, width, S]."""
        return functional.embedding(codes, self.codebook).mT


class _Linear(nn.Module):
    """A linear layer under the name `fc`, as upstream wraps it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.fc = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(x)
        return out


class _GatedConv(nn.Module):
    """x + a · σ(b), where a and b are the halves of a convolution that keeps the length."""

    def __init__(self, hidden: int, kernel: int) -> None:
        super().__init__()
        self.conv1 = nn.ModuleDict({"conv": nn.Conv1d(hidden, 2 * hidden, kernel, padding=(kernel - 1) // 2)})

    def forward(self, x: Tensor) -> Tensor:
        signal, gate = self.conv1["conv"](x).chunk(2, dim=1)
        out: Tensor = x + signal * torch.sigmoid(gate)
        return out


class _SelfAttention(nn.Module):
    """Residual self-attention over [B, R, hidden]; scores are divided by √hidden, not by √(width of a head)."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads, self.temperature = heads, hidden**0.5
        self.w_qs = nn.Linear(hidden, hidden)
        self.w_ks = nn.Linear(hidden, hidden)
        self.w_vs = nn.Linear(hidden, hidden)
        self.fc = nn.Linear(hidden, hidden)

    def forward(self, x: Tensor) -> Tensor:
        projected = (self.w_qs(x), self.w_ks(x), self.w_vs(x))
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in projected)
        mixed = torch.softmax(query @ key.mT / self.temperature, dim=-1) @ value
        out: Tensor = x + self.fc(mixed.transpose(1, 2).flatten(2))
        return out
