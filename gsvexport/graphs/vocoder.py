"""`vocoder`: latent → audio (HiFi-GAN generator, Kong et al. 2020, with a speaker condition after the first layer).

v4's speaks a mel, without a condition, and may have a bias in its last layer.
"""

from __future__ import annotations

import onnx_ir as ir

from gsvexport.graphs.builder import GraphBuilder
from gsvexport.graphs.layers import Tensors, conv, plain
from gsvexport.voice.dims import SovitsDims

SLOPE = 0.1  # of every leaky ReLU but the last
LAST_SLOPE = 0.01


def vocoder(g: GraphBuilder, t: Tensors, dims: SovitsDims) -> ir.Model:
    """latent [1, I, F], ge → audio [1, F·hop]; or mel [1, 100, M] → audio [1, M·hop]."""
    if dims.matching is None:
        t = t / "dec"
        x = same(g, t / "conv_pre", g.inputs["latent"])
        x = g.Add(x, conv(g, t / "cond", g.inputs["ge"]))
    else:
        x = same(g, t / "conv_pre", g.inputs["mel"])
    kernels = len(dims.resblock_kernels)
    for i, (rate, kernel) in enumerate(zip(dims.upsample_rates, dims.upsample_kernels, strict=True)):
        with g.scope(f"up{i}"):
            x = upsample(g, t / f"ups.{i}", g.LeakyRelu(x, alpha=SLOPE), rate, kernel)
        total: ir.Value | None = None
        for j in range(kernels):
            with g.scope(f"up{i}/block{j}"):
                block = _resblock(g, t / f"resblocks.{i * kernels + j}", x, dims.resblock, dims.resblock_dilations[j])
                total = block if total is None else g.Add(total, block)
        x = g.Mul(total, g.scalar(1.0 / kernels))
    x = same(g, t / "conv_post", g.LeakyRelu(x, alpha=LAST_SLOPE))
    return g.model({"audio": g.Squeeze(g.Tanh(x), g.ints(1))})


def upsample(g: GraphBuilder, t: Tensors, x: ir.Value, rate: int, kernel: int) -> ir.Value:
    """x [1, C, T] → [1, C/2, T·rate] by a transposed convolution."""
    w = g.weight(t.name("weight"), t.folded)
    pad = (kernel - rate) // 2
    return g.ConvTranspose(x, w, plain(g, t, "bias"), kernel_shape=[kernel], strides=[rate], pads=[pad, pad])


def _resblock(g: GraphBuilder, t: Tensors, x: ir.Value, kind: str, dilations: tuple[int, ...]) -> ir.Value:
    """Kind "1" follows every dilated convolution with a plain one; kind "2" does not."""
    for i, dilation in enumerate(dilations):
        y = g.LeakyRelu(x, alpha=SLOPE)
        if kind == "1":
            y = same(g, t / f"convs1.{i}", y, dilation)
            y = same(g, t / f"convs2.{i}", g.LeakyRelu(y, alpha=SLOPE))
        else:
            y = same(g, t / f"convs.{i}", y, dilation)
        x = g.Add(x, y)
    return x


def same(g: GraphBuilder, t: Tensors, x: ir.Value, dilation: int = 1) -> ir.Value:
    """A convolution that keeps the length (odd kernels)."""
    pad = (t.shape("weight")[2] - 1) * dilation // 2
    return conv(g, t, x, pads=(pad, pad), dilation=dilation)
