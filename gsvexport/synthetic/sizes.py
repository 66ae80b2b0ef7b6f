"""What a checkpoint's config carries, and upstream's defaults for it."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, fields, replace
from typing import Any

from gsvexport.errors import InputError
from gsvexport.stages import SYMBOL_COUNTS, VERSIONS

VOCAB, EOS, CODES = 1025, 1024, 1024
RATE, HOP = 32000, 640
_GPT_PHONES_V1 = 512  # v1's text embedding has more rows than v1 has symbols


@dataclass(frozen=True)
class Sizes:
    """One voice's hyperparameters; the field names are the overrides that `write_voice` takes.

    `layers`, `heads`, `filter` and `kernel` belong to the SoVITS text encoder, `t2s_…` to the GPT. `eos_gain` scales
    the score of a sentence's end against those of the codes: 0 never ends. `wns_…` and `cfm_…` are v3's and v4's alone;
    `upsample_…` and `resblock…` are those of their vocoder, which is a file of its own. With a `lora_rank` the voice is
    a LoRA beside its base.
    """

    version: str
    t2s_layers: int = 24
    t2s_width: int = 512
    t2s_heads: int = 16
    eos_gain: float = 2.0
    inter: int = 192
    filter: int = 768
    heads: int = 2
    layers: int = 6
    kernel: int = 3
    resblock: str = "1"
    resblock_kernels: tuple[int, ...] = (3, 7, 11)
    resblock_dilations: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    upsample_rates: tuple[int, ...] = (10, 8, 2, 2, 2)
    upsample_kernels: tuple[int, ...] = (16, 16, 8, 2, 2)
    upsample_initial: int = 512
    gin: int = 512
    wns_layers: int = 8
    cfm_width: int = 1024
    cfm_layers: int = 22
    cfm_heads: int = 16
    cfm_text_layers: int = 4
    lora_rank: int = 0

    @property
    def speaker(self) -> bool:
        """Whether this version takes a speaker embedding."""
        return VERSIONS[self.version].speaker

    @property
    def mel(self) -> bool:
        """Whether this version generates a mel."""
        return VERSIONS[self.version].mel is not None

    @property
    def reference_bins(self) -> int:
        """Spectrogram bins that the reference encoder reads."""
        return VERSIONS[self.version].reference_bins

    @property
    def text_phones(self) -> int:
        """Rows of the SoVITS text embedding."""
        return SYMBOL_COUNTS[VERSIONS[self.version].symbols]

    @property
    def t2s_phones(self) -> int:
        """Rows of the GPT's text embedding."""
        return _GPT_PHONES_V1 if self.version == "v1" else self.text_phones


_TINY: dict[str, Any] = {
    "t2s_layers": 2,
    "t2s_width": 64,
    "t2s_heads": 4,
    "inter": 32,
    "filter": 64,
    "layers": 2,
    "resblock_kernels": (3, 5),
    "resblock_dilations": ((1, 3, 5), (1, 3, 5)),
    "upsample_rates": (10, 8, 4, 2),
    "upsample_kernels": (16, 16, 8, 4),
    "upsample_initial": 64,
}
# Of v3 and v4: what the vocoder has, and the bridge's width, which is the text encoder's.
_VOCODERS: dict[str, dict[str, Any]] = {
    "v3": {
        "upsample_initial": 1536,
        "upsample_rates": (4, 4, 2, 2, 2, 2),
        "upsample_kernels": (8, 8, 4, 4, 4, 4),
    },
    "v4": {"upsample_rates": (10, 6, 2, 2, 2), "upsample_kernels": (20, 12, 4, 4, 4)},
}
_TINY_MEL = {
    "inter": 192,
    "wns_layers": 2,
    "cfm_width": 128,
    "cfm_layers": 2,
    "cfm_heads": 2,
    "cfm_text_layers": 1,
    "upsample_initial": 64,
}
_TINY_VOCODERS: dict[str, dict[str, Any]] = {
    "v3": {**_TINY_MEL, "upsample_rates": (4, 4, 4, 4), "upsample_kernels": (8, 8, 8, 8)},
    "v4": {
        **_TINY_MEL,
        "resblock_kernels": (3, 5),
        "upsample_rates": (10, 6, 4, 2),
        "upsample_kernels": (20, 12, 8, 4),
    },
}


def voice_sizes(version: str, size: str, **overrides: Any) -> Sizes:
    """Upstream's defaults for `version` ("full"), or the smallest useful voice ("tiny"), with `overrides` on top.

    Raises:
        InputError: an unknown version, size or override, or a value that upstream's networks cannot take.
    """
    known = [field.name for field in fields(Sizes) if field.name != "version"]
    problems = [f"unknown override '{name}'{_nearest(name, known)}" for name in overrides if name not in known]
    if version not in VERSIONS:
        problems.append(f"unknown version '{version}'; one of {', '.join(VERSIONS)}")
    if size not in ("tiny", "full"):
        problems.append(f"unknown size '{size}'; tiny or full")
    if problems:
        raise InputError("a synthetic voice cannot be made", problems=problems)
    values: dict[str, Any] = {}
    if version == "v2ProPlus":
        values |= {"upsample_initial": 768, "upsample_kernels": (20, 16, 8, 2, 2)}
    if VERSIONS[version].speaker:
        values["gin"] = 1024
    values |= _VOCODERS.get(version, {})
    if size == "tiny":
        values |= _TINY | _TINY_VOCODERS.get(version, {})
        if VERSIONS[version].speaker:
            values["gin"] = 64
        if version == "v2ProPlus":
            values |= {"upsample_initial": 96, "upsample_kernels": (20, 16, 8, 4)}
    sizes = replace(Sizes(version), **(values | overrides))
    if problems := _impossible(sizes):
        raise InputError("a synthetic voice cannot be made", problems=problems)
    return sizes


def _impossible(sizes: Sizes) -> list[str]:
    product = 1
    for rate in sizes.upsample_rates:
        product *= rate
    convolutions = {"1": 3, "2": 2}.get(sizes.resblock)
    hop = {"v3": 256, "v4": 480}.get(sizes.version, HOP)
    rules = {
        f"t2s_width {sizes.t2s_width} is not an even multiple of t2s_heads {sizes.t2s_heads}": (
            sizes.t2s_width % sizes.t2s_heads == 0 and sizes.t2s_width % 2 == 0
        ),
        f"heads {sizes.heads} do not divide 192": 192 % sizes.heads == 0,
        f"inter {sizes.inter} is odd": sizes.inter % 2 == 0,
        f"gin {sizes.gin} is not 512, which {sizes.version} adds to its text": sizes.speaker or sizes.gin == 512,
        f"inter {sizes.inter} is not 192, which the bridge of {sizes.version} takes": (
            not sizes.mel or sizes.inter == 192
        ),
        f"cfm_width {sizes.cfm_width} is no multiple of 16": sizes.cfm_width % 16 == 0,
        f"lora_rank {sizes.lora_rank} is none, or not for {sizes.version}": (
            sizes.lora_rank == 0 or (sizes.lora_rank > 0 and sizes.mel)
        ),
        f"{sizes.version}'s vocoder has resblocks of kind '1'": sizes.version != "v4" or sizes.resblock == "1",
        f"resblock '{sizes.resblock}' is neither '1' nor '2'": convolutions is not None,
        f"resblock '{sizes.resblock}' takes {convolutions} dilations, one list for each kernel": convolutions is None
        or [len(item) for item in sizes.resblock_dilations] == [convolutions] * len(sizes.resblock_kernels),
        f"upsample_rates multiply to {product}, not to the hop of {hop}": product == hop,
        "upsample_kernels are not one for each rate, larger by an even number": (
            len(sizes.upsample_kernels) == len(sizes.upsample_rates)
            and all(
                kernel >= rate and (kernel - rate) % 2 == 0
                for kernel, rate in zip(sizes.upsample_kernels, sizes.upsample_rates, strict=True)
            )
        ),
        f"upsample_initial {sizes.upsample_initial} cannot be halved {len(sizes.upsample_rates)} times": (
            sizes.upsample_initial % (1 << len(sizes.upsample_rates)) == 0
        ),
    }
    return [problem for problem, holds in rules.items() if not holds]


def _nearest(name: str, known: list[str]) -> str:
    matches = difflib.get_close_matches(name, known, 1)
    return f"; did you mean '{matches[0]}'?" if matches else f"; one of {', '.join(known)}"
