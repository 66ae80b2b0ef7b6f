"""`cfm`: one step of flow matching (Lipman et al. 2023) through a diffusion transformer (Peebles & Xie 2023).

    c = MLP(sinusoid(time)) + MLP(sinusoid(span))          text = ConvNeXt V2 blocks(fea + positions)
    x = W·[state, prompt_mel, text]          x += positions(x)
    x += gate·attention(norm(x)·(1 + scale) + shift), and the same with a feed-forward, gate, scale, shift linear in c
    velocity = W'·(norm(x)·(1 + scale) + shift)

Only the first channels of queries and keys, those of head 0, are turned by their position: upstream applies rotary
embeddings (Su et al. 2021) before it splits the heads. Pairs of channels that turn together are put into two halves, in
queries and keys alike, which no product of both can tell.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from gsvexport.graphs.builder import GraphBuilder
from gsvexport.graphs.layers import (
    Tensors,
    conv,
    length,
    linear,
    merge_heads,
    mish,
    plain,
    scores,
    split_heads,
    swap,
)
from gsvexport.stages import FEATURE_WIDTH, MEL_POSITIONS
from gsvexport.voice.dims import SovitsDims
from gsvexport.voice.matching import ESTIMATOR, HEAD_WIDTH, TIME_WIDTH, MatchingDims

_EPSILON = 1e-6  # of every norm here
_TIME_SCALE, _TIME_BASE, _POSITION_BASE = 1000.0, 1e4, 1e4


def cfm(g: GraphBuilder, t: Tensors, dims: SovitsDims) -> ir.Model:
    """state, prompt_mel, fea, time, span → velocity [1, 100, M]."""
    size, t = dims.matching, t / ESTIMATOR
    assert size is not None
    rows = length(g, g.inputs["state"], 2)
    with g.scope("moment"):
        moment = g.Add(
            _moment(g, t / "time_embed.time_mlp", g.inputs["time"]),
            _moment(g, t / "d_embed.time_mlp", g.inputs["span"]),
        )
        moment = g.Mul(moment, g.Sigmoid(moment))  # every layer begins with this SiLU
    text = _text(g, t / "text_embed.text_blocks", size, rows)
    with g.scope("input"):
        x = g.Concat(swap(g, g.inputs["state"]), swap(g, g.inputs["prompt_mel"]), text, axis=2)
        x = linear(g, t / "input_embed.proj", x)
        x = g.Add(_positions(g, t / "input_embed.conv_pos_embed", x, size), x)
    turn = _rotation(g, t, size, rows)
    for layer in range(size.layers):
        with g.scope(f"layer{layer}"):
            x = _layer(g, t / f"transformer_blocks.{layer}", x, moment, turn, size)
    with g.scope("output"):
        scale, shift = g.Split(linear(g, t / "norm_out.linear", moment), axis=2, outputs=2)
        velocity = linear(g, t / "proj_out", _modulated(g, t, x, scale, shift, size))
        return g.model({"velocity": swap(g, velocity)})


def _moment(g: GraphBuilder, t: Tensors, time: ir.Value) -> ir.Value:
    """[1] → [1, 1, W]: sines and cosines of 1000·time at frequencies from 1 to 1e-4, through two layers."""
    half = TIME_WIDTH // 2

    def frequencies() -> np.ndarray:
        return _TIME_SCALE * np.exp(-math.log(_TIME_BASE) / (half - 1) * np.arange(half))

    angles = g.Mul(g.Reshape(time, g.ints(1, 1, 1)), g.weight("cfm.frequencies", frequencies))
    x = linear(g, t / "0", g.Concat(g.Sin(angles), g.Cos(angles), axis=2))
    return linear(g, t / "2", g.Mul(x, g.Sigmoid(x)))


def _text(g: GraphBuilder, t: Tensors, size: MatchingDims, rows: ir.Value) -> ir.Value:
    """[1, M, 512] of `fea`, in ConvNeXt V2 blocks (Woo et al. 2023): the response norm is over time."""

    def table() -> np.ndarray:
        frequencies = _POSITION_BASE ** -(np.arange(0, FEATURE_WIDTH, 2) / FEATURE_WIDTH)
        angles = np.arange(MEL_POSITIONS)[:, None] * frequencies
        return np.concatenate([np.cos(angles), np.sin(angles)], axis=1)[None]

    with g.scope("text"):
        x = g.Add(swap(g, g.inputs["fea"]), _rows(g, g.weight("cfm.text_positions", table), rows))
    for layer in range(size.text_layers):
        block = t / str(layer)
        with g.scope(f"text{layer}"):
            pad = size.text_kernel // 2
            y = swap(g, conv(g, block / "dwconv", swap(g, x), pads=(pad, pad), groups=FEATURE_WIDTH))
            gain, shift = plain(g, block, "norm.weight"), plain(g, block, "norm.bias")
            y = g.LayerNormalization(y, gain, shift, axis=-1, epsilon=_EPSILON)
            y = linear(g, block / "pwconv1", y)
            y = g.Mul(y, g.Mul(g.Add(g.Erf(g.Mul(y, g.scalar(math.sqrt(0.5)))), g.scalar(1.0)), g.scalar(0.5)))
            response = g.ReduceL2(y, axes=[1], keepdims=1)
            response = g.Div(response, g.Add(g.ReduceMean(response, axes=[2], keepdims=1), g.scalar(_EPSILON)))
            normed = g.Mul(plain(g, block, "grn.gamma"), g.Mul(y, response))
            y = g.Add(g.Add(normed, plain(g, block, "grn.beta")), y)
            x = g.Add(x, linear(g, block / "pwconv2", y))
    return x


def _positions(g: GraphBuilder, t: Tensors, x: ir.Value, size: MatchingDims) -> ir.Value:
    """Positions as wide convolutions see them: [1, M, W] → [1, M, W]."""
    pad = size.position_kernel // 2
    y = swap(g, x)
    for place in (0, 2):
        y = mish(g, conv(g, t / f"conv1d.{place}", y, pads=(pad, pad), groups=size.position_groups))
    return swap(g, y)


def _rotation(g: GraphBuilder, t: Tensors, size: MatchingDims, rows: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Cosine and sine [1, M, rotary] of position·frequency; the frequencies as stored, rounded to float16 or not."""

    def angles() -> np.ndarray:
        frequencies = t.get("rotary_embed.inv_freq")
        return np.arange(MEL_POSITIONS, dtype=np.float32)[None, :, None] * frequencies

    with g.scope("rotation"):
        cosine = g.weight(t.name("rotary.cos"), lambda: np.cos(angles().astype(np.float64)))
        sine = g.weight(t.name("rotary.sin"), lambda: np.sin(angles().astype(np.float64)))
        return _rows(g, cosine, rows), _rows(g, sine, rows)


def _rows(g: GraphBuilder, table: ir.Value, rows: ir.Value) -> ir.Value:
    """The first rows of a table [1, MEL_POSITIONS, n]."""
    return g.Slice(table, g.ints(0), rows, g.ints(1))


def _layer(
    g: GraphBuilder,
    t: Tensors,
    x: ir.Value,
    moment: ir.Value,
    turn: tuple[ir.Value, ir.Value],
    size: MatchingDims,
) -> ir.Value:
    shift, scale, gate, shift_2, scale_2, gate_2 = g.Split(linear(g, t / "attn_norm.linear", moment), axis=2, outputs=6)
    y = _attention(g, t / "attn", _modulated(g, t, x, scale, shift, size), turn, size)
    x = g.Add(x, g.Mul(gate, y))
    y = linear(g, t / "ff.ff.0.0", _modulated(g, t, x, scale_2, shift_2, size))
    # GELU in its tanh form: y/2·(1 + tanh(√(2/π)·(y + 0.044715·y³))).
    cube = g.Mul(g.Mul(g.Mul(y, y), y), g.scalar(0.044715))
    y = g.Mul(
        y, g.Mul(g.Add(g.Tanh(g.Mul(g.Add(y, cube), g.scalar(math.sqrt(2 / math.pi)))), g.scalar(1.0)), g.scalar(0.5))
    )
    return g.Add(x, g.Mul(gate_2, linear(g, t / "ff.ff.2", y)))


def _modulated(
    g: GraphBuilder, t: Tensors, x: ir.Value, scale: ir.Value, shift: ir.Value, size: MatchingDims
) -> ir.Value:
    """norm(x)·(1 + scale) + shift; the norm has no weights of its own."""
    ones = g.weight("cfm.ones", lambda: np.ones(size.width))
    normed = g.LayerNormalization(x, ones, axis=-1, epsilon=_EPSILON)
    return g.Add(g.Mul(normed, g.Add(scale, g.scalar(1.0))), shift)


def _attention(
    g: GraphBuilder, t: Tensors, x: ir.Value, turn: tuple[ir.Value, ir.Value], size: MatchingDims
) -> ir.Value:
    inner = size.heads * HEAD_WIDTH
    q = _turned(g, _halved(g, t / "to_q", x, size, 1 / math.sqrt(HEAD_WIDTH)), turn, size)
    k = _turned(g, _halved(g, t / "to_k", x, size, 1.0), turn, size)
    v = linear(g, t / "to_v", x)
    q, k, v = (split_heads(g, y, size.heads, inner) for y in (q, k, v))
    mixed = merge_heads(g, g.MatMul(g.Softmax(scores(g, q, k), axis=-1), v), inner)
    return linear(g, t / "to_out.0", mixed)


def _halved(g: GraphBuilder, t: Tensors, x: ir.Value, size: MatchingDims, scale: float) -> ir.Value:
    """A linear layer with the even ones of its turning channels first and the odd ones after them."""
    turning = 2 * size.rotary
    order = [*range(0, turning, 2), *range(1, turning, 2), *range(turning, size.heads * HEAD_WIDTH)]
    weight = g.weight(t.name("weight"), lambda: t.get("weight")[order].T * np.float32(scale))
    return g.Add(g.MatMul(x, weight), g.weight(t.name("bias"), lambda: t.get("bias")[order] * np.float32(scale)))


def _turned(g: GraphBuilder, x: ir.Value, turn: tuple[ir.Value, ir.Value], size: MatchingDims) -> ir.Value:
    """(a, b) → (a·cos - b·sin, b·cos + a·sin) in the first channels, the others as they are."""
    (cosine, sine), rest = turn, size.heads * HEAD_WIDTH - 2 * size.rotary
    sizes = [size.rotary, size.rotary, *([rest] if rest else [])]
    a, b, *others = g.Split(x, g.ints(*sizes), axis=2, outputs=len(sizes))
    first = g.Sub(g.Mul(a, cosine), g.Mul(b, sine))
    second = g.Add(g.Mul(b, cosine), g.Mul(a, sine))
    return g.Concat(first, second, *others, axis=2)
