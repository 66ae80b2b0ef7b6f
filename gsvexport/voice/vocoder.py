"""The vocoders that upstream offers for v3 and v4: BigVGAN v2 (Lee et al. 2023) and a HiFi-GAN for 48 kHz.

v4's file holds weights alone, with weight norm folded; its rates follow from its kernels, which are twice as long.
BigVGAN's file has a `config.json` beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from gsvexport.errors import VoiceError
from gsvexport.stages import MEL_BANDS, Mel
from gsvexport.untrusted.reading import read_json
from gsvexport.voice.checkpoint import TensorFile, read_tensor_file
from gsvexport.voice.config import Config, Sizes, indices

HIFIGAN, BIGVGAN = "hifigan", "bigvgan"
FILES = {"v3": "bigvgan_generator.pt", "v4": "vocoder.pth"}  # by upstream's own names
_DILATIONS = (1, 3, 5)  # of every resblock of v4's vocoder, which upstream's code fixes
_MAX_CONFIG_BYTES = 1 << 16


@dataclass(frozen=True)
class VocoderDims:
    """A generator, in channels and kernel taps. `kind` is HIFIGAN or BIGVGAN; `log_scale` and `clamp` are BigVGAN's:
    its snake parameters are stored as logarithms, and its audio is cut off at ±1 where others take the tanh."""

    kind: str
    rates: tuple[int, ...]
    kernels: tuple[int, ...]
    initial: int
    resblock: str
    block_kernels: tuple[int, ...]
    dilations: tuple[tuple[int, ...], ...]
    log_scale: bool = False
    clamp: bool = False


@dataclass(frozen=True, eq=False)
class Vocoder:
    """A vocoder's weights and sizes."""

    file: TensorFile
    dims: VocoderDims


def read_vocoder(path: Path, version: str, mel: Mel) -> Vocoder:
    """Read the vocoder of a v3 or v4 voice from its file, or from the folder that holds it.

    Raises:
        VoiceError: absent, damaged, or not the vocoder of this version; all findings.
    """
    file = path / FILES[version] if path.is_dir() else path
    weights = read_tensor_file(file, "generator")
    dims, problems = _bigvgan(file) if version == "v3" else _hifigan(weights.tensors)
    if not problems:
        expected = expected_vocoder(dims, weights.tensors)
        problems = [
            f"missing tensor: {name} {list(shape)}" for name, shape in expected.items() if name not in weights.tensors
        ]
        problems += [
            f"wrong shape: {name} is {list(array.shape)}, expected {list(expected[name])}"
            for name, array in weights.tensors.items()
            if name in expected and array.shape != expected[name]
        ]
        problems += [f"extra tensor: {name}" for name in weights.tensors if name not in expected]
        rate = mel.rate * prod(dims.rates) / mel.hop
        wanted = {"v3": 24000, "v4": 48000}[version]
        if rate != wanted:
            problems.append(f"it makes {prod(dims.rates)} samples of a mel frame: {rate:g} Hz instead of {wanted}")
    if problems:
        raise VoiceError(
            f"{file} is not the vocoder of a {version} voice",
            problems=problems[:20],
            found=f"{len(problems)} problems",
            fix=f"[pretrained] vocoder names upstream's {FILES[version]}, or the folder that holds it",
        )
    return Vocoder(weights, dims)


def _hifigan(tensors: Mapping[str, Any]) -> tuple[VocoderDims, list[str]]:
    sizes = Sizes(tensors)
    kernels = tuple(sizes.of(f"ups.{stage}.weight", 2, 2) for stage in range(indices(tensors, r"ups\.(\d+)\.")))
    blocks = indices(tensors, r"resblocks\.(\d+)\.") // max(1, len(kernels))
    block_kernels = tuple(sizes.of(f"resblocks.{block}.convs1.0.weight", 2, 3) for block in range(blocks))
    dims = VocoderDims(
        HIFIGAN,
        tuple(kernel // 2 for kernel in kernels),
        kernels,
        sizes.of("conv_pre.weight", 0, 512),
        "1",
        block_kernels,
        (_DILATIONS,) * blocks,
    )
    return dims, [] if kernels and blocks else ["it holds no upsampling stages with resblocks"]


def _bigvgan(file: Path) -> tuple[VocoderDims, list[str]]:
    where = file.with_name("config.json")
    try:
        values = read_json(where, limit=_MAX_CONFIG_BYTES)
        if not isinstance(values, dict):
            raise ValueError("no table of settings")
    except (OSError, ValueError, RecursionError) as error:
        raise VoiceError(
            f"{where} cannot be read: {error}", fix="keep BigVGAN's config.json beside its file"
        ) from error
    found = Config(values)
    rates, kernels = found.sizes("upsample_rates"), found.sizes("upsample_kernel_sizes")
    block_kernels, dilations = found.sizes("resblock_kernel_sizes"), found.nested("resblock_dilation_sizes")
    initial = found.size("upsample_initial_channel")
    if found.value("activation") not in (None, "snake", "snakebeta"):
        found.problems.append("config: activation is neither snake nor snakebeta")
    if len(rates) != len(kernels) or len(block_kernels) != len(dilations):
        found.problems.append("config: its lists of rates, kernels and dilations differ in length")
    elif any(kernel < rate or (kernel - rate) % 2 for kernel, rate in zip(kernels, rates, strict=True)):
        found.problems.append(f"config: upsample_kernel_sizes {list(kernels)} do not fit the rates {list(rates)}")
    return VocoderDims(
        BIGVGAN,
        rates,
        kernels,
        initial,
        "1" if found.value("resblock") == "1" else "2",
        block_kernels,
        dilations,
        log_scale=bool(found.value("snake_logscale")),
        clamp=values.get("use_tanh_at_final", True) is False,
    ), found.problems


def expected_vocoder(dims: VocoderDims, tensors: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Every tensor by name. Weight norm may be folded or not, and the last bias be there or not: `tensors` tells."""
    shapes: dict[str, tuple[int, ...]] = {}

    def conv(name: str, shape: tuple[int, ...], bias: int | None) -> None:
        if f"{name}.weight_v" in tensors:
            shapes[f"{name}.weight_v"], shapes[f"{name}.weight_g"] = shape, (shape[0], 1, 1)
        else:
            shapes[f"{name}.weight"] = shape
        if bias is not None:
            shapes[f"{name}.bias"] = (bias,)

    def activation(name: str, width: int) -> None:
        shapes[f"{name}.act.alpha"] = (width,)
        if f"{name}.act.beta" in tensors:
            shapes[f"{name}.act.beta"] = (width,)
        for part in ("upsample.filter", "downsample.lowpass.filter"):
            shapes[f"{name}.{part}"] = (1, 1, Sizes(tensors).of(f"{name}.{part}", 2, 12) // 4 * 4)

    snake, width = dims.kind == BIGVGAN, dims.initial
    conv("conv_pre", (width, MEL_BANDS, 7), width)
    for stage, kernel in enumerate(dims.kernels):
        wide, width = width, width // 2
        conv(f"ups.{stage}.0" if snake else f"ups.{stage}", (wide, width, kernel), width)
        for index, (size, dilations) in enumerate(zip(dims.block_kernels, dims.dilations, strict=True)):
            block = f"resblocks.{stage * len(dims.block_kernels) + index}"
            parts = ("convs1", "convs2") if dims.resblock == "1" else ("convs",)
            for part in parts:
                for place in range(len(dilations)):
                    conv(f"{block}.{part}.{place}", (width, width, size), width)
            for place in range(len(dilations) * len(parts) if snake else 0):
                activation(f"{block}.activations.{place}", width)
    if snake:
        activation("activation_post", width)
    conv("conv_post", (1, width, 7), 1 if "conv_post.bias" in tensors else None)
    return shapes
