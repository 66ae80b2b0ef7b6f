"""The layers that several stages share, and the rewriting of checkpoint tensors that goes with them.

Sequences are [1, time, channels] in attention and linear layers, and [1, channels, time] in convolutions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from gsvexport.graphs.builder import GraphBuilder

LAYER_NORM_EPSILON = 1e-5
MASKED = -1e4  # exp(MASKED) is 0 in float32 and the number itself fits float16


@dataclass(frozen=True)
class Tensors:
    """The tensors of one checkpoint below `prefix`. `label` goes in front of their names in the weights file."""

    label: str
    arrays: Mapping[str, np.ndarray]
    prefix: str = ""

    def __truediv__(self, part: str) -> Tensors:
        return Tensors(self.label, self.arrays, f"{self.prefix}{part}.")

    def __contains__(self, name: str) -> bool:
        return self.prefix + name in self.arrays

    def name(self, name: str) -> str:
        """The tensor's name in the weights file."""
        return f"{self.label}.{self.prefix}{name}"

    def get(self, name: str) -> np.ndarray:
        """The tensor in float32."""
        return self.arrays[self.prefix + name].astype(np.float32)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor; a weight-normed weight has that of its direction v."""
        key = self.prefix + name
        return self.arrays[key if key in self.arrays else f"{key}_v"].shape

    def folded(self, name: str = "weight") -> np.ndarray:
        """A weight with its weight norm multiplied out: w = g · v / ‖v‖, the norm over all axes but the first.

        Salimans & Kingma 2016, eq. 2. In float64, where sums of squares of float16 values are exact in practice, so
        that the result does not depend on the machine's order of summation.
        """
        if name in self:
            return self.get(name)
        g = self.arrays[f"{self.prefix}{name}_g"].astype(np.float64)
        v = self.arrays[f"{self.prefix}{name}_v"].astype(np.float64)
        norm = np.sqrt(np.sum(v * v, axis=tuple(range(1, v.ndim)), keepdims=True))
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused with every weight's name
            return (g * (v / norm)).astype(np.float32)


def plain(g: GraphBuilder, t: Tensors, name: str) -> ir.Value:
    """A checkpoint tensor as it is."""
    return g.weight(t.name(name), lambda: t.get(name))


def linear(g: GraphBuilder, t: Tensors, x: ir.Value, *, scale: float = 1.0, bias: str | None = "bias") -> ir.Value:
    """x [1, T, in] → [1, T, out]. The weight ([out, in] or a 1x1 convolution's [out, in, 1]) is stored as [in, out]."""

    def weight() -> np.ndarray:
        array = t.get("weight")
        return array.reshape(array.shape[0], -1).T * np.float32(scale)

    y = g.MatMul(x, g.weight(t.name("weight"), weight))
    if bias is None:
        return y
    return g.Add(y, g.weight(t.name(bias), lambda: t.get(bias) * np.float32(scale)))


def conv(
    g: GraphBuilder,
    t: Tensors,
    x: ir.Value,
    *,
    pads: tuple[int, int] = (0, 0),
    dilation: int = 1,
    stride: int = 1,
    groups: int = 1,
    rewrite: Callable[[np.ndarray], np.ndarray] = lambda w: w,
) -> ir.Value:
    """1-D convolution of x [1, in, T]; weight norm folded, then `rewrite` applied to the weight."""
    w = g.weight(t.name("weight"), lambda: rewrite(t.folded()))
    b = plain(g, t, "bias") if "bias" in t else None
    kernel = t.shape("weight")[2]
    grouped = {"group": groups} if groups > 1 else {}
    return g.Conv(x, w, b, kernel_shape=[kernel], pads=list(pads), dilations=[dilation], strides=[stride], **grouped)


def layer_norm(g: GraphBuilder, t: Tensors, x: ir.Value, gain: str, shift: str) -> ir.Value:
    """Normalise x over its last axis."""
    return g.LayerNormalization(x, plain(g, t, gain), plain(g, t, shift), axis=-1, epsilon=LAYER_NORM_EPSILON)


def mish(g: GraphBuilder, x: ir.Value) -> ir.Value:
    """x·tanh(softplus(x)) (Misra 2019)."""
    return g.Mul(x, g.Tanh(g.Softplus(x)))


def split_heads(g: GraphBuilder, x: ir.Value, heads: int, width: int) -> ir.Value:
    """[1, T, width] → [1, heads, T, width / heads]."""
    return g.Transpose(g.Reshape(x, g.ints(1, -1, heads, width // heads)), perm=[0, 2, 1, 3])


def merge_heads(g: GraphBuilder, x: ir.Value, width: int) -> ir.Value:
    """[1, heads, T, width / heads] → [1, T, width]."""
    return g.Reshape(g.Transpose(x, perm=[0, 2, 1, 3]), g.ints(1, -1, width))


def scores(g: GraphBuilder, q: ir.Value, k: ir.Value) -> ir.Value:
    """q kᵀ of head-split queries and keys; the queries are scaled already."""
    return g.MatMul(q, g.Transpose(k, perm=[0, 1, 3, 2]))


def swap(g: GraphBuilder, x: ir.Value) -> ir.Value:
    """[1, A, B] → [1, B, A]."""
    return g.Transpose(x, perm=[0, 2, 1])


def length(g: GraphBuilder, x: ir.Value, axis: int) -> ir.Value:
    """The size of one axis as an int64 vector of one element."""
    return g.Shape(x, start=axis, end=axis + 1)


def arange(g: GraphBuilder, count: ir.Value) -> ir.Value:
    """0, 1, … count-1 as int64; `count` is a vector of one element."""
    return g.Range(g.scalar(0), g.Squeeze(count, g.ints(0)), g.scalar(1))
