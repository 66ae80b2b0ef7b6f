"""The networks of a synthetic voice: random weights under upstream's names."""

from __future__ import annotations

import numpy as np

from gsvexport.stages import BERT_WIDTH, FRAMES_PER_CODE, SPEAKER_WIDTH, SSL_WIDTH, TEXT_GE_WIDTH
from gsvexport.synthetic.drawn import AUDIO_RMS, BIAS, EDGE_KERNEL, RELU, Weights, generator
from gsvexport.synthetic.matching import mel_weights
from gsvexport.synthetic.sizes import CODES, EOS, VOCAB, Sizes

# Sizes that upstream's code fixes.
_HIDDEN, _MRTE, _WINDOW = 192, TEXT_GE_WIDTH, 4
_FLOWS, _FLOW_LAYERS, _FLOW_KERNEL = 4, 4, 5
_STYLE, _STYLE_KERNEL = 128, 5
_SPECTROGRAM_RMS = 3.0  # of speech at a usual level; the style encoder takes it as it is
_SPEAKER_RMS = 0.6
_LOGIT_SPREAD = 3.0


def t2s_weights(sizes: Sizes, seed: int) -> dict[str, np.ndarray]:
    """The GPT checkpoint's tensors, float16."""
    weights = Weights(seed)
    width = sizes.t2s_width
    residual = (2 * sizes.t2s_layers) ** -0.5  # all layers together move a row about as far as it is long
    weights.linear("model.bert_proj", width, BERT_WIDTH)
    weights.uniform("model.ar_text_embedding.word_embeddings.weight", (sizes.t2s_phones, width), 1)
    weights.uniform("model.ar_text_position.alpha", (1,), 0.1, mean=1)
    weights.uniform("model.ar_audio_embedding.word_embeddings.weight", (VOCAB, width), 1)
    weights.uniform("model.ar_audio_position.alpha", (1,), 0.1, mean=1)
    for layer in range(sizes.t2s_layers):
        name = f"model.h.layers.{layer}"
        weights.uniform(f"{name}.self_attn.in_proj_weight", (3 * width, width), width**-0.5)
        weights.uniform(f"{name}.self_attn.in_proj_bias", (3 * width,), BIAS)
        weights.linear(f"{name}.self_attn.out_proj", width, width, residual)
        weights.linear(f"{name}.linear1", 4 * width, width)
        weights.linear(f"{name}.linear2", width, 4 * width, residual * RELU)
        for norm in ("norm1", "norm2"):
            weights.norm(f"{name}.{norm}.weight", f"{name}.{norm}.bias", width)
    head = weights.uniform("model.ar_predict_layer.weight", (VOCAB, width), _LOGIT_SPREAD * width**-0.5)
    head[EOS] *= np.float16(sizes.eos_gain)
    return weights.tensors


def sovits_weights(sizes: Sizes, seed: int) -> dict[str, np.ndarray]:
    """The SoVITS checkpoint's tensors, float16, weight norm un-folded, without the posterior encoder."""
    weights = Weights(seed)
    _text_encoder(weights, sizes)
    if sizes.mel:
        mel_weights(weights, sizes)
    else:
        _vocoder(weights, sizes)
        _flow(weights, sizes)
    _reference_encoder(weights, sizes)
    weights.conv("ssl_proj", SSL_WIDTH, SSL_WIDTH, FRAMES_PER_CODE)
    _codebook(weights)
    if sizes.speaker:
        weights.linear("sv_emb", sizes.gin, SPEAKER_WIDTH, 1 / _SPEAKER_RMS)
        weights.linear("ge_to512", TEXT_GE_WIDTH, sizes.gin)
        weights.uniform("prelu.weight", (sizes.gin,), 0.1, mean=0.25)
    return weights.tensors


def _text_encoder(weights: Weights, sizes: Sizes) -> None:
    weights.conv("enc_p.ssl_proj", _HIDDEN, SSL_WIDTH, 1)
    _encoder(weights, sizes, "enc_p.encoder_ssl", sizes.layers // 2)
    _encoder(weights, sizes, "enc_p.encoder_text", sizes.layers)
    weights.uniform("enc_p.text_embedding.weight", (sizes.text_phones, _HIDDEN), 1)
    for projection in "qkvo":
        weights.conv(f"enc_p.mrte.cross_attention.conv_{projection}", _MRTE, _MRTE, 1)
    weights.conv("enc_p.mrte.c_pre", _MRTE, _HIDDEN, 1)
    weights.conv("enc_p.mrte.text_pre", _MRTE, _HIDDEN, 1)
    weights.conv("enc_p.mrte.c_post", _HIDDEN, _MRTE, 1, 3**-0.5)  # a sum of three
    _encoder(weights, sizes, "enc_p.encoder2", sizes.layers // 2)
    weights.conv("enc_p.proj", 2 * sizes.inter, _HIDDEN, 1)
    # The second half is the log deviation: small and mostly below zero, as a trained prior has it.
    weights.tensors["enc_p.proj.weight"][sizes.inter :] *= np.float16(0.3)
    weights.tensors["enc_p.proj.bias"][sizes.inter :] -= np.float16(1)


def _encoder(weights: Weights, sizes: Sizes, name: str, layers: int) -> None:
    head = _HIDDEN // sizes.heads
    for layer in range(layers):
        attention = f"{name}.attn_layers.{layer}"
        for table in ("emb_rel_k", "emb_rel_v"):
            weights.uniform(f"{attention}.{table}", (1, 2 * _WINDOW + 1, head), head**-0.5)
        for projection in "qkvo":
            weights.conv(f"{attention}.conv_{projection}", _HIDDEN, _HIDDEN, 1)
        weights.norm(f"{name}.norm_layers_1.{layer}.gamma", f"{name}.norm_layers_1.{layer}.beta", _HIDDEN)
        weights.conv(f"{name}.ffn_layers.{layer}.conv_1", sizes.filter, _HIDDEN, sizes.kernel)
        weights.conv(f"{name}.ffn_layers.{layer}.conv_2", _HIDDEN, sizes.filter, sizes.kernel, RELU)
        weights.norm(f"{name}.norm_layers_2.{layer}.gamma", f"{name}.norm_layers_2.{layer}.beta", _HIDDEN)


def _vocoder(weights: Weights, sizes: Sizes) -> None:
    width, stages = sizes.upsample_initial, sizes.upsample_rates
    generator(weights, sizes, "dec.", sizes.inter)
    weights.conv("dec.conv_post", 1, width >> len(stages), EDGE_KERNEL, AUDIO_RMS * RELU, bias=None)
    last = weights.tensors["dec.conv_post.weight"]
    last -= last.mean(axis=2, keepdims=True)  # no constant offset in the audio
    weights.conv("dec.cond", width, sizes.gin, 1, 0.5)


def _flow(weights: Weights, sizes: Sizes) -> None:
    half = sizes.inter // 2
    for index in range(_FLOWS):
        name = f"flow.flows.{2 * index}"  # the odd ones reverse channels and hold nothing
        weights.conv(f"{name}.pre", _HIDDEN, half, 1)
        weights.wavenet(f"{name}.enc", _HIDDEN, _FLOW_LAYERS, _FLOW_KERNEL, sizes.gin)
        weights.conv(f"{name}.post", half, _HIDDEN, 1, 0.5)


def _reference_encoder(weights: Weights, sizes: Sizes) -> None:
    weights.linear("ref_enc.spectral.0.fc", _STYLE, sizes.reference_bins, RELU / _SPECTROGRAM_RMS)
    weights.linear("ref_enc.spectral.3.fc", _STYLE, _STYLE, RELU)
    for layer in range(2):
        weights.conv(f"ref_enc.temporal.{layer}.conv1.conv", 2 * _STYLE, _STYLE, _STYLE_KERNEL)
    for projection in ("w_qs", "w_ks", "w_vs", "fc"):
        weights.linear(f"ref_enc.slf_attn.{projection}", _STYLE, _STYLE)
    weights.linear("ref_enc.fc.fc", sizes.gin, _STYLE)


def _codebook(weights: Weights) -> None:
    name = "quantizer.vq.layers.0._codebook"
    weights.store(f"{name}.inited", np.ones(1))
    count = weights.uniform(f"{name}.cluster_size", (CODES,), 10, mean=50)
    rows = weights.uniform(f"{name}.embed", (CODES, SSL_WIDTH), 1)
    # Rows of one length: else the shortest row is nearest to everything of a smaller scale.
    rows *= (SSL_WIDTH**0.5 / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)).astype(np.float16)
    weights.store(f"{name}.embed_avg", rows * count[:, None])
