"""v3's `vocoder`: mel → audio (BigVGAN v2, Lee et al. 2023).

Its activations are periodic, x + sin²(αx)/β, and are taken at twice the rate so that their overtones do not fold back:
upsampling, activation and downsampling with the same low-pass filter of an even number of taps, the ends repeated.

The doubled signal is never put together. Its even and odd samples stay two channels, upsampling is one convolution with
two outputs and downsampling one with two inputs, over windows of the original rate.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from gsvexport.graphs.builder import GraphBuilder
from gsvexport.graphs.layers import Tensors
from gsvexport.graphs.vocoder import same, upsample
from gsvexport.voice.dims import SovitsDims

_TINY = 1e-9  # keeps the division by β defined


def bigvgan(g: GraphBuilder, t: Tensors, dims: SovitsDims) -> ir.Model:
    """mel [1, 100, M] → audio [1, M·hop]."""
    size = dims.matching
    assert size is not None
    x = same(g, t / "conv_pre", g.inputs["mel"])
    kernels = len(dims.resblock_kernels)
    for i, (rate, kernel) in enumerate(zip(dims.upsample_rates, dims.upsample_kernels, strict=True)):
        with g.scope(f"up{i}"):
            x = upsample(g, t / f"ups.{i}.0", x, rate, kernel)
        total: ir.Value | None = None
        for j in range(kernels):
            with g.scope(f"up{i}/block{j}"):
                block = _block(g, t / f"resblocks.{i * kernels + j}", x, dims, dims.resblock_dilations[j])
                total = block if total is None else g.Add(total, block)
        x = g.Mul(total, g.scalar(1.0 / kernels))
    x = same(g, t / "conv_post", _activation(g, t / "activation_post", x, size.log_scale))
    audio = g.Min(g.Max(x, g.scalar(-1.0)), g.scalar(1.0)) if size.clamp else g.Tanh(x)
    return g.model({"audio": g.Squeeze(audio, g.ints(1))})


def _block(g: GraphBuilder, t: Tensors, x: ir.Value, dims: SovitsDims, dilations: tuple[int, ...]) -> ir.Value:
    """Residual convolutions, each after an activation; kind "1" follows every dilated one with a plain one."""
    assert dims.matching is not None
    log_scale = dims.matching.log_scale
    for i, dilation in enumerate(dilations):
        if dims.resblock == "1":
            y = same(g, t / f"convs1.{i}", _activation(g, t / f"activations.{2 * i}", x, log_scale), dilation)
            y = same(g, t / f"convs2.{i}", _activation(g, t / f"activations.{2 * i + 1}", y, log_scale))
        else:
            y = same(g, t / f"convs.{i}", _activation(g, t / f"activations.{i}", x, log_scale), dilation)
        x = g.Add(x, y)
    return x


def _activation(g: GraphBuilder, t: Tensors, x: ir.Value, log_scale: bool) -> ir.Value:
    """[1, C, T] → [1, C, T]; the filters run over the channels as over a batch: [C, 1, T] and [C, 2, T]."""
    up, down = "upsample.filter", "downsample.lowpass.filter"
    reach = t.shape(up)[2] // 4, t.shape(down)[2] // 4
    with g.scope("snake"):
        x = g.Transpose(x, perm=[1, 0, 2])
        first, last = _ends(g, x)
        x = g.Concat(*[first] * reach[0], x, *[last] * reach[0], axis=2)
        phases = g.Conv(x, g.weight(t.name(up), lambda: up_phases(t.get(up)[0, 0])), kernel_shape=[2 * reach[0] + 1])
        alpha = g.weight(t.name("act.alpha"), _scale(t, "act.alpha", log_scale))
        name = "act.beta" if "act.beta" in t else "act.alpha"
        inverse = g.weight(t.name("act.inverse"), lambda: 1 / (_scale(t, name, log_scale)() + _TINY))
        wave = g.Sin(g.Mul(phases, alpha))
        phases = g.Add(phases, g.Mul(g.Mul(wave, wave), inverse))
        # Before the first sample stands the first even one, after the last the last odd one.
        even, odd = g.Split(phases, axis=1, outputs=2)
        (first, _), (_, last) = _ends(g, even), _ends(g, odd)
        first, last = (g.Concat(one, one, axis=1) for one in (first, last))
        phases = g.Concat(*[first] * reach[1], phases, *[last] * reach[1], axis=2)
        y = g.Conv(
            phases, g.weight(t.name(down), lambda: down_phases(t.get(down)[0, 0])), kernel_shape=[2 * reach[1] + 1]
        )
        return g.Transpose(y, perm=[1, 0, 2])


def _scale(t: Tensors, name: str, log_scale: bool) -> Callable[[], np.ndarray]:
    """α or β [C, 1, 1], which are stored as logarithms in some models."""

    def make() -> np.ndarray:
        values = t.get(name).astype(np.float64).reshape(-1, 1, 1)
        return np.exp(values) if log_scale else values

    return make


def _ends(g: GraphBuilder, x: ir.Value) -> tuple[ir.Value, ir.Value]:
    """The first and the last sample of [C, n, T]: [C, n, 1] each."""
    largest = (1 << 31) - 1
    first = g.Slice(x, g.ints(0), g.ints(1), g.ints(2))
    return first, g.Slice(x, g.ints(-1), g.ints(largest), g.ints(2))


def up_phases(taps: np.ndarray) -> np.ndarray:
    """Even and odd samples of a signal at twice the rate, from windows of x: [2, 1, 2r + 1] for K = 4r taps.

    y[m] = 2·Σᵢ x[i]·f[m + K/2 - 1 - 2i]: even samples m = 2n take the odd taps, f[2(r + n - i) - 1], and odd ones the
    even taps, f[2(r + n - i)].
    """
    reach = len(taps) // 4
    phases = np.zeros((2, 1, 2 * reach + 1))
    for offset in range(-reach, reach + 1):  # of i from n
        for phase, tap in ((0, 2 * (reach - offset) - 1), (1, 2 * (reach - offset))):
            if 0 <= tap < len(taps):
                phases[phase, 0, offset + reach] = 2 * taps[tap]
    return phases


def down_phases(taps: np.ndarray) -> np.ndarray:
    """Half the rate, from windows of even and odd samples: [1, 2, 2r + 1] for K = 4r taps.

    y[n] = Σₖ f[k]·z[2n + k - K/2 + 1], so tap k meets the even sample (k - K/2 + 1)/2 from n, or the odd one of
    (k - K/2)/2.
    """
    half = len(taps) // 2
    reach = half // 2
    phases = np.zeros((1, 2, 2 * reach + 1))
    for k, tap in enumerate(taps):
        offset, odd = divmod(k - half + 1, 2)
        phases[0, odd, offset + reach] = tap
    return phases
