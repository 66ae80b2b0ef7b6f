"""The demo voice's sizes, and those of its weights that are not learned."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gsvexport.train.speech import CHANNELS
from gsvexport.voice.dims import SovitsDims, T2SDims
from gsvexport.voice.networks import Synthesizer
from gsvexport.voice.networks.flow import Flow

GPT = T2SDims(layers=4, width=192, heads=4, vocab=1025, phones=732, eos=1024)
SOVITS = SovitsDims(
    version="v2",
    symbols="v2",
    text_phones=732,
    ssl=768,
    codes=1024,
    hidden=192,
    filter=256,
    heads=2,
    text_layers=2,
    ssl_layers=1,
    mix_layers=1,
    kernel=5,
    window=4,
    mrte_width=512,
    mrte_heads=4,
    inter=CHANNELS,
    gin=512,
    ge_text_width=512,
    flows=4,
    flow_layers=4,
    flow_kernel=5,
    flow_hidden=192,
    # Nearly all of the work is done at 200 to 3200 Hz; the last, long kernel is a learned synthesis filter bank.
    upsample_rates=(4, 2, 2, 2, 2, 10),
    upsample_kernels=(8, 4, 4, 4, 4, 40),
    upsample_initial=512,
    resblock="2",
    resblock_kernels=(5,),
    resblock_dilations=((1, 3),),
    ref_bins=704,
    ref_hidden=128,
    ref_kernel=5,
    ref_heads=2,
    speaker_width=None,
    rate=32000,
    n_fft=2048,
    hop=640,
    window_length=2048,
)
_FEW = 6  # weights other than 0 at each output of a layer that is not learned
_FLOW_STRENGTH = 0.35  # how far a coupling moves a channel of unit variance, about


def untrained(seed: int = 1) -> Synthesizer:
    """The SoVITS network: what is learned at its starting point, what is not as it stays."""
    torch.manual_seed(seed)
    network = Synthesizer(SOVITS)
    ups: Any = network.dec.ups
    with torch.no_grad():
        for layer in ups:
            inputs, outputs = layer.weight_v.shape[:2]
            layer.weight_g.fill_((outputs * layer.rate / inputs) ** 0.5)  # keeps the variance
        network.dec.conv_post.weight.mul_(0.5)
        network.dec.cond.weight.mul_(0.1)
        network.enc_p.text_embedding.weight.mul_(0.3)
    fix_flow(network.flow, seed)
    fix_reference(network, seed)
    return network


@torch.no_grad()
def fix_flow(flow: Flow, seed: int) -> None:
    """Random couplings that are not learned: weights of 0 and ±1 only, few of them other than 0, so they pack well.

    The latent is as good after an invertible map as before it; only the encoder has to learn it. Every path of a
    coupling takes part: convolutions, gates, skips, and ge in the gates.
    """
    random = np.random.default_rng([seed, 1])
    couplings: Any = flow.flows[::2]
    for coupling in couplings:
        _sparse(coupling.pre.weight, random, 2, 1.0)
        nn.init.zeros_(coupling.pre.bias)
        for layer in [*coupling.enc.in_layers, *coupling.enc.res_skip_layers]:
            _sparse(layer.weight_v, random, _FEW, 1.0)
            layer.weight_g.fill_(1.0)
        _sparse(coupling.enc.cond_layer.weight_v, random, _FEW, 1.0)
        coupling.enc.cond_layer.weight_g.fill_(1.0)
        _sparse(coupling.post.weight, random, 3, _FLOW_STRENGTH)
        nn.init.zeros_(coupling.post.bias)


@torch.no_grad()
def fix_reference(network: Synthesizer, seed: int) -> None:
    """The reference encoder is random and stays so; `ssl_proj` averages two frames. Both pack well."""
    random = np.random.default_rng([seed, 2])
    for name, weight in network.ref_enc.named_parameters():
        if weight.ndim > 1:
            _sparse(weight, random, 4 * _FEW, 0.25 if name.startswith("fc.") else 1.0)
        else:
            weight.zero_()
    width = network.ssl_proj.weight.shape[0]
    network.ssl_proj.weight.copy_(torch.eye(width)[:, :, None].expand_as(network.ssl_proj.weight) / 2)
    assert network.ssl_proj.bias is not None
    network.ssl_proj.bias.zero_()


def _sparse(weight: Tensor, random: np.random.Generator, count: int, norm: float) -> None:
    """`count` weights of ±norm/√count at each output (the first axis), the others 0."""
    flat = np.zeros((weight.shape[0], weight[0].numel()), np.float32)
    count = min(count, flat.shape[1])
    places = random.permuted(np.tile(np.arange(flat.shape[1]), (len(flat), 1)), axis=1)[:, :count]
    np.put_along_axis(flat, places, random.choice([-norm, norm], (len(flat), count)) / count**0.5, axis=1)
    weight.copy_(torch.from_numpy(flat).view_as(weight))
