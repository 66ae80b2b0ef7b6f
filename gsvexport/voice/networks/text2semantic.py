"""The autoregressive network: phones and semantic codes in, scores of the next code out."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from gsvexport.stages import BERT_WIDTH, POSITIONS
from gsvexport.voice.dims import T2SDims


class Text2Semantic(nn.Module):
    """A post-norm transformer over [text ; audio]: text rows see all text, audio rows all text and the audio so far.

    State-dict names are upstream's without their `model.` prefix. Phones and codes are counted from position 0 each.
    Caches are [L, B, S, D] with heads packed, so that a step appends one row.
    """

    def __init__(self, dims: T2SDims) -> None:
        super().__init__()
        self.bert_proj = nn.Linear(BERT_WIDTH, dims.width)
        self.ar_text_embedding = _Embedding(dims.phones, dims.width)
        self.ar_text_position = _Position(dims.width)
        self.ar_audio_embedding = _Embedding(dims.vocab, dims.width)
        self.ar_audio_position = _Position(dims.width)
        self.h = _Layers(dims)
        self.ar_predict_layer = nn.Linear(dims.width, dims.vocab, bias=False)

    def forward(self, phones: Tensor, bert: Tensor, codes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Phones [B, X], bert [B, 1024, X] and codes [B, Y] to hidden [B, X+Y, D], keys and values [L, B, X+Y, D]."""
        text = self.ar_text_embedding(phones) + self.bert_proj(bert.mT)
        text = self.ar_text_position(text, torch.arange(phones.shape[1], device=phones.device))
        audio = self.ar_audio_embedding(codes)
        audio = self.ar_audio_position(audio, torch.arange(codes.shape[1], device=codes.device))
        mask = visible(phones.shape[1], codes.shape[1], phones.device)
        hidden, keys, values = self.h(torch.cat([text, audio], dim=1), mask)
        return hidden, keys, values

    def prefill(self, phones: Tensor, bert: Tensor, prompt: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Phones [1, X], bert [1, 1024, X], prompt [1, Y≥0] to logits [1, V], keys and values [L, 1, X+Y, D]."""
        hidden, keys, values = self(phones, bert, prompt)
        return self.ar_predict_layer(hidden[:, -1]), keys, values

    def step(self, token: Tensor, position: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Token [1, 1], position [1] and the cache [L, 1, S, D] to logits [1, V] and its new row [L, 1, 1, D]."""
        x = self.ar_audio_position(self.ar_audio_embedding(token), position)
        hidden, new_keys, new_values = self.h(x, None, (keys, values))
        return self.ar_predict_layer(hidden[:, -1]), new_keys, new_values


def visible(text: int, audio: int, device: torch.device | None = None) -> Tensor:
    """Which column each row of [text ; audio] may see: bool [text+audio, text+audio]."""
    index = torch.arange(text + audio, device=device)
    return (index < text) | ((index <= index[:, None]) & (index[:, None] >= text))


def position_table(rows: int, width: int) -> Tensor:
    """Interleaved sines and cosines [rows, width] of base 10000, in float32 as the checkpoints were trained with."""
    angle = torch.arange(rows, dtype=torch.float32)[:, None] * torch.exp(
        torch.arange(0, width, 2, dtype=torch.float32) * -(math.log(10000.0) / width)
    )
    return torch.stack([torch.sin(angle), torch.cos(angle)], dim=2).reshape(rows, width)


class _Embedding(nn.Module):
    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(rows, width)

    def forward(self, ids: Tensor) -> Tensor:
        rows: Tensor = self.word_embeddings(ids)
        return rows


class _Position(nn.Module):
    """x + alpha · table[positions]; the table is computed, never stored in a checkpoint."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1))
        self.table: Tensor
        self.register_buffer("table", position_table(POSITIONS, width), persistent=False)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        return x + self.alpha * self.table[positions]


class _Layers(nn.Module):
    """The layers one after the other; `past` holds the keys and values of earlier rows, [L, B, S, D] each."""

    def __init__(self, dims: T2SDims) -> None:
        super().__init__()
        self.layers = nn.ModuleList([_Layer(dims.width, dims.heads) for _ in range(dims.layers)])

    def forward(
        self, x: Tensor, mask: Tensor | None, past: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        keys, values = [], []
        for index, layer in enumerate(self.layers):
            x, key, value = layer(x, mask, past and (past[0][index], past[1][index]))
            keys.append(key)
            values.append(value)
        return x, torch.stack(keys), torch.stack(values)


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.randn(3 * width, width) / width**0.5)
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(
        self, x: Tensor, mask: Tensor | None, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value = functional.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
        rows = (key, value) if past is None else (torch.cat([past[0], key], 1), torch.cat([past[1], value], 1))
        mixed = functional.scaled_dot_product_attention(
            self._split(query), self._split(rows[0]), self._split(rows[1]), attn_mask=mask
        )
        return self.out_proj(mixed.transpose(1, 2).flatten(2)), key, value

    def _split(self, x: Tensor) -> Tensor:
        """[B, S, D] to [B, heads, S, D / heads]."""
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)


class _Layer(nn.Module):
    """LN(x + attention(x)), then LN(x + W₂ relu(W₁ x)); the inner width is always four times the outer one."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.self_attn = _Attention(width, heads)
        self.linear1 = nn.Linear(width, 4 * width)
        self.linear2 = nn.Linear(4 * width, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)

    def forward(
        self, x: Tensor, mask: Tensor | None, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        mixed, key, value = self.self_attn(x, mask, past)
        x = self.norm1(x + mixed)
        return self.norm2(x + self.linear2(torch.relu(self.linear1(x)))), key, value
