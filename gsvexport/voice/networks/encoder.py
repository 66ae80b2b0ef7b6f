"""The prior: quantised speech features and phones in, mean and log deviation of the latent out."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from gsvexport.voice.dims import SovitsDims
from gsvexport.voice.networks.layers import ChannelNorm


class TextEncoder(nn.Module):
    """Upstream's `enc_p`: features [B, 768, F'], phones [B, X] and ge_text [B, 512, 1] to m and logs [B, I, F]."""

    def __init__(self, dims: SovitsDims) -> None:
        super().__init__()
        self.ssl_proj = nn.Conv1d(dims.ssl, dims.hidden, 1)
        self.encoder_ssl = _Encoder(dims, dims.ssl_layers)
        self.encoder_text = _Encoder(dims, dims.text_layers)
        self.text_embedding = nn.Embedding(dims.text_phones, dims.hidden)
        self.mrte = _Mrte(dims)
        self.encoder2 = _Encoder(dims, dims.mix_layers)
        self.proj = nn.Conv1d(dims.hidden, 2 * dims.inter, 1)

    def forward(self, ssl: Tensor, phones: Tensor, ge_text: Tensor, frames: int) -> tuple[Tensor, Tensor]:
        """Encode, then stretch linearly in time to `frames` (another length than F' is another speed)."""
        mean, log_deviation = self.proj(self.hidden(ssl, phones, ge_text, frames)).chunk(2, dim=1)
        return mean, log_deviation

    def hidden(self, ssl: Tensor, phones: Tensor, ge_text: Tensor, frames: int) -> Tensor:
        """The same before the last layer, [B, hidden, frames]."""
        x = self.encoder_ssl(self.ssl_proj(ssl))
        text = self.encoder_text(self.text_embedding(phones).mT)
        x = self.encoder2(self.mrte(x, text, ge_text))
        if frames != x.shape[-1]:
            x = functional.interpolate(x, size=frames, mode="linear", align_corners=False)
        return x


class _Mrte(nn.Module):
    """Cross-attention from speech features to text, with the speaker's conditioning added at every frame."""

    def __init__(self, dims: SovitsDims) -> None:
        super().__init__()
        self.cross_attention = _Attention(dims.mrte_width, dims.mrte_heads, window=None)
        self.c_pre = nn.Conv1d(dims.hidden, dims.mrte_width, 1)
        self.text_pre = nn.Conv1d(dims.hidden, dims.mrte_width, 1)
        self.c_post = nn.Conv1d(dims.mrte_width, dims.hidden, 1)

    def forward(self, ssl: Tensor, text: Tensor, ge: Tensor) -> Tensor:
        ssl = self.c_pre(ssl)
        mixed: Tensor = self.c_post(self.cross_attention(ssl, self.text_pre(text)) + ssl + ge)
        return mixed


class _Encoder(nn.Module):
    def __init__(self, dims: SovitsDims, layers: int) -> None:
        super().__init__()
        hidden = dims.hidden
        self.attn_layers = nn.ModuleList([_Attention(hidden, dims.heads, dims.window) for _ in range(layers)])
        self.norm_layers_1 = nn.ModuleList([ChannelNorm(hidden) for _ in range(layers)])
        self.ffn_layers = nn.ModuleList([_FeedForward(hidden, dims.filter, dims.kernel) for _ in range(layers)])
        self.norm_layers_2 = nn.ModuleList([ChannelNorm(hidden) for _ in range(layers)])

    def forward(self, x: Tensor) -> Tensor:
        blocks = zip(self.attn_layers, self.norm_layers_1, self.ffn_layers, self.norm_layers_2, strict=True)
        for attention, norm_1, feed_forward, norm_2 in blocks:
            x = norm_1(x + attention(x, x))
            x = norm_2(x + feed_forward(x))
        return x


class _FeedForward(nn.Module):
    """Two convolutions with a relu between; an even kernel pads one more on the right."""

    def __init__(self, hidden: int, inner: int, kernel: int) -> None:
        super().__init__()
        self.conv_1 = nn.Conv1d(hidden, inner, kernel)
        self.conv_2 = nn.Conv1d(inner, hidden, kernel)
        self.padding = ((kernel - 1) // 2, kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.conv_1(functional.pad(x, self.padding)))
        out: Tensor = self.conv_2(functional.pad(x, self.padding))
        return out


class _Attention(nn.Module):
    """Attention with learned key and value vectors for the offsets −window … window (Shaw et al. 2018), if any.

    An offset outside the window adds nothing. All heads share the offset vectors.
    """

    def __init__(self, width: int, heads: int, window: int | None) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        if window is not None:
            shape = (1, 2 * window + 1, width // heads)
            self.emb_rel_k = nn.Parameter(torch.randn(shape) * shape[2] ** -0.5)
            self.emb_rel_v = nn.Parameter(torch.randn(shape) * shape[2] ** -0.5)
        self.conv_q = nn.Conv1d(width, width, 1)
        self.conv_k = nn.Conv1d(width, width, 1)
        self.conv_v = nn.Conv1d(width, width, 1)
        self.conv_o = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """X [B, C, T] attends to context [B, C, S]; with a window both are the same sequence."""
        split = [
            part.unflatten(1, (self.heads, -1)).mT  # [B, heads, length, width of a head]
            for part in (self.conv_q(x), self.conv_k(context), self.conv_v(context))
        ]
        query, key, value = split[0] / split[0].shape[-1] ** 0.5, split[1], split[2]
        scores = query @ key.mT
        if self.window is None:
            mixed = torch.softmax(scores, dim=-1) @ value
        else:
            length = x.shape[-1]
            offsets = torch.arange(-self.window, self.window + 1, device=x.device)
            columns = torch.arange(length, device=x.device)[:, None] + offsets  # the column at each row's offsets
            inside = (columns >= 0) & (columns < length)
            columns = columns.clamp(0, length - 1).expand(*scores.shape[:3], -1)
            near = torch.where(inside, query @ self.emb_rel_k.mT, 0.0)
            weights = torch.softmax(scores.scatter_add(-1, columns, near), dim=-1)
            mixed = weights @ value + torch.where(inside, weights.gather(-1, columns), 0.0) @ self.emb_rel_v
        out: Tensor = self.conv_o(mixed.mT.flatten(1, 2))
        return out
