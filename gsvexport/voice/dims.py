"""The sizes of a voice's two networks."""

from __future__ import annotations

from dataclasses import dataclass

from gsvexport.voice.matching import MatchingDims


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
    matching: MatchingDims | None = None
