"""`acoustic`: semantic codes and phones → latent (text encoder, prior, flow).

    y = encoder_ssl(ssl_proj(codebook[codes]) repeated x2)        t = encoder_text(text_embedding[phones])
    x = encoder2(MRTE(y, t, ge))        (m, logs) = proj(resample(x, F))
    z = flow⁻¹(m + noise·exp(logs)·noise_scale)

The masks of the original are all ones at batch 1 and are not here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from gsvexport.graphs.builder import GraphBuilder
from gsvexport.graphs.layers import (
    Tensors,
    arange,
    conv,
    layer_norm,
    length,
    linear,
    merge_heads,
    plain,
    scores,
    split_heads,
    swap,
)
from gsvexport.stages import FRAMES_PER_CODE
from gsvexport.voice.dims import SovitsDims

CODEBOOK = "quantizer.vq.layers.0._codebook.embed"


def acoustic(g: GraphBuilder, t: Tensors, dims: SovitsDims) -> ir.Model:
    """codes, phones, ge (and ge_text), noise, noise_scale → latent [1, I, F]."""
    enc, noise, ge = t / "enc_p", g.inputs["noise"], g.inputs["ge"]
    y = resample(g, encoded(g, t, dims, g.inputs.get("ge_text", ge)), length(g, noise, 2))
    with g.scope("prior"):
        mean, log_std = g.Split(swap(g, linear(g, enc / "proj", y)), axis=1, outputs=2)
        spread = g.Mul(g.Mul(noise, g.Exp(log_std)), g.inputs["noise_scale"])
        z = g.Add(mean, spread)
    return g.model({"latent": _flow(g, t / "flow", z, ge, dims)})


def encoded(g: GraphBuilder, t: Tensors, dims: SovitsDims, ge_text: ir.Value) -> ir.Value:
    """The text encoder's hidden state for codes and phones: [1, 2T, hidden]."""
    enc = t / "enc_p"
    with g.scope("codes"):
        y = g.Gather(_code_table(g, t), g.inputs["codes"], axis=0)
        y = g.Unsqueeze(y, g.ints(2))
        y = g.Reshape(g.Concat(*[y] * FRAMES_PER_CODE, axis=2), g.ints(1, -1, dims.hidden))
    frame_index = _relative_index(g, y, dims)
    y = _encoder(g, enc / "encoder_ssl", y, dims, dims.ssl_layers, frame_index)
    text = g.Gather(plain(g, enc, "text_embedding.weight"), g.inputs["phones"], axis=0)
    text = _encoder(g, enc / "encoder_text", text, dims, dims.text_layers, _relative_index(g, text, dims))
    y = _mrte(g, enc / "mrte", y, text, ge_text, dims)
    return _encoder(g, enc / "encoder2", y, dims, dims.mix_layers, frame_index)


def _code_table(g: GraphBuilder, t: Tensors) -> ir.Value:
    """ssl_proj (a 1x1 convolution) applied to every codebook row once: [codes, hidden]."""

    def table() -> np.ndarray:
        weight = t.get("enc_p.ssl_proj.weight")[:, :, 0].astype(np.float64)
        rows = t.get(CODEBOOK).astype(np.float64)
        return rows @ weight.T + t.get("enc_p.ssl_proj.bias").astype(np.float64)

    return g.weight(t.name("enc_p.code_table"), table)


@dataclass(frozen=True)
class _RelativeIndex:
    """Where relative attention reads: `keys` [1, H, T, T] and `values` [1, H, T, 2w+1]."""

    keys: ir.Value
    values: ir.Value


def _relative_index(g: GraphBuilder, x: ir.Value, dims: SovitsDims) -> _RelativeIndex:
    """Index tensors for x [1, T, C].

    Offsets run over -w..w. The table of key embeddings has a zero row on either side, so the clipped offset
    clip(j - i + w + 1, 0, 2w + 2) reads a zero wherever |j - i| > w.
    """
    w = dims.window
    with g.scope("relative"):
        rows = arange(g, length(g, x, 1))
        row, column = g.Unsqueeze(rows, g.ints(1)), g.Unsqueeze(rows, g.ints(0))
        # Not Clip, which TensorRT has for floats only.
        offset = g.Min(g.Max(g.Add(g.Sub(column, row), g.ints(w + 1)), g.ints(0)), g.ints(2 * w + 2))
        band = g.Add(row, g.ints(*range(2 * w + 1)))
        heads = g.ints(1, dims.heads, 1, 1)
        return _RelativeIndex(g.Expand(offset, heads), g.Expand(band, heads))


def _encoder(
    g: GraphBuilder, t: Tensors, x: ir.Value, dims: SovitsDims, layers: int, index: _RelativeIndex
) -> ir.Value:
    """x [1, T, hidden] through relative attention (Shaw et al. 2018, window ±w) and convolutional feed-forwards."""
    for i in range(layers):
        with g.scope(f"{t.prefix.split('.')[-2]}{i}"):
            attended = _relative_attention(g, t / f"attn_layers.{i}", x, dims, index)
            x = layer_norm(g, t / f"norm_layers_1.{i}", g.Add(x, attended), "gamma", "beta")
            inner = _feed_forward(g, t / f"ffn_layers.{i}", x, dims)
            x = layer_norm(g, t / f"norm_layers_2.{i}", g.Add(x, inner), "gamma", "beta")
    return x


def _relative_attention(g: GraphBuilder, t: Tensors, x: ir.Value, dims: SovitsDims, index: _RelativeIndex) -> ir.Value:
    w = dims.window
    q = linear(g, t / "conv_q", x, scale=1 / math.sqrt(dims.hidden // dims.heads))
    k, v = linear(g, t / "conv_k", x), linear(g, t / "conv_v", x)
    q, k, v = (split_heads(g, y, dims.heads, dims.hidden) for y in (q, k, v))
    key_rows = g.weight(t.name("emb_rel_k"), lambda: np.pad(t.get("emb_rel_k")[0], ((1, 1), (0, 0))).T)
    by_offset = g.GatherElements(g.MatMul(q, key_rows), index.keys, axis=3)
    weights = g.Softmax(g.Add(scores(g, q, k), by_offset), axis=-1)
    banded = g.GatherElements(g.Pad(weights, g.ints(0, 0, 0, w, 0, 0, 0, w)), index.values, axis=3)
    value_rows = g.weight(t.name("emb_rel_v"), lambda: t.get("emb_rel_v")[0])
    attended = g.Add(g.MatMul(weights, v), g.MatMul(banded, value_rows))
    return linear(g, t / "conv_o", merge_heads(g, attended, dims.hidden))


def _feed_forward(g: GraphBuilder, t: Tensors, x: ir.Value, dims: SovitsDims) -> ir.Value:
    pads = ((dims.kernel - 1) // 2, dims.kernel // 2)
    y = g.Relu(conv(g, t / "conv_1", swap(g, x), pads=pads))
    return swap(g, conv(g, t / "conv_2", y, pads=pads))


def _mrte(g: GraphBuilder, t: Tensors, y: ir.Value, text: ir.Value, ge: ir.Value, dims: SovitsDims) -> ir.Value:
    """Frames y attend to text; the frames themselves and the speaker are added on top."""
    width, heads = dims.mrte_width, dims.mrte_heads
    attention = t / "cross_attention"
    with g.scope("mrte"):
        y, text = linear(g, t / "c_pre", y), linear(g, t / "text_pre", text)
        q = linear(g, attention / "conv_q", y, scale=1 / math.sqrt(width // heads))
        k, v = linear(g, attention / "conv_k", text), linear(g, attention / "conv_v", text)
        q, k, v = (split_heads(g, x, heads, width) for x in (q, k, v))
        mixed = merge_heads(g, g.MatMul(g.Softmax(scores(g, q, k), axis=-1), v), width)
        mixed = g.Add(g.Add(linear(g, attention / "conv_o", mixed), y), swap(g, ge))
        return linear(g, t / "c_post", mixed)


def resample(g: GraphBuilder, x: ir.Value, frames: ir.Value) -> ir.Value:
    """x [1, A, C] → [1, F, C] by linear interpolation between cell centres; F = A leaves it as it is.

    Source position s = max((f + ½)·A/F - ½, 0), in float32 as the network was trained with.
    """
    with g.scope("speed"):
        rows = length(g, x, 1)
        ratio = g.Div(g.Cast(rows, to=ir.DataType.FLOAT), g.Cast(frames, to=ir.DataType.FLOAT))
        half = g.scalar(0.5)
        cells = g.Add(g.Cast(arange(g, frames), to=ir.DataType.FLOAT), half)
        source = g.Max(g.Sub(g.Mul(cells, ratio), half), g.scalar(0.0))
        floor = g.Floor(source)
        weight = g.Unsqueeze(g.Sub(source, floor), g.ints(1))
        last = g.Sub(rows, g.ints(1))
        low = g.Min(g.Cast(floor, to=ir.DataType.INT64), last)
        high = g.Min(g.Add(low, g.ints(1)), last)
        a, b = g.Gather(x, low, axis=1), g.Gather(x, high, axis=1)
        return g.Add(g.Mul(a, g.Sub(g.scalar(1.0), weight)), g.Mul(b, weight))


def _flow(g: GraphBuilder, t: Tensors, z: ir.Value, ge: ir.Value, dims: SovitsDims) -> ir.Value:
    """The flow run backwards: for each coupling, from the last to the first, flip the channels, then b -= m(a).

    A flip is never executed: while the number of flips so far is odd, the halves change places and the coupling's own
    input and output channels are reversed in its weights.
    """
    flipped = False
    for i in reversed(range(dims.flows)):
        flipped = not flipped
        coupling = t / f"flows.{2 * i}"

        def reverse(array: np.ndarray, axis: int, flipped: bool = flipped) -> np.ndarray:
            return np.flip(array, axis) if flipped else array

        with g.scope(f"flow{i}"):
            low, high = g.Split(z, axis=1, outputs=2)
            kept, moved = (high, low) if flipped else (low, high)
            h = conv(g, coupling / "pre", kept, rewrite=lambda w: reverse(w, 1))
            h = wavenet(g, coupling / "enc", h, ge, dims)
            mean = _reversed_conv(g, coupling / "post", h, reverse)
            moved = g.Sub(moved, mean)
            z = g.Concat(*((moved, kept) if flipped else (kept, moved)), axis=1)
    if flipped:
        z = g.Gather(z, g.ints(*reversed(range(dims.inter))), axis=1)
    return z


def _reversed_conv(
    g: GraphBuilder, t: Tensors, x: ir.Value, reverse: Callable[[np.ndarray, int], np.ndarray]
) -> ir.Value:
    """A 1x1 convolution whose output channels are reversed, weight and bias alike."""
    w = g.weight(t.name("weight"), lambda: reverse(t.get("weight"), 0))
    return g.Conv(x, w, g.weight(t.name("bias"), lambda: reverse(t.get("bias"), 0)), kernel_shape=[1])


def wavenet(
    g: GraphBuilder, t: Tensors, x: ir.Value, ge: ir.Value, dims: SovitsDims, mask: ir.Value | None = None
) -> ir.Value:
    """Gated convolutions with residual and skip connections (van den Oord et al. 2016), conditioned on ge.

    Where there is a `mask` [1, 1, M], what the layers hand on is multiplied by it.
    """
    layers, width = dims.flow_layers, dims.flow_hidden
    pad = (dims.flow_kernel - 1) // 2
    conditions = g.Split(conv(g, t / "cond_layer", ge), axis=1, outputs=layers)
    conditions = (conditions,) if layers == 1 else conditions
    skipped: list[ir.Value] = []
    for i in range(layers):
        gates = g.Add(conv(g, t / f"in_layers.{i}", x, pads=(pad, pad)), conditions[i])
        a, b = g.Split(gates, axis=1, outputs=2)
        out = conv(g, t / f"res_skip_layers.{i}", g.Mul(g.Tanh(a), g.Sigmoid(b)))
        if i < layers - 1:
            residual, out = g.Split(out, g.ints(width, width), axis=1, outputs=2)
            x = g.Add(x, residual)
            x = x if mask is None else g.Mul(x, mask)
        skipped = [g.Add(*skipped, out) if skipped else out]
    return skipped[0] if mask is None else g.Mul(skipped[0], mask)
