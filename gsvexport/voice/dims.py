"""The sizes of a voice: read from its config, completed by its tensors, and both checked against each other."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from gsvexport.errors import VoiceError
from gsvexport.stages import (
    SPEAKER_WIDTH,
    SPECTROGRAM_BINS,
    SSL_WIDTH,
    SYMBOL_COUNTS,
    TEXT_GE_WIDTH,
    UNSUPPORTED_VERSIONS,
    VERSIONS,
)
from gsvexport.voice.checkpoint import Checkpoint
from gsvexport.voice.layout import T2S_PREFIX, expected_sovits, expected_t2s, problems
from gsvexport.voice.pickle import printable

__all__ = ["SovitsDims", "T2SDims", "expected_sovits", "expected_t2s", "sovits_dims", "t2s_dims"]

# What upstream fixes in code, so that no config carries it.
_MRTE_HEADS, _REFERENCE_HEADS = 4, 2
_DILATIONS = {"1": 3, "2": 2}  # convolutions in a resblock of either kind; further dilations in a config are ignored

_HEADER_VERSIONS = {"00": "v1", "01": "v2", "02": "v3", "03": "v3", "04": "v4", "05": "v2Pro", "06": "v2ProPlus"}
_LORA_HEADERS = ("03", "04")
_FLOW_MATCHING = ("cfm.", "bridge.", "wns1.", "linear_mel.")  # tensors that only v3 and v4 have
_SPEAKER = ("sv_emb.", "ge_to512.", "prelu.")  # tensors that only v2Pro and v2ProPlus have
_T2S_MARKS = (f"{T2S_PREFIX}h.layers.", f"{T2S_PREFIX}ar_")
_SOVITS_MARKS = ("enc_p.", "dec.", "flow.", "ref_enc.", "quantizer.", *_FLOW_MATCHING)
_GOOD_EPOCH = "use the weights that training exported (GPT_weights*/, SoVITS_weights*/), from an epoch that is whole"


@dataclass(frozen=True)
class T2SDims:
    """GPT: `phones` and `vocab` count embedding rows, `eos` is the last code, the feed-forward width is 4·`width`."""

    layers: int
    width: int
    heads: int
    vocab: int
    phones: int
    eos: int


@dataclass(frozen=True)
class SovitsDims:
    """SoVITS, in channels, kernel taps and rows; `rate` in Hz; `n_fft`, `hop` and `window_length` in samples.

    `window` is the reach of relative attention to each side, `symbols` names the phone table, `speaker_width` is None
    where a version takes no speaker embedding.
    """

    version: str
    symbols: str
    text_phones: int
    ssl: int
    codes: int
    hidden: int
    filter: int
    heads: int
    text_layers: int
    ssl_layers: int
    mix_layers: int
    kernel: int
    window: int
    mrte_width: int
    mrte_heads: int
    inter: int
    gin: int
    ge_text_width: int
    flows: int
    flow_layers: int
    flow_kernel: int
    flow_hidden: int
    upsample_rates: tuple[int, ...]
    upsample_kernels: tuple[int, ...]
    upsample_initial: int
    resblock: str
    resblock_kernels: tuple[int, ...]
    resblock_dilations: tuple[tuple[int, ...], ...]
    ref_bins: int
    ref_hidden: int
    ref_kernel: int
    ref_heads: int
    speaker_width: int | None
    rate: int
    n_fft: int
    hop: int
    window_length: int


def t2s_dims(checkpoint: Checkpoint) -> T2SDims:
    """The sizes of a GPT file, after checking every tensor against them.

    Raises:
        VoiceError: not a GPT file, or with every problem found: config, missing, extra or misshapen tensors, NaN, Inf.
    """
    tensors = checkpoint.tensors
    if not _any(tensors, _T2S_MARKS) and _any(tensors, _SOVITS_MARKS):
        raise _swapped(checkpoint, "gpt", "a SoVITS file")
    found = _Config(checkpoint.config)
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
    wrong += _count("model.n_layer", layers, "GPT layers", _indices(tensors, rf"{T2S_PREFIX}h\.layers\.(\d+)\."))
    _raise(checkpoint, [*wrong, *problems(tensors, expected_t2s(dims))])
    return dims


def sovits_dims(checkpoint: Checkpoint, version_hint: str | None = None) -> SovitsDims:
    """The sizes and version of a SoVITS file, after checking every tensor against them.

    The tensors decide the version. Only v2Pro and v2ProPlus can have the same ones: those are told apart by
    `version_hint`, else the file's header, else its config, and without any of these it is v2Pro.

    Raises:
        VoiceError: not a SoVITS file, v3 or v4, or with every problem found, as in `t2s_dims`.
    """
    tensors = checkpoint.tensors
    if _any(tensors, _T2S_MARKS) and not _any(tensors, _SOVITS_MARKS):
        raise _swapped(checkpoint, "sovits", "a GPT file")
    _refuse_unsupported(checkpoint, version_hint)
    found = _Config(checkpoint.config)
    inter, hidden = found.size("model.inter_channels"), found.size("model.hidden_channels")
    filters, heads = found.size("model.filter_channels"), found.size("model.n_heads")
    layers, kernel = found.size("model.n_layers", 128), found.size("model.kernel_size", 256)
    gin, initial = found.size("model.gin_channels"), found.size("model.upsample_initial_channel")
    rates, kernels = found.sizes("model.upsample_rates"), found.sizes("model.upsample_kernel_sizes")
    block_kernels = found.sizes("model.resblock_kernel_sizes")
    dilations = found.nested("model.resblock_dilation_sizes")
    resblock = "1" if found.value("model.resblock") == "1" else "2"  # upstream compares with the string
    rate, n_fft = found.size("data.sampling_rate", 1 << 20), found.size("data.filter_length")
    hop, window_length = found.size("data.hop_length"), found.size("data.win_length")
    for name, first, second in (("upsample", rates, kernels), ("resblock", block_kernels, dilations)):
        if len(first) != len(second):
            found.problems.append(f"config: the two model.{name}_* lists have {len(first)} and {len(second)} entries")
    if any(len(item) < _DILATIONS[resblock] for item in dilations):
        found.problems.append(f"config: a resblock of kind {resblock} takes {_DILATIONS[resblock]} dilations")
    _raise(checkpoint, found.problems)

    version, wrong = _version(checkpoint, version_hint)
    sizes = _Sizes(tensors)
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
        flows=_indices(tensors, r"flow\.flows\.(\d+)\.") or 4,
        flow_layers=_indices(tensors, r"flow\.flows\.0\.enc\.in_layers\.(\d+)\.") or 4,
        flow_kernel=sizes.of("flow.flows.0.enc.in_layers.0.weight_v", 2, 5),
        flow_hidden=sizes.of("flow.flows.0.pre.weight", 0, hidden),
        upsample_rates=rates,
        upsample_kernels=kernels,
        upsample_initial=initial,
        resblock=resblock,
        resblock_kernels=block_kernels,
        resblock_dilations=tuple(item[: _DILATIONS[resblock]] for item in dilations),
        ref_bins=VERSIONS[version].reference_bins,
        ref_hidden=sizes.of("ref_enc.spectral.0.fc.weight", 0, 128),
        ref_kernel=sizes.of("ref_enc.temporal.0.conv1.conv.weight", 2, 5),
        ref_heads=_REFERENCE_HEADS,
        speaker_width=SPEAKER_WIDTH if speaker else None,
        rate=rate,
        n_fft=n_fft,
        hop=hop,
        window_length=window_length,
    )
    wrong += _contradictions(dims)
    for name, key, count in (
        ("encoder_text", "model.n_layers", dims.text_layers),
        ("encoder_ssl", "model.n_layers // 2", dims.ssl_layers),
        ("encoder2", "model.n_layers // 2", dims.mix_layers),
    ):
        wrong += _count(key, count, f"{name} layers", _indices(tensors, rf"enc_p\.{name}\.attn_layers\.(\d+)\."))
    wrong += _count("upsample_rates", len(rates), "upsampling stages", _indices(tensors, r"dec\.ups\.(\d+)\."))
    _raise(checkpoint, [*wrong, *problems(tensors, expected_sovits(dims))])
    return dims


def _contradictions(dims: SovitsDims) -> list[str]:
    stages, hop, bins = len(dims.upsample_rates), prod(dims.upsample_rates), dims.n_fft // 2 + 1
    rates, kernels, blocks = list(dims.upsample_rates), list(dims.upsample_kernels), list(dims.resblock_kernels)
    found = {
        f"hidden_channels {dims.hidden} is no multiple of n_heads {dims.heads}": dims.hidden % dims.heads,
        f"inter_channels {dims.inter} is odd, so the flow cannot halve it": dims.inter % 2,
        f"the mrte width {dims.mrte_width} is no multiple of {dims.mrte_heads}": dims.mrte_width % dims.mrte_heads,
        f"{dims.ge_text_width} channels of conditioning (gin_channels, without a speaker network) do not fit the "
        f"mrte width {dims.mrte_width}": dims.ge_text_width != dims.mrte_width,
        f"the reference width {dims.ref_hidden} is no multiple of {dims.ref_heads}": dims.ref_hidden % dims.ref_heads,
        f"the flow's kernel {dims.flow_kernel} is even": dims.flow_kernel % 2 == 0,
        f"the reference encoder's kernel {dims.ref_kernel} is even": dims.ref_kernel % 2 == 0,
        f"resblock_kernel_sizes {blocks} has an even one": any(size % 2 == 0 for size in blocks),
        f"upsample_kernel_sizes {kernels} has one below its rate in {rates}": any(map(int.__lt__, kernels, rates)),
        f"upsample_initial_channel {dims.upsample_initial} cannot be halved {stages} times": (
            dims.upsample_initial >> stages == 0
        ),
        f"the product of upsample_rates is {hop}, but data.hop_length is {dims.hop}": hop != dims.hop,
        f"data.filter_length {dims.n_fft} gives {bins} bins; this release takes {SPECTROGRAM_BINS}": (
            bins != SPECTROGRAM_BINS
        ),
        f"data.win_length {dims.window_length} exceeds filter_length {dims.n_fft}": dims.window_length > dims.n_fft,
    }
    return [f"config: {text}" for text, wrong in found.items() if wrong]


def _version(checkpoint: Checkpoint, hint: str | None) -> tuple[str, list[str]]:
    """The version that the tensors say, and what is wrong with the hint."""
    phones = checkpoint.tensors.get("enc_p.text_embedding.weight")
    if _any(checkpoint.tensors, _SPEAKER):
        possible: tuple[str, ...] = ("v2Pro", "v2ProPlus")
    elif phones is not None and phones.shape[:1] == (SYMBOL_COUNTS["v1"],):
        possible = ("v1",)
    else:
        possible = ("v2",)
    told = (hint, _HEADER_VERSIONS.get(checkpoint.header), *_config_versions(checkpoint.config))
    version = next((name for name in told if name in possible), possible[0])
    if hint is not None and hint not in possible:
        return version, [f"voice.toml says version {hint}, but the tensors are those of {' or '.join(possible)}"]
    return version, []


def _config_versions(config: Mapping[str, Any]) -> tuple[str | None, ...]:
    model = config.get("model")
    found = (model.get("version") if isinstance(model, dict) else None, config.get("version"))
    return tuple(item if isinstance(item, str) else None for item in found)


def _refuse_unsupported(checkpoint: Checkpoint, hint: str | None) -> None:
    lora = checkpoint.lora_rank is not None or checkpoint.header in _LORA_HEADERS
    if not lora and hint not in UNSUPPORTED_VERSIONS and not _any(checkpoint.tensors, _FLOW_MATCHING):
        return
    told = (hint, _HEADER_VERSIONS.get(checkpoint.header), *_config_versions(checkpoint.config))
    version = next((name for name in told if name in UNSUPPORTED_VERSIONS), " or ".join(UNSUPPORTED_VERSIONS))
    raise VoiceError(
        f"{checkpoint.path} is a {version} {'LoRA' if lora else 'voice'}: "
        f"{' and '.join(UNSUPPORTED_VERSIONS)} voices are not supported yet by this release",
        limit=", ".join(VERSIONS),
        fix="train a v1, v2, v2Pro or v2ProPlus voice, or wait for a release that takes it",
    )


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


def _indices(names: Mapping[str, Any], pattern: str) -> int:
    """How many different numbers stand at the group of `pattern` in the names."""
    return len({match[1] for name in names if (match := re.match(pattern, name))})


def _count(key: str, told: int, what: str, found: int) -> list[str]:
    return [] if told == found else [f"config: {key} is {told}, but the file holds {found} {what}"]


class _Sizes:
    """Sizes that no config carries; the usual one where a tensor is absent, so that the absence gets reported."""

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        self._tensors = tensors

    def of(self, name: str, axis: int, usual: int) -> int:
        shape = self._tensors[name].shape if name in self._tensors else ()
        return int(shape[axis]) if axis < len(shape) else usual


class _Config:
    """Typed, bounded access to a config by dotted key; what is missing or impossible goes to `problems`."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self.problems: list[str] = []

    def value(self, key: str) -> Any:
        value: Any = self._config
        for part in key.split("."):
            if not isinstance(value, dict) or part not in value:
                self.problems.append(f"config: {key} is missing")
                return None
            value = value[part]
        return value

    def size(self, key: str, high: int = 1 << 16) -> int:
        return self._checked(key, self.value(key), high)

    def sizes(self, key: str) -> tuple[int, ...]:
        return self._list(key, self.value(key))

    def nested(self, key: str) -> tuple[tuple[int, ...], ...]:
        value = self.value(key)
        if isinstance(value, list) and 0 < len(value) <= 16:
            return tuple(self._list(key, item) for item in value)
        self._wrong(key, value, "a list of lists of whole numbers")
        return ()

    def _list(self, key: str, value: Any) -> tuple[int, ...]:
        if isinstance(value, list) and 0 < len(value) <= 16:
            return tuple(self._checked(key, item, 4096) for item in value)
        self._wrong(key, value, "a list of 1 to 16 whole numbers")
        return ()

    def _checked(self, key: str, value: Any, high: int) -> int:
        if type(value) is int and 1 <= value <= high:
            return value
        self._wrong(key, value, f"a whole number from 1 to {high}")
        return 1

    def _wrong(self, key: str, value: Any, wanted: str) -> None:
        if value is not None:
            self.problems.append(f"config: {key} is {printable(repr(value), 60)}, not {wanted}")
