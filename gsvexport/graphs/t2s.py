"""`prefill` and `step`: the GPT that writes semantic codes (post-norm transformer encoder layers with a cache).

    x = text_embedding[phones] + bert_proj(bertᵀ) + α_text·PE      y = audio_embedding[codes] + α_audio·PE
    h = LN₁(h + W_o·attention(h))          h = LN₂(h + W₂·relu(W₁·h))          logits = W_head·h_last

Text rows see all text and no audio; audio row j sees all text and audio ≤ j. Positions count from 0 in each stream.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from gsvexport.graphs.builder import GraphBuilder
from gsvexport.graphs.layers import (
    MASKED,
    Tensors,
    arange,
    layer_norm,
    length,
    linear,
    merge_heads,
    plain,
    scores,
    split_heads,
    swap,
)
from gsvexport.stages import POSITIONS
from gsvexport.voice.dims import T2SDims


def prefill(g: GraphBuilder, t: Tensors, dims: T2SDims) -> ir.Model:
    """phones, bert, prompt → logits of the first code, and the cache of all X+Y rows."""
    t = t / "model"
    phones, prompt = g.inputs["phones"], g.inputs["prompt"]
    with g.scope("embed"):
        text = g.Gather(plain(g, t, "ar_text_embedding.word_embeddings.weight"), phones, axis=0)
        text = g.Add(text, linear(g, t / "bert_proj", swap(g, g.inputs["bert"])))
        text = g.Add(text, _positions(g, t / "ar_text_position", dims, length(g, phones, 1)))
        audio = g.Gather(plain(g, t, "ar_audio_embedding.word_embeddings.weight"), prompt, axis=0)
        audio = g.Add(audio, _positions(g, t / "ar_audio_position", dims, length(g, prompt, 1)))
        h = g.Concat(text, audio, axis=1)
    with g.scope("mask"):
        rows = arange(g, length(g, h, 1))
        last_seen = g.Max(rows, g.Sub(length(g, phones, 1), g.ints(1)))
        seen = g.LessOrEqual(g.Unsqueeze(rows, g.ints(0)), g.Unsqueeze(last_seen, g.ints(1)))
        mask = g.Where(seen, g.scalar(0.0), g.scalar(MASKED))
    keys, values = [], []
    for index in range(dims.layers):
        with g.scope(f"layer{index}"):
            q, k, v = _qkv(g, t / f"h.layers.{index}", h, dims)
            keys.append(g.Unsqueeze(k, g.ints(0)))
            values.append(g.Unsqueeze(v, g.ints(0)))
            h = _block(g, t / f"h.layers.{index}", h, q, k, v, dims, mask)
    last = g.Gather(h, g.scalar(-1), axis=1)
    return g.model({"logits": _head(g, t, last), "keys": g.Concat(*keys, axis=0), "values": g.Concat(*values, axis=0)})


def step(g: GraphBuilder, t: Tensors, dims: T2SDims) -> ir.Model:
    """The code chosen last, its position and the cache → logits of the next code, and the cache's new row."""
    t = t / "model"
    with g.scope("embed"):
        h = g.Gather(plain(g, t, "ar_audio_embedding.word_embeddings.weight"), g.inputs["token"], axis=0)
        position = g.Gather(_table(g, dims), g.inputs["position"], axis=0)
        h = g.Add(h, g.Mul(position, plain(g, t / "ar_audio_position", "alpha")))
    keys, values = [], []
    for index in range(dims.layers):
        with g.scope(f"layer{index}"):
            q, k, v = _qkv(g, t / f"h.layers.{index}", h, dims)
            keys.append(g.Unsqueeze(k, g.ints(0)))
            values.append(g.Unsqueeze(v, g.ints(0)))
            k = g.Concat(g.Gather(g.inputs["keys"], g.scalar(index), axis=0), k, axis=1)
            v = g.Concat(g.Gather(g.inputs["values"], g.scalar(index), axis=0), v, axis=1)
            h = _block(g, t / f"h.layers.{index}", h, q, k, v, dims, mask=None)
    logits = _head(g, t, g.Squeeze(h, g.ints(1)))
    return g.model({"logits": logits, "new_keys": g.Concat(*keys, axis=0), "new_values": g.Concat(*values, axis=0)})


def position_table(width: int) -> np.ndarray:
    """Sine positions [POSITIONS, width] float32, sines and cosines interleaved, base 10000 (Vaswani et al. 2017, §3.5).

    The angle is a float32 product, as in the network's training; sine and cosine come from the C library one by one,
    because numpy's vector versions differ between processors.
    """
    rates = np.array([math.exp(i * -(math.log(10000.0) / width)) for i in range(0, width, 2)], np.float32)
    angles = (np.arange(POSITIONS, dtype=np.float32)[:, None] * rates[None, :]).ravel().tolist()
    table = np.empty((POSITIONS, width), np.float32)
    table[:, 0::2] = np.array([math.sin(a) for a in angles]).reshape(POSITIONS, -1)
    table[:, 1::2] = np.array([math.cos(a) for a in angles]).reshape(POSITIONS, -1)
    return table


def _table(g: GraphBuilder, dims: T2SDims) -> ir.Value:
    return g.weight("gpt.positions", lambda: position_table(dims.width))


def _positions(g: GraphBuilder, t: Tensors, dims: T2SDims, count: ir.Value) -> ir.Value:
    """α·PE[0 .. count-1], [count, D]."""
    return g.Mul(g.Slice(_table(g, dims), g.ints(0), count, g.ints(0)), plain(g, t, "alpha"))


def _qkv(g: GraphBuilder, t: Tensors, h: ir.Value, dims: T2SDims) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Queries (scaled by 1/√head width, folded into the weights), keys and values, each [1, rows, D]."""
    scale = np.ones(3 * dims.width, np.float32)
    scale[: dims.width] = 1 / math.sqrt(dims.width // dims.heads)
    weight = g.weight(t.name("self_attn.in_proj_weight"), lambda: t.get("self_attn.in_proj_weight").T * scale)
    bias = g.weight(t.name("self_attn.in_proj_bias"), lambda: t.get("self_attn.in_proj_bias") * scale)
    q, k, v = g.Split(g.Add(g.MatMul(h, weight), bias), axis=-1, outputs=3)
    return q, k, v


def _block(
    g: GraphBuilder,
    t: Tensors,
    h: ir.Value,
    q: ir.Value,
    k: ir.Value,
    v: ir.Value,
    dims: T2SDims,
    mask: ir.Value | None,
) -> ir.Value:
    q, k, v = (split_heads(g, x, dims.heads, dims.width) for x in (q, k, v))
    weights = scores(g, q, k)
    if mask is not None:
        weights = g.Add(weights, mask)
    attended = merge_heads(g, g.MatMul(g.Softmax(weights, axis=-1), v), dims.width)
    h = g.Add(h, linear(g, t / "self_attn.out_proj", attended))
    h = layer_norm(g, t / "norm1", h, "weight", "bias")
    inner = linear(g, t / "linear2", g.Relu(linear(g, t / "linear1", h)))
    return layer_norm(g, t / "norm2", g.Add(h, inner), "weight", "bias")


def _head(g: GraphBuilder, t: Tensors, row: ir.Value) -> ir.Value:
    """[1, D] → logits [1, V]."""
    with g.scope("head"):
        return linear(g, t / "ar_predict_layer", row, bias=None)
