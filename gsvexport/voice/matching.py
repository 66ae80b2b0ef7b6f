"""The sizes of what v3 and v4 generate a mel with: a diffusion transformer that is trained by flow matching.

Upstream fixes them in code, so no config carries them; a file's tensors do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gsvexport.voice.config import Sizes, indices
from gsvexport.voice.vocoder import VocoderDims

ESTIMATOR = "cfm.estimator"
HEAD_WIDTH = 64  # upstream has no setting for it
TIME_WIDTH = 256  # sines and cosines of a moment


@dataclass(frozen=True)
class MatchingDims:
    """The estimator, in channels, kernel taps and layers. `rotary` are the frequencies of its rotary positions, which
    turn the first 2·`rotary` channels alone. `vocoder` is the kind of vocoder, with what only BigVGAN has."""

    width: int
    layers: int
    heads: int
    inner: int
    rotary: int
    text_layers: int
    text_inner: int
    text_kernel: int
    position_kernel: int
    position_groups: int
    vocoder: str
    log_scale: bool
    clamp: bool


def matching_dims(tensors: Mapping[str, Any], vocoder: VocoderDims) -> MatchingDims:
    """The sizes as the tensors have them; upstream's own where a tensor is absent, so that the absence gets told."""
    sizes = Sizes(tensors)
    width = sizes.of(f"{ESTIMATOR}.proj_out.weight", 1, 1024)
    block, text = f"{ESTIMATOR}.transformer_blocks.0", f"{ESTIMATOR}.text_embed.text_blocks.0"
    position = f"{ESTIMATOR}.input_embed.conv_pos_embed.conv1d.0.weight"
    return MatchingDims(
        width=width,
        layers=indices(tensors, rf"{ESTIMATOR}\.transformer_blocks\.(\d+)\.") or 22,
        heads=max(1, sizes.of(f"{block}.attn.to_q.weight", 0, 1024) // HEAD_WIDTH),
        inner=sizes.of(f"{block}.ff.ff.0.0.weight", 0, 2 * width),
        rotary=sizes.of(f"{ESTIMATOR}.rotary_embed.inv_freq", 0, HEAD_WIDTH // 2),
        text_layers=indices(tensors, rf"{ESTIMATOR}\.text_embed\.text_blocks\.(\d+)\.") or 4,
        text_inner=sizes.of(f"{text}.pwconv1.weight", 0, 1024),
        text_kernel=sizes.of(f"{text}.dwconv.weight", 2, 7),
        position_kernel=sizes.of(position, 2, 31),
        position_groups=max(1, width // sizes.of(position, 1, max(1, width // 16))),
        vocoder=vocoder.kind,
        log_scale=vocoder.log_scale,
        clamp=vocoder.clamp,
    )


def contradictions(dims: MatchingDims) -> list[str]:
    """What no network could have."""
    found = {
        f"rotary positions turn {2 * dims.rotary} channels; a head has {HEAD_WIDTH}": 2 * dims.rotary > HEAD_WIDTH,
        f"{dims.position_groups} groups do not divide the width {dims.width}": dims.width % dims.position_groups,
        f"the kernels {dims.text_kernel} and {dims.position_kernel} are not both odd": (
            dims.text_kernel % 2 == 0 or dims.position_kernel % 2 == 0
        ),
    }
    return [f"flow matching: {text}" for text, wrong in found.items() if wrong]
