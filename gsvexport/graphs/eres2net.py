"""`speaker`: ERes2NetV2 (Chen et al. 2024) as upstream uses it: the fused features, averaged over time.

A block splits its channels into groups; each group is convolved together with the result of the one before it: added in
the first two layers, fused with attention (`_fused`) in the last two. All activations but the first are cut off at 20.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from gsvexport.graphs.builder import GraphBuilder
from gsvexport.graphs.layers import Tensors
from gsvexport.stages import SPEAKER_WIDTH
from gsvexport.voice.config import indices

_NORM_EPSILON = 1e-5
_CEILING = 20.0


def speaker(g: GraphBuilder, t: Tensors) -> ir.Model:
    """fbank [1, frames, 80] → speaker [1, 20480]."""
    x = g.Unsqueeze(g.Transpose(g.inputs["fbank"], perm=[0, 2, 1]), g.ints(1))
    x = g.Relu(_conv(g, t, "conv1", "bn1", x))
    outputs = []
    for layer in range(1, 5):
        for block in range(indices(t.arrays, rf"layer{layer}\.(\d+)\.")):
            with g.scope(f"layer{layer}.{block}"):
                x = _block(g, t / f"layer{layer}.{block}", x, 2 if layer > 1 and block == 0 else 1)
        outputs.append(x)
    with g.scope("fusion"):
        down = _conv(g, t, "layer3_ds", None, outputs[2], stride=2)
        fused = _fused(g, t / "fuse34", outputs[3], down)
    return g.model({"speaker": g.Reshape(g.ReduceMean(fused, axes=[3], keepdims=0), g.ints(1, SPEAKER_WIDTH))})


def _block(g: GraphBuilder, t: Tensors, x: ir.Value, stride: int) -> ir.Value:
    scale = next(count for count in range(1, 65) if f"convs.{count}.weight" not in t)
    groups = g.Split(_clip(g, _conv(g, t, "conv1", "bn1", x, stride=stride)), axis=1, outputs=scale)
    groups = groups if scale > 1 else (groups,)
    done: list[ir.Value] = []
    for index, group in enumerate(groups):
        if done and f"fuse_models.{index - 1}.local_att.0.weight" in t:
            group = _fused(g, t / f"fuse_models.{index - 1}", done[-1], group)
        elif done:
            group = g.Add(done[-1], group)
        done.append(_clip(g, _conv(g, t, f"convs.{index}", f"bns.{index}", group)))
    y = _conv(g, t, "conv3", "bn3", g.Concat(*done, axis=1) if scale > 1 else done[0])
    beside = _conv(g, t, "shortcut.0", "shortcut.1", x, stride=stride) if "shortcut.0.weight" in t else x
    return _clip(g, g.Add(y, beside))


def _fused(g: GraphBuilder, t: Tensors, x: ir.Value, y: ir.Value) -> ir.Value:
    """x·(1 + a) + y·(1 - a), with a = tanh(local attention to both)."""
    inner = _conv(g, t, "local_att.0", "local_att.1", g.Concat(x, y, axis=1))
    inner = g.Mul(inner, g.Sigmoid(inner))
    share = g.Tanh(_conv(g, t, "local_att.3", "local_att.4", inner))
    one = g.scalar(1.0)
    return g.Add(g.Mul(x, g.Add(one, share)), g.Mul(y, g.Sub(one, share)))


def _clip(g: GraphBuilder, x: ir.Value) -> ir.Value:
    return g.Clip(x, g.scalar(0.0), g.scalar(_CEILING))


def _conv(g: GraphBuilder, t: Tensors, name: str, norm: str | None, x: ir.Value, stride: int = 1) -> ir.Value:
    """A 2-D convolution as long as its input over `stride`, with the batch norm after it multiplied in."""
    weight = f"{name}.weight"
    kernel, outputs = t.shape(weight)[2], t.shape(weight)[0]
    scale = np.ones(outputs)
    bias = t.get(f"{name}.bias").astype(np.float64) if f"{name}.bias" in t else np.zeros(outputs)
    if norm is not None:
        gain, shift, mean, variance = (
            t.get(f"{norm}.{part}").astype(np.float64) for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gain / np.sqrt(variance + _NORM_EPSILON)
        bias = shift + (bias - mean) * scale
    stored = t.get(weight).astype(np.float64)
    w = g.weight(t.name(weight), lambda: stored * np.reshape(scale, (-1, 1, 1, 1)))
    b = None if norm is None else g.weight(t.name(f"{name}.bias"), lambda: bias)
    pad = kernel // 2
    return g.Conv(x, w, b, kernel_shape=[kernel, kernel], pads=[pad] * 4, dilations=[1, 1], strides=[stride, stride])
