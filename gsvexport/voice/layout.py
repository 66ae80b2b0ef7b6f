"""Which tensors a voice consists of, and in which shapes: upstream's state-dict names as a function of the sizes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from gsvexport.stages import BERT_WIDTH, FEATURE_WIDTH, FRAMES_PER_CODE, MEL_BANDS
from gsvexport.voice.dims import SovitsDims, T2SDims
from gsvexport.voice.matching import ESTIMATOR, HEAD_WIDTH, TIME_WIDTH

Shape = tuple[int, ...]
Shapes = dict[str, Shape]

T2S_PREFIX = "model."  # the attribute under which upstream's trainer holds the network
_CODEBOOK = "quantizer.vq.layers.0._codebook"
TRAINING_ONLY = ("enc_q.",)  # the posterior encoder, kept in some pretrained files and never used to speak
_STATISTICS = tuple(f"{_CODEBOOK}.{name}" for name in ("inited", "cluster_size", "embed_avg"))  # of training as well
_EDGE_KERNEL = 7  # of the vocoder's first and last convolution; upstream has no setting for it
_CHUNK = 1 << 22


def expected_t2s(dims: T2SDims) -> Shapes:
    """Every tensor of a GPT file by name. The feed-forward width is 4·width: upstream ignores `linear_units`."""
    width = dims.width
    shapes: Shapes = {
        **_affine("bert_proj", (width, BERT_WIDTH)),
        "ar_text_embedding.word_embeddings.weight": (dims.phones, width),
        "ar_text_position.alpha": (1,),
        "ar_audio_embedding.word_embeddings.weight": (dims.vocab, width),
        "ar_audio_position.alpha": (1,),
        "ar_predict_layer.weight": (dims.vocab, width),
    }
    for index in range(dims.layers):
        layer = f"h.layers.{index}"
        shapes[f"{layer}.self_attn.in_proj_weight"] = (3 * width, width)
        shapes[f"{layer}.self_attn.in_proj_bias"] = (3 * width,)
        shapes |= _affine(f"{layer}.self_attn.out_proj", (width, width))
        shapes |= _affine(f"{layer}.linear1", (4 * width, width)) | _affine(f"{layer}.linear2", (width, 4 * width))
        shapes |= _affine(f"{layer}.norm1", (width,)) | _affine(f"{layer}.norm2", (width,))
    return {T2S_PREFIX + name: shape for name, shape in shapes.items()}


def expected_sovits(dims: SovitsDims) -> Shapes:
    """Every tensor of a whole SoVITS file by name, weight norm not folded. v3 and v4 keep their vocoder elsewhere."""
    shapes = {
        **_text_encoder(dims),
        **(_matching(dims) if dims.matching else {**_vocoder(dims), **_flow(dims)}),
        **_reference_encoder(dims),
        **_affine("ssl_proj", (dims.ssl, dims.ssl, FRAMES_PER_CODE)),
        f"{_CODEBOOK}.inited": (1,),
        f"{_CODEBOOK}.cluster_size": (dims.codes,),
        f"{_CODEBOOK}.embed": (dims.codes, dims.ssl),
        f"{_CODEBOOK}.embed_avg": (dims.codes, dims.ssl),
    }
    if dims.speaker_width is not None:
        shapes |= _affine("sv_emb", (dims.gin, dims.speaker_width))
        shapes |= _affine("ge_to512", (dims.ge_text_width, dims.gin))
        shapes["prelu.weight"] = (dims.gin,)
    return shapes


def problems(tensors: Mapping[str, npt.NDArray[Any]], expected: Mapping[str, Shape]) -> Iterator[str]:
    """Every difference between a file and its table: missing, extra, wrong shape or type, NaN or infinite values."""
    for name, shape in expected.items():
        if name not in tensors:
            yield f"missing tensor: {name} {list(shape)}"
    for name, array in tensors.items():
        if name not in expected:
            if not name.startswith(TRAINING_ONLY):
                yield f"extra tensor: {name} {list(array.shape)}"
        elif array.shape != expected[name]:
            yield f"wrong shape: {name} is {list(array.shape)}, expected {list(expected[name])}"
        elif name in _STATISTICS:
            continue
        elif array.dtype.kind != "f":
            yield f"wrong type: {name} is {array.dtype}, expected floating point"
        elif bad := _not_finite(array):
            yield f"NaN or Inf: {name} has {bad} of {array.size} values that are not finite"


def _not_finite(array: npt.NDArray[Any]) -> int:
    """How many values are NaN or infinite, counted in pieces so that a mapped file stays on disk."""
    flat = array.reshape(-1)
    return sum(
        flat[start : start + _CHUNK].size - int(np.count_nonzero(np.isfinite(flat[start : start + _CHUNK])))
        for start in range(0, flat.size, _CHUNK)
    )


def _affine(name: str, shape: Shape) -> Shapes:
    """A linear layer, convolution or norm: weight and a bias for each output."""
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def _normed(name: str, shape: Shape, bias: int) -> Shapes:
    """A convolution under weight norm: direction, one length for each slice of the first axis, and bias."""
    return {f"{name}.weight_v": shape, f"{name}.weight_g": (shape[0], *(1 for _ in shape[1:])), f"{name}.bias": (bias,)}


def _text_encoder(dims: SovitsDims) -> Shapes:
    hidden, mrte = dims.hidden, dims.mrte_width
    shapes = {
        **_affine("enc_p.ssl_proj", (hidden, dims.ssl, 1)),
        **_encoder("enc_p.encoder_ssl", dims, dims.ssl_layers),
        **_encoder("enc_p.encoder_text", dims, dims.text_layers),
        **_encoder("enc_p.encoder2", dims, dims.mix_layers),
        "enc_p.text_embedding.weight": (dims.text_phones, hidden),
        **_affine("enc_p.mrte.c_pre", (mrte, hidden, 1)),
        **_affine("enc_p.mrte.text_pre", (mrte, hidden, 1)),
        **_affine("enc_p.mrte.c_post", (hidden, mrte, 1)),
        **_affine("enc_p.proj", (2 * dims.inter, hidden, 1)),
    }
    for part in "qkvo":
        shapes |= _affine(f"enc_p.mrte.cross_attention.conv_{part}", (mrte, mrte, 1))
    return shapes


def _encoder(name: str, dims: SovitsDims, layers: int) -> Shapes:
    """Attention with relative positions (one table for all heads), then a convolutional feed-forward part."""
    hidden, shapes = dims.hidden, Shapes()
    for index in range(layers):
        attention, feed = f"{name}.attn_layers.{index}", f"{name}.ffn_layers.{index}"
        for part in "kv":
            shapes[f"{attention}.emb_rel_{part}"] = (1, 2 * dims.window + 1, hidden // dims.heads)
        for part in "qkvo":
            shapes |= _affine(f"{attention}.conv_{part}", (hidden, hidden, 1))
        shapes |= _affine(f"{feed}.conv_1", (dims.filter, hidden, dims.kernel))
        shapes |= _affine(f"{feed}.conv_2", (hidden, dims.filter, dims.kernel))
        for norm in ("norm_layers_1", "norm_layers_2"):
            shapes |= {f"{name}.{norm}.{index}.gamma": (hidden,), f"{name}.{norm}.{index}.beta": (hidden,)}
    return shapes


def _vocoder(dims: SovitsDims) -> Shapes:
    first, kernels = dims.upsample_initial, dims.resblock_kernels
    shapes = {
        **_affine("dec.conv_pre", (first, dims.inter, _EDGE_KERNEL)),
        **_affine("dec.cond", (first, dims.gin, 1)),
    }
    width = first
    for stage, kernel in enumerate(dims.upsample_kernels):
        width, wide = width // 2, width
        shapes |= _normed(f"dec.ups.{stage}", (wide, width, kernel), width)
        for index, (size, dilations) in enumerate(zip(kernels, dims.resblock_dilations, strict=True)):
            block = f"dec.resblocks.{stage * len(kernels) + index}"
            for part in ("convs1", "convs2") if dims.resblock == "1" else ("convs",):
                for place in range(len(dilations)):
                    shapes |= _normed(f"{block}.{part}.{place}", (width, width, size), width)
    shapes["dec.conv_post.weight"] = (1, width, _EDGE_KERNEL)
    return shapes


def _flow(dims: SovitsDims) -> Shapes:
    """Couplings at even places; the flips between them have no weights."""
    hidden, half, shapes = dims.flow_hidden, dims.inter // 2, Shapes()
    for place in range(0, 2 * dims.flows, 2):
        name = f"flow.flows.{place}"
        shapes |= _affine(f"{name}.pre", (hidden, half, 1)) | _affine(f"{name}.post", (half, hidden, 1))
        shapes |= _wavenet(f"{name}.enc", dims)
    return shapes


def _wavenet(name: str, dims: SovitsDims) -> Shapes:
    hidden, wide = dims.flow_hidden, 2 * dims.flow_hidden * dims.flow_layers
    shapes = _normed(f"{name}.cond_layer", (wide, dims.gin, 1), wide)
    for layer in range(dims.flow_layers):
        out = hidden if layer == dims.flow_layers - 1 else 2 * hidden  # the last layer has no residual half
        shapes |= _normed(f"{name}.in_layers.{layer}", (2 * hidden, hidden, dims.flow_kernel), 2 * hidden)
        shapes |= _normed(f"{name}.res_skip_layers.{layer}", (out, hidden, 1), out)
    return shapes


def _matching(dims: SovitsDims) -> Shapes:
    """v3's and v4's way from the text encoder to a mel: a WaveNet, then the estimator of flow matching."""
    hidden, size = dims.flow_hidden, dims.matching
    assert size is not None
    shapes = {
        **_affine("bridge.0", (FEATURE_WIDTH, dims.hidden, 1)),
        **_affine("wns1.pre", (hidden, FEATURE_WIDTH, 1)),
        **_wavenet("wns1.enc", dims),
        **_affine("wns1.proj", (FEATURE_WIDTH, hidden, 1)),
        **_affine("linear_mel", (MEL_BANDS, FEATURE_WIDTH, 1)),
    }
    width, estimator = size.width, Shapes()
    for name in ("time_embed", "d_embed"):
        estimator |= _affine(f"{name}.time_mlp.0", (width, TIME_WIDTH)) | _affine(f"{name}.time_mlp.2", (width, width))
    for layer in range(size.text_layers):
        block = f"text_embed.text_blocks.{layer}"
        estimator |= _affine(f"{block}.dwconv", (FEATURE_WIDTH, 1, size.text_kernel))
        estimator |= _affine(f"{block}.norm", (FEATURE_WIDTH,))
        estimator |= _affine(f"{block}.pwconv1", (size.text_inner, FEATURE_WIDTH))
        estimator |= {f"{block}.grn.{part}": (1, 1, size.text_inner) for part in ("gamma", "beta")}
        estimator |= _affine(f"{block}.pwconv2", (FEATURE_WIDTH, size.text_inner))
    estimator |= _affine("input_embed.proj", (width, 2 * MEL_BANDS + FEATURE_WIDTH))
    for place in (0, 2):
        kernel = (width, width // size.position_groups, size.position_kernel)
        estimator |= _affine(f"input_embed.conv_pos_embed.conv1d.{place}", kernel)
    estimator["rotary_embed.inv_freq"] = (size.rotary,)
    for layer in range(size.layers):
        block, inner = f"transformer_blocks.{layer}", size.heads * HEAD_WIDTH
        estimator |= _affine(f"{block}.attn_norm.linear", (6 * width, width))
        for part in "qkv":
            estimator |= _affine(f"{block}.attn.to_{part}", (inner, width))
        estimator |= _affine(f"{block}.attn.to_out.0", (width, inner))
        estimator |= _affine(f"{block}.ff.ff.0.0", (size.inner, width))
        estimator |= _affine(f"{block}.ff.ff.2", (width, size.inner))
    estimator |= _affine("norm_out.linear", (2 * width, width)) | _affine("proj_out", (MEL_BANDS, width))
    return shapes | {f"{ESTIMATOR}.{name}": shape for name, shape in estimator.items()}


def _reference_encoder(dims: SovitsDims) -> Shapes:
    hidden = dims.ref_hidden
    shapes = {
        **_affine("ref_enc.spectral.0.fc", (hidden, dims.ref_bins)),
        **_affine("ref_enc.spectral.3.fc", (hidden, hidden)),
        **_affine("ref_enc.fc.fc", (dims.gin, hidden)),
    }
    for index in range(2):
        shapes |= _affine(f"ref_enc.temporal.{index}.conv1.conv", (2 * hidden, hidden, dims.ref_kernel))
    for part in ("w_qs", "w_ks", "w_vs", "fc"):
        shapes |= _affine(f"ref_enc.slf_attn.{part}", (hidden, hidden))
    return shapes
