"""`ssl`: HuBERT base (Hsu et al. 2021) in the layout of Hugging Face's `HubertModel`: its last hidden state.

    conv₀ → norm of each channel over time → GELU → conv₁ → GELU → … → layer norm → projection
    h = LN(x + GELU(grouped convolution of x))        h = LN(h + attention(h))        h = LN(h + W₂·GELU(W₁·h))

The waveform is taken as it is, without normalisation.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from gsvexport.graphs.builder import GraphBuilder
from gsvexport.graphs.layers import Tensors, conv, linear, merge_heads, plain, scores, split_heads, swap
from gsvexport.voice.pretrained import BertDims, HubertDims

_NORM_EPSILON = 1e-5  # of the first layer's norm; no config sets it


def ssl(g: GraphBuilder, t: Tensors, dims: HubertDims) -> ir.Model:
    """audio_16k [1, N] → ssl_content [1, 768, S]."""
    x = g.Unsqueeze(g.inputs["audio_16k"], g.ints(1))
    for index, (_, _, stride) in enumerate(dims.conv):
        with g.scope(f"conv{index}"):
            layer = t / f"feature_extractor.conv_layers.{index}"
            x = conv(g, layer / "conv", x, stride=stride)
            if index == 0:  # group norm with a group for each channel
                norm = layer / "layer_norm"
                x = g.InstanceNormalization(x, plain(g, norm, "weight"), plain(g, norm, "bias"), epsilon=_NORM_EPSILON)
            x = gelu(g, x)
    with g.scope("projection"):
        projection = t / "feature_projection"
        x = norm_last(g, projection / "layer_norm", swap(g, x), dims.epsilon)
        x = linear(g, projection / "projection", x)
    with g.scope("positions"):
        x = g.Add(x, swap(g, gelu(g, _positions(g, t / "encoder.pos_conv_embed.conv", swap(g, x), dims))))
        x = norm_last(g, t / "encoder.layer_norm", x, dims.epsilon)
    for index in range(dims.layers):
        with g.scope(f"layer{index}"):
            layer = t / f"encoder.layers.{index}"
            names = ("q_proj", "k_proj", "v_proj", "out_proj")
            x = encoder_layer(
                g,
                dims,
                x,
                heads=[layer / f"attention.{name}" for name in names],
                widening=[layer / "feed_forward.intermediate_dense", layer / "feed_forward.output_dense"],
                norms=[layer / "layer_norm", layer / "final_layer_norm"],
            )
    return g.model({"ssl_content": swap(g, x)})


def gelu(g: GraphBuilder, x: ir.Value) -> ir.Value:
    """x·Φ(x), exactly (Hendrycks & Gimpel 2016)."""
    return g.Mul(g.Mul(x, g.scalar(0.5)), g.Add(g.Erf(g.Mul(x, g.scalar(1 / math.sqrt(2)))), g.scalar(1.0)))


def norm_last(g: GraphBuilder, t: Tensors, x: ir.Value, epsilon: float) -> ir.Value:
    """Layer norm over the last axis."""
    return g.LayerNormalization(x, plain(g, t, "weight"), plain(g, t, "bias"), axis=-1, epsilon=epsilon)


def encoder_layer(
    g: GraphBuilder,
    dims: HubertDims | BertDims,
    x: ir.Value,
    *,
    heads: list[Tensors],
    widening: list[Tensors],
    norms: list[Tensors],
) -> ir.Value:
    """h = LN(x + attention(x)), LN(h + W₂·GELU(W₁·h)) for x [1, T, width]; `heads` as `attention` takes them."""
    x = norm_last(g, norms[0], g.Add(x, attention(g, heads, x, dims.width, dims.heads)), dims.epsilon)
    inner = gelu(g, linear(g, widening[0], x))
    return norm_last(g, norms[1], g.Add(x, linear(g, widening[1], inner)), dims.epsilon)


def attention(g: GraphBuilder, parts: list[Tensors], x: ir.Value, width: int, heads: int) -> ir.Value:
    """Self-attention of x [1, T, width] without a mask; `parts` are queries, keys, values and the output."""
    scale = 1 / math.sqrt(width // heads)
    q, k, v = (linear(g, part, x, scale=scale if index == 0 else 1.0) for index, part in enumerate(parts[:3]))
    q, k, v = (split_heads(g, y, heads, width) for y in (q, k, v))
    return linear(g, parts[3], merge_heads(g, g.MatMul(g.Softmax(scores(g, q, k), axis=-1), v), width))


def _positions(g: GraphBuilder, t: Tensors, x: ir.Value, dims: HubertDims) -> ir.Value:
    """A grouped convolution as long as its input; weight norm is over each tap, not over each channel."""
    kernel, groups = dims.positions

    def weight() -> np.ndarray:
        gain, v = t.get("weight_g").astype(np.float64), t.get("weight_v").astype(np.float64)
        return gain * (v / np.sqrt(np.sum(v * v, axis=(0, 1), keepdims=True)))

    # kernel // 2 on both sides gives one value too many where the kernel is even; it is the last one
    pads = [kernel // 2, kernel // 2 - (kernel % 2 == 0)]
    w, b = g.weight(t.name("weight"), weight), plain(g, t, "bias")
    return g.Conv(x, w, b, kernel_shape=[kernel], pads=pads, dilations=[1], strides=[1], group=groups)
