"""`prompt` and `reference`: what a voice takes from a recording, once."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from gsvexport.graphs.acoustic import CODEBOOK
from gsvexport.graphs.builder import GraphBuilder
from gsvexport.graphs.layers import (
    Tensors,
    conv,
    linear,
    merge_heads,
    mish,
    plain,
    scores,
    split_heads,
    swap,
)
from gsvexport.voice.dims import SovitsDims


def prompt(g: GraphBuilder, t: Tensors, dims: SovitsDims) -> ir.Model:
    """ssl_content [1, 768, S] → codes [1, S//2]: the nearest codebook row, argmax of 2x·e - ‖e‖²."""

    def doubled() -> np.ndarray:
        return 2 * t.get(CODEBOOK).T

    def squares() -> np.ndarray:
        return np.sum(np.square(t.get(CODEBOOK).astype(np.float64)), axis=1)

    x = swap(g, conv(g, t / "ssl_proj", g.inputs["ssl_content"], stride=2))
    nearness = g.Sub(
        g.MatMul(x, g.weight(t.name("codebook.doubled"), doubled)), g.weight(t.name("codebook.squares"), squares)
    )
    return g.model({"codes": g.ArgMax(nearness, axis=-1, keepdims=0)})


def reference(g: GraphBuilder, t: Tensors, dims: SovitsDims) -> ir.Model:
    """spectrogram [1, 1025, R] (and speaker) → ge [1, G, 1] (and ge_text): the style encoder of Min et al. 2021."""
    style = _style(g, t / "ref_enc", g.inputs["spectrogram"], dims)
    if dims.speaker_width is None:
        return g.model({"ge": swap(g, style)})
    with g.scope("speaker"):
        mixed = g.Add(style, g.Unsqueeze(linear(g, t / "sv_emb", g.inputs["speaker"]), g.ints(1)))
        mixed = g.PRelu(mixed, plain(g, t, "prelu.weight"))
    text = linear(g, t / "ge_to512", mixed)
    return g.model({"ge": swap(g, mixed), "ge_text": swap(g, text)})


def _style(g: GraphBuilder, t: Tensors, spectrogram: ir.Value, dims: SovitsDims) -> ir.Value:
    """[1, 1025, R] → [1, 1, G]."""
    width, heads = dims.ref_hidden, dims.ref_heads
    x = swap(g, g.Slice(spectrogram, g.ints(0), g.ints(dims.ref_bins), g.ints(1)))
    with g.scope("spectral"):
        x = mish(g, linear(g, t / "spectral.0.fc", x))
        x = swap(g, mish(g, linear(g, t / "spectral.3.fc", x)))
    for i in range(2):
        with g.scope(f"temporal{i}"):
            pad = (dims.ref_kernel - 1) // 2
            y, gate = g.Split(conv(g, t / f"temporal.{i}.conv1.conv", x, pads=(pad, pad)), axis=1, outputs=2)
            x = g.Add(x, g.Mul(y, g.Sigmoid(gate)))
    x = swap(g, x)
    with g.scope("attention"):
        attention = t / "slf_attn"
        # The temperature is √(model width), not √(head width).
        q = linear(g, attention / "w_qs", x, scale=1 / math.sqrt(width))
        k, v = linear(g, attention / "w_ks", x), linear(g, attention / "w_vs", x)
        inner = attention.shape("w_qs.weight")[0]
        q, k, v = (split_heads(g, y, heads, inner) for y in (q, k, v))
        mixed = merge_heads(g, g.MatMul(g.Softmax(scores(g, q, k), axis=-1), v), inner)
        x = g.Add(x, linear(g, attention / "fc", mixed))
    return g.ReduceMean(linear(g, t / "fc.fc", x), axes=[1], keepdims=1)
