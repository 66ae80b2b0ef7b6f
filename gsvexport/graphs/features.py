"""`features`: semantic codes and phones → what v3 and v4 generate a mel from.

x = resample(text encoder, F)        y = leaky(bridge(x)) repeated to M frames        fea = proj(WaveNet(pre(y), ge))
"""

from __future__ import annotations

import onnx_ir as ir

from gsvexport.graphs.acoustic import encoded, resample, wavenet
from gsvexport.graphs.builder import GraphBuilder
from gsvexport.graphs.layers import Tensors, arange, conv, length, linear, swap
from gsvexport.stages import VERSIONS
from gsvexport.voice.dims import SovitsDims

_SLOPE = 0.01


def features(g: GraphBuilder, t: Tensors, dims: SovitsDims) -> ir.Model:
    """codes, phones, ge, mask [1, 1, M] → fea [1, 512, M]."""
    ge, mask = g.inputs["ge"], g.inputs["mask"]
    mel = VERSIONS[dims.version].mel
    assert mel is not None
    up, down = mel.stretch
    count = length(g, mask, 2)
    with g.scope("frames"):  # the F of which M = floor(F·up / down)
        latent = g.Div(g.Add(g.Mul(count, g.ints(down)), g.ints(up - 1)), g.ints(up))
    x = resample(g, encoded(g, t, dims, ge), latent)
    x = g.LeakyRelu(linear(g, t / "bridge.0", x), alpha=_SLOPE)
    with g.scope("stretch"):
        place = g.Div(g.Mul(arange(g, count), g.ints(down)), g.ints(up))
        x = swap(g, g.Gather(x, place, axis=1))
    with g.scope("wavenet"):
        x = g.Mul(conv(g, t / "wns1.pre", x), mask)
        x = wavenet(g, t / "wns1.enc", x, ge, dims, mask)
        return g.model({"fea": g.Mul(conv(g, t / "wns1.proj", x), mask)})
