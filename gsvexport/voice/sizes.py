"""The sizes of a voice: read from its config, completed by its tensors, and both checked against each other."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import prod
from typing import Any

from gsvexport.errors import VoiceError
from gsvexport.stages import (
    FEATURE_WIDTH,
    SPEAKER_WIDTH,
    SPECTROGRAM_BINS,
    SSL_WIDTH,
    SYMBOL_COUNTS,
    TEXT_GE_WIDTH,
    VERSIONS,
)
from gsvexport.voice.checkpoint import Checkpoint
from gsvexport.voice.config import Config, Sizes, indices, miscount
from gsvexport.voice.dims import SovitsDims, T2SDims
from gsvexport.voice.layout import T2S_PREFIX, expected_sovits, expected_t2s, problems
from gsvexport.voice.matching import contradictions, matching_dims
from gsvexport.voice.version import Told
from gsvexport.voice.vocoder import HIFIGAN, VocoderDims

# What upstream fixes in code, so that no config carries it.
_MRTE_HEADS, _REFERENCE_HEADS = 4, 2
_DILATIONS = {"1": 3, "2": 2}  # convolutions in a resblock of either kind; further dilations in a config are ignored

_NO_VOCODER = VocoderDims(HIFIGAN, (), (), 0, "1", (), ())
_T2S_MARKS = (f"{T2S_PREFIX}h.layers.", f"{T2S_PREFIX}ar_")
_SOVITS_MARKS = ("enc_p.", "dec.", "flow.", "ref_enc.", "quantizer.", "cfm.", "bridge.", "wns1.", "linear_mel.")
_GOOD_EPOCH = "use the weights that training exported (GPT_weights*/, SoVITS_weights*/), from an epoch that is whole"


def t2s_dims(checkpoint: Checkpoint) -> T2SDims:
    """The sizes of a GPT file, after checking every tensor against them.

    Raises:
        VoiceError: not a GPT file, or with every problem found: config, missing, extra or misshapen tensors, NaN, Inf.
    """
    tensors = checkpoint.tensors
    if not _any(tensors, _T2S_MARKS) and _any(tensors, _SOVITS_MARKS):
        raise _swapped(checkpoint, "gpt", "a SoVITS file")
    found = Config(checkpoint.config)
    width, embedding = found.size("model.hidden_dim"), found.size("model.embedding_dim")
    heads, layers = found.size("model.head"), found.size("model.n_layer", 256)
    vocab, eos = found.size("model.vocab_size"), found.size("model.EOS")
    phones = found.size("model.phoneme_vocab_size")
    _raise(checkpoint, found.problems)
    dims = T2SDims(layers, width, heads, vocab, phones, eos)
    wrong = [
        f"config: {text}"
        for bad, text in (
            (width != embedding, f"embedding_dim {embedding} differs from hidden_dim {width}"),
            (width % heads, f"hidden_dim {width} is no multiple of head {heads}"),
            (width % 2, f"hidden_dim {width} is odd; positions come as sine and cosine pairs"),
            (eos != vocab - 1, f"EOS is {eos}, but has to be the last of vocab_size {vocab}"),
        )
        if bad
    ]
    wrong += miscount("model.n_layer", layers, "GPT layers", indices(tensors, rf"{T2S_PREFIX}h\.layers\.(\d+)\."))
    _raise(checkpoint, [*wrong, *problems(tensors, expected_t2s(dims))])
    return dims


def sovits_dims(checkpoint: Checkpoint, told: Told, vocoder: VocoderDims | None = None) -> SovitsDims:
    """The sizes of a whole SoVITS file of the version that `find_version` tells, after checking every tensor.

    `vocoder` are the sizes of the one that a v3 or v4 voice speaks with.

    Raises:
        VoiceError: not a SoVITS file, or with every problem found, as in `t2s_dims`.
    """
    tensors = checkpoint.tensors
    if _any(tensors, _T2S_MARKS) and not _any(tensors, _SOVITS_MARKS):
        raise _swapped(checkpoint, "sovits", "a GPT file")
    version, wrong = told.version, list(told.problems)
    mel = VERSIONS[version].mel is not None
    found = Config(checkpoint.config)
    inter, hidden = found.size("model.inter_channels"), found.size("model.hidden_channels")
    filters, heads = found.size("model.filter_channels"), found.size("model.n_heads")
    layers, kernel = found.size("model.n_layers", 128), found.size("model.kernel_size", 256)
    gin = found.size("model.gin_channels")
    rate, n_fft = found.size("data.sampling_rate", 1 << 20), found.size("data.filter_length")
    hop, window_length = found.size("data.hop_length"), found.size("data.win_length")
    generator = (vocoder or _NO_VOCODER) if mel else _generator(found)
    _raise(checkpoint, found.problems)

    flow = "wns1" if mel else "flow.flows.0"
    sizes = Sizes(tensors)
    speaker = VERSIONS[version].speaker
    dims = SovitsDims(
        version=version,
        symbols=VERSIONS[version].symbols,
        text_phones=SYMBOL_COUNTS[VERSIONS[version].symbols],
        ssl=SSL_WIDTH,
        codes=sizes.of("quantizer.vq.layers.0._codebook.embed", 0, 1024),
        hidden=hidden,
        filter=filters,
        heads=heads,
        text_layers=layers,
        ssl_layers=layers // 2,
        mix_layers=layers // 2,
        kernel=kernel,
        window=sizes.of("enc_p.encoder_text.attn_layers.0.emb_rel_k", 1, 9) // 2,
        mrte_width=sizes.of("enc_p.mrte.c_pre.weight", 0, TEXT_GE_WIDTH),
        mrte_heads=_MRTE_HEADS,
        inter=inter,
        gin=gin,
        ge_text_width=TEXT_GE_WIDTH if speaker else gin,
        flows=0 if mel else indices(tensors, r"flow\.flows\.(\d+)\.") or 4,
        flow_layers=indices(tensors, rf"{re.escape(flow)}\.enc\.in_layers\.(\d+)\.") or (8 if mel else 4),
        flow_kernel=sizes.of(f"{flow}.enc.in_layers.0.weight_v", 2, 5),
        flow_hidden=sizes.of(f"{flow}.pre.weight", 0, FEATURE_WIDTH if mel else hidden),
        upsample_rates=generator.rates,
        upsample_kernels=generator.kernels,
        upsample_initial=generator.initial,
        resblock=generator.resblock,
        resblock_kernels=generator.block_kernels,
        resblock_dilations=generator.dilations,
        ref_bins=VERSIONS[version].reference_bins,
        ref_hidden=sizes.of("ref_enc.spectral.0.fc.weight", 0, 128),
        ref_kernel=sizes.of("ref_enc.temporal.0.conv1.conv.weight", 2, 5),
        ref_heads=_REFERENCE_HEADS,
        speaker_width=SPEAKER_WIDTH if speaker else None,
        rate=rate,
        n_fft=n_fft,
        hop=hop,
        window_length=window_length,
        matching=matching_dims(tensors, generator) if mel else None,
    )
    wrong += _contradictions(dims)
    for name, key, count in (
        ("encoder_text", "model.n_layers", dims.text_layers),
        ("encoder_ssl", "model.n_layers // 2", dims.ssl_layers),
        ("encoder2", "model.n_layers // 2", dims.mix_layers),
    ):
        wrong += miscount(key, count, f"{name} layers", indices(tensors, rf"enc_p\.{name}\.attn_layers\.(\d+)\."))
    if not mel:
        ups = indices(tensors, r"dec\.ups\.(\d+)\.")
        wrong += miscount("upsample_rates", len(generator.rates), "upsampling stages", ups)
    _raise(checkpoint, [*wrong, *problems(tensors, expected_sovits(dims))])
    return dims


def _generator(found: Config) -> VocoderDims:
    """The vocoder that v1 to v2ProPlus are trained with."""
    rates, kernels = found.sizes("model.upsample_rates"), found.sizes("model.upsample_kernel_sizes")
    block_kernels = found.sizes("model.resblock_kernel_sizes")
    dilations = found.nested("model.resblock_dilation_sizes")
    initial = found.size("model.upsample_initial_channel")
    resblock = "1" if found.value("model.resblock") == "1" else "2"  # upstream compares with the string
    for name, first, second in (("upsample", rates, kernels), ("resblock", block_kernels, dilations)):
        if len(first) != len(second):
            found.problems.append(f"config: the two model.{name}_* lists have {len(first)} and {len(second)} entries")
    if any(len(item) < _DILATIONS[resblock] for item in dilations):
        found.problems.append(f"config: a resblock of kind {resblock} takes {_DILATIONS[resblock]} dilations")
    cut = tuple(item[: _DILATIONS[resblock]] for item in dilations)
    return VocoderDims(HIFIGAN, rates, kernels, initial, resblock, block_kernels, cut)


def _contradictions(dims: SovitsDims) -> list[str]:
    stages, hop, bins = len(dims.upsample_rates), prod(dims.upsample_rates), dims.n_fft // 2 + 1
    rates, kernels, blocks = list(dims.upsample_rates), list(dims.upsample_kernels), list(dims.resblock_kernels)
    found = {
        f"hidden_channels {dims.hidden} is no multiple of n_heads {dims.heads}": dims.hidden % dims.heads,
        f"inter_channels {dims.inter} is odd, so the flow cannot halve it": dims.flows and dims.inter % 2,
        f"inter_channels {dims.inter} differ from hidden_channels {dims.hidden}, which the bridge takes": (
            dims.matching is not None and dims.inter != dims.hidden
        ),
        f"the mrte width {dims.mrte_width} is no multiple of {dims.mrte_heads}": dims.mrte_width % dims.mrte_heads,
        f"{dims.ge_text_width} channels of conditioning (gin_channels, without a speaker network) do not fit the "
        f"mrte width {dims.mrte_width}": dims.ge_text_width != dims.mrte_width,
        f"the reference width {dims.ref_hidden} is no multiple of {dims.ref_heads}": dims.ref_hidden % dims.ref_heads,
        f"the flow's kernel {dims.flow_kernel} is even": dims.flow_kernel % 2 == 0,
        f"the reference encoder's kernel {dims.ref_kernel} is even": dims.ref_kernel % 2 == 0,
        f"resblock_kernel_sizes {blocks} has an even one": any(size % 2 == 0 for size in blocks),
        f"upsample_kernel_sizes {kernels} has one below its rate in {rates}": any(map(int.__lt__, kernels, rates)),
        f"upsample_initial_channel {dims.upsample_initial} cannot be halved {stages} times": (
            stages > 0 and dims.upsample_initial >> stages == 0
        ),
        f"the product of upsample_rates is {hop}, but data.hop_length is {dims.hop}": (
            dims.matching is None and hop != dims.hop
        ),
        f"data.filter_length {dims.n_fft} gives {bins} bins; this release takes {SPECTROGRAM_BINS}": (
            bins != SPECTROGRAM_BINS
        ),
        f"data.win_length {dims.window_length} exceeds filter_length {dims.n_fft}": dims.window_length > dims.n_fft,
    }
    more = contradictions(dims.matching) if dims.matching else []
    return [*(f"config: {text}" for text, wrong in found.items() if wrong), *more]


def _swapped(checkpoint: Checkpoint, key: str, what: str) -> VoiceError:
    return VoiceError(
        f"{checkpoint.path} is given as {key}, but it is {what}: gpt and sovits are swapped",
        fix="in voice.toml, gpt names the .ckpt of GPT_weights*/ and sovits the .pth of SoVITS_weights*/",
    )


def _raise(checkpoint: Checkpoint, found: list[str]) -> None:
    if found:
        plural = "s" if len(found) > 1 else ""
        raise VoiceError(
            f"{checkpoint.path} cannot be used: {len(found)} problem{plural}", problems=found, fix=_GOOD_EPOCH
        )


def _any(names: Mapping[str, Any], prefixes: tuple[str, ...]) -> bool:
    return any(name.startswith(prefixes) for name in names)
