"""Random weights for what only v3 and v4 have: the flow matching, its LoRA, and the vocoders that upstream offers."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

from gsvexport.stages import FEATURE_WIDTH, MEL_BANDS
from gsvexport.synthetic.container import write_checkpoint
from gsvexport.synthetic.drawn import AUDIO_RMS, EDGE_KERNEL, RELU, Weights, generator
from gsvexport.synthetic.sizes import Sizes

# Sizes that upstream's code fixes.
_HEAD, _TIME, _TEXT_KERNEL, _POSITION_KERNEL, _POSITION_GROUPS = 64, 256, 7, 31, 16
_WNS_KERNEL = 5
_HIDDEN = 192
_TRAINED = ("ref_enc.", "bridge.", "wns1.", "linear_mel.", "quantizer.")  # what a LoRA file holds whole
_LORA_PARTS = ("to_q", "to_k", "to_v", "to_out.0")
_FILTER = 12  # taps
_ESTIMATOR = "cfm.estimator"


def mel_weights(weights: Weights, sizes: Sizes) -> None:
    """Everything between the text encoder and the mel, under upstream's names."""
    weights.conv("bridge.0", FEATURE_WIDTH, _HIDDEN, 1)
    weights.conv("wns1.pre", FEATURE_WIDTH, FEATURE_WIDTH, 1, RELU)
    weights.wavenet("wns1.enc", FEATURE_WIDTH, sizes.wns_layers, _WNS_KERNEL, sizes.gin)
    weights.conv("wns1.proj", FEATURE_WIDTH, FEATURE_WIDTH, 1)
    weights.conv("linear_mel", MEL_BANDS, FEATURE_WIDTH, 1)
    width = sizes.cfm_width
    for name in ("time_embed", "d_embed"):
        weights.linear(f"{_ESTIMATOR}.{name}.time_mlp.0", width, _TIME, RELU)
        weights.linear(f"{_ESTIMATOR}.{name}.time_mlp.2", width, width, RELU)
    for layer in range(sizes.cfm_text_layers):
        block = f"{_ESTIMATOR}.text_embed.text_blocks.{layer}"
        weights.conv(f"{block}.dwconv", FEATURE_WIDTH, 1, _TEXT_KERNEL)
        weights.norm(f"{block}.norm.weight", f"{block}.norm.bias", FEATURE_WIDTH)
        weights.linear(f"{block}.pwconv1", 2 * FEATURE_WIDTH, FEATURE_WIDTH, RELU)
        weights.uniform(f"{block}.grn.gamma", (1, 1, 2 * FEATURE_WIDTH), 0.2)
        weights.uniform(f"{block}.grn.beta", (1, 1, 2 * FEATURE_WIDTH), 0.1)
        weights.linear(f"{block}.pwconv2", FEATURE_WIDTH, 2 * FEATURE_WIDTH, 0.3)
    weights.linear(f"{_ESTIMATOR}.input_embed.proj", width, 2 * MEL_BANDS + FEATURE_WIDTH)
    for place in (0, 2):
        weights.conv(
            f"{_ESTIMATOR}.input_embed.conv_pos_embed.conv1d.{place}",
            width,
            width // _POSITION_GROUPS,
            _POSITION_KERNEL,
            RELU,
        )
    weights.store(f"{_ESTIMATOR}.rotary_embed.inv_freq", 1e4 ** -(np.arange(0, _HEAD, 2) / _HEAD))
    inner = sizes.cfm_heads * _HEAD
    for layer in range(sizes.cfm_layers):
        block = f"{_ESTIMATOR}.transformer_blocks.{layer}"
        weights.linear(f"{block}.attn_norm.linear", 6 * width, width, 0.3)
        for part in "qkv":
            weights.linear(f"{block}.attn.to_{part}", inner, width)
        weights.linear(f"{block}.attn.to_out.0", width, inner)
        weights.linear(f"{block}.ff.ff.0.0", 2 * width, width)
        weights.linear(f"{block}.ff.ff.2", width, 2 * width)
    weights.linear(f"{_ESTIMATOR}.norm_out.linear", 2 * width, width, 0.3)
    weights.linear(f"{_ESTIMATOR}.proj_out", MEL_BANDS, width, 0.5)


def lora_weights(base: dict[str, np.ndarray], sizes: Sizes, rank: int, seed: int) -> dict[str, np.ndarray]:
    """What a LoRA file holds: other values for what is trained whole, every buffer, and the products' factors."""
    weights = Weights(seed)
    for name, array in base.items():
        if name.startswith(_TRAINED):
            weights.store(name, array if name.startswith("quantizer.") else array * np.float32(0.9))
    wrapped = "cfm.base_model.model.estimator"
    weights.store(f"{wrapped}.rotary_embed.inv_freq", base[f"{_ESTIMATOR}.rotary_embed.inv_freq"])
    width, inner = sizes.cfm_width, sizes.cfm_heads * _HEAD
    for layer in range(sizes.cfm_layers):
        for part in _LORA_PARTS:
            name = f"{wrapped}.transformer_blocks.{layer}.attn.{part}"
            outputs, inputs = (width, inner) if part == "to_out.0" else (inner, width)
            weights.uniform(f"{name}.lora_A.default.weight", (rank, inputs), inputs**-0.5)
            weights.uniform(f"{name}.lora_B.default.weight", (outputs, rank), 0.3 * rank**-0.5)
    return weights.tensors


def write_vocoder(folder: Path, sizes: Sizes, seed: int) -> str:
    """Write the vocoder of a v3 or v4 voice in the form that upstream offers it in; returns its name in `folder`."""
    weights = Weights(seed, np.float32)
    if sizes.version == "v4":
        generator(weights, sizes, "", MEL_BANDS, folded=True)
        weights.conv("conv_post", 1, sizes.upsample_initial >> len(sizes.upsample_rates), EDGE_KERNEL, AUDIO_RMS * RELU)
        _for_mels(weights, "conv_pre.weight")
        write_checkpoint(folder / "vocoder.pth", weights.tensors, root="vocoder")
        return "vocoder.pth"
    (folder / "bigvgan").mkdir(exist_ok=True)
    _bigvgan(weights, sizes)
    write_checkpoint(folder / "bigvgan" / "bigvgan_generator.pt", {"generator": weights.tensors}, root=None)
    config = {
        "resblock": sizes.resblock,
        "upsample_rates": sizes.upsample_rates,
        "upsample_kernel_sizes": sizes.upsample_kernels,
        "upsample_initial_channel": sizes.upsample_initial,
        "resblock_kernel_sizes": sizes.resblock_kernels,
        "resblock_dilation_sizes": sizes.resblock_dilations,
        "use_tanh_at_final": False,
        "use_bias_at_final": False,
        "activation": "snakebeta",
        "snake_logscale": True,
        "num_mels": MEL_BANDS,
        "n_fft": 1024,
        "hop_size": 256,
        "sampling_rate": 24000,
    }
    (folder / "bigvgan" / "config.json").write_bytes(json.dumps(config, indent=4).encode())
    return "bigvgan"


def _for_mels(weights: Weights, name: str) -> None:
    """A mel's values are some 5 to 7 in size, not 1."""
    weights.tensors[name] *= np.float32(1 / 6)


def _bigvgan(weights: Weights, sizes: Sizes) -> None:
    width = sizes.upsample_initial
    weights.normed("conv_pre", width, (width, MEL_BANDS, EDGE_KERNEL), (MEL_BANDS * EDGE_KERNEL) ** -0.5 / 6)
    branches = list(zip(sizes.resblock_kernels, sizes.resblock_dilations, strict=True))
    for stage, (rate, kernel) in enumerate(zip(sizes.upsample_rates, sizes.upsample_kernels, strict=True)):
        wide, narrow = width >> stage, width >> stage + 1
        weights.normed(f"ups.{stage}.0", narrow, (wide, narrow, kernel), (wide * kernel / rate) ** -0.5)
        for branch, (size, dilations) in enumerate(branches):
            name = f"resblocks.{stage * len(branches) + branch}"
            parts = {"convs1": 0.8, "convs2": 0.3} if sizes.resblock == "1" else {"convs": 0.3}
            for part, gain in parts.items():
                for index in range(len(dilations)):
                    deviation = gain * (narrow * size) ** -0.5
                    weights.normed(f"{name}.{part}.{index}", narrow, (narrow, narrow, size), deviation)
            for place in range(len(dilations) * len(parts)):
                _snake(weights, f"{name}.activations.{place}", narrow)
    last = width >> len(sizes.upsample_rates)
    _snake(weights, "activation_post", last)
    deviation = AUDIO_RMS * (last * EDGE_KERNEL) ** -0.5
    weights.normed("conv_post", 1, (1, last, EDGE_KERNEL), deviation)
    del weights.tensors["conv_post.bias"]


def _snake(weights: Weights, name: str, width: int) -> None:
    weights.uniform(f"{name}.act.alpha", (width,), 0.3)
    weights.uniform(f"{name}.act.beta", (width,), 0.3)
    for part in ("upsample.filter", "downsample.lowpass.filter"):
        weights.store(f"{name}.{part}", low_pass(_FILTER)[None, None])


def low_pass(taps: int) -> np.ndarray:
    """A sinc with its cutoff at half the band under a Kaiser window, its sum 1; what BigVGAN stores with its weights.

    β by Kaiser's formula, for the attenuation in dB that the taps allow (above 50 from 12 taps on).
    """
    attenuation = 2.285 * (taps // 2 - 1) * math.pi * 1.2 + 7.95
    place = np.arange(-taps // 2, taps // 2) + 0.5
    found = np.kaiser(taps, 0.1102 * (attenuation - 8.7)) * np.sinc(0.5 * place)
    return np.asarray(found / found.sum())
