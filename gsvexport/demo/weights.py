"""The SoVITS file of the real demo voice: the package's decoder and flow, and an encoder that looks codes up.

So a code gives exactly the prior that its cluster has, and everything after it is a trained network. The reference
encoder is random and its conditioning is multiplied with zero: no reference changes the sound.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsvexport.demo.package import WIDTH
from gsvexport.demo.units import Codebook
from gsvexport.synthetic.drawn import Weights
from gsvexport.voice.dims import SovitsDims
from gsvexport.voice.layout import expected_sovits

Floats = NDArray[np.floating[Any]]

SOVITS = SovitsDims(
    version="v2",
    symbols="v2",
    text_phones=732,
    ssl=768,
    codes=1024,
    hidden=WIDTH,
    filter=192,
    heads=2,
    text_layers=2,
    ssl_layers=1,
    mix_layers=1,
    kernel=3,
    window=4,
    mrte_width=512,
    mrte_heads=4,
    inter=WIDTH,
    gin=512,
    ge_text_width=512,
    flows=4,
    flow_layers=4,
    flow_kernel=5,
    flow_hidden=192,
    upsample_rates=(8, 8, 4),
    upsample_kernels=(16, 16, 8),
    upsample_initial=256,
    resblock="2",
    resblock_kernels=(3, 5, 7),
    resblock_dilations=((1, 2), (2, 6), (3, 12)),
    ref_bins=704,
    ref_hidden=128,
    ref_kernel=5,
    ref_heads=2,
    speaker_width=None,
    rate=22050,
    n_fft=2048,
    hop=256,  # two of them are one code
    window_length=1024,
)
_CODEBOOK = "quantizer.vq.layers.0._codebook"
# GPT-SoVITS draws with noise of this scale, the package's voice with the other: a louder deviation makes them equal.
DEFAULT_NOISE, NOISE = 0.5, 0.667
_DIRECTIONS = 186  # of a code's 192 channels; one more brings its variance to 1, the rest is room for their mean
_SEED = 3


def sovits(book: Codebook, tensors: Mapping[str, Floats], dilations: Sequence[Sequence[int]]) -> dict[str, Floats]:
    """Every tensor of the file, by upstream's names.

    `tensors` and `dilations` are those of `package.weights`.

    Raises:
        ValueError: the package's networks have other shapes than GPT-SoVITS v2 has with these sizes.
    """
    shapes = expected_sovits(SOVITS)
    if [tuple(row) for row in dilations] != list(SOVITS.resblock_dilations) * len(SOVITS.upsample_rates):
        raise ValueError("the decoder has other dilations")
    found = _drawn(shapes)
    used = _transplant(found, tensors)
    if used != set(tensors):
        raise ValueError(f"no place for {sorted(set(tensors) - used)}")
    _look_up(found, book)
    for name, shape in shapes.items():
        if found[name].shape != shape:
            raise ValueError(f"{name} is {found[name].shape}, not {shape}")
    return found


def _drawn(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Floats]:
    """A start for all tensors: layers that keep the variance, norms that change nothing."""
    drawn = Weights(_SEED, np.float32)
    for name, shape in shapes.items():
        if name.endswith((".gamma", "_g", "inited", "cluster_size")):
            drawn.store(name, np.ones(shape))
        elif len(shape) == 1:
            drawn.store(name, np.zeros(shape))
        else:
            drawn.uniform(name, shape, math.prod(shape[1:]) ** -0.5)
    drawn.tensors["enc_p.text_embedding.weight"] *= 0.3
    drawn.tensors[f"{_CODEBOOK}.embed_avg"][:] = 0
    # Features two frames long are averaged; a recording of another speaker gives no codes anyway.
    both = np.eye(SOVITS.ssl, dtype=np.float32)[:, :, None] / 2
    drawn.store("ssl_proj.weight", np.broadcast_to(both, shapes["ssl_proj.weight"]))
    return dict(drawn.tensors)


def _transplant(found: dict[str, Floats], tensors: Mapping[str, Floats]) -> set[str]:
    """Put decoder and flow in their places; returns which tensors had one.

    Directions have length 1: some channels are all but off, and in 16 bits they would lose theirs. Where a conditioning
    enters the length is 0.
    """
    used = set()
    for name in [name for name in found if name.startswith(("dec.", "flow."))]:
        base, part = name.rsplit(".", 1)
        if ".cond_layer" in name or base == "dec.cond":
            found[name] = (np.ones_like if part == "weight_v" else np.zeros_like)(found[name])
        elif part in ("weight_g", "weight_v"):
            weight = tensors[f"{base}.weight"]
            length = np.sqrt(np.square(weight, dtype=np.float64).sum(axis=(1, 2), keepdims=True))
            found[name] = (weight / length if part == "weight_v" else length).astype(np.float32)
            used.add(f"{base}.weight")
        else:
            found[name] = tensors[name]
            used.add(name)
    return used


def _look_up(found: dict[str, Floats], book: Codebook) -> None:
    """An encoder that turns codes into their priors, whatever the phones, up to what 186 directions leave.

    A code's hidden vector has mean 0 and variance 1, so layer norm leaves it as it is; attention and feed-forward
    layers add nothing; the speaker's conditioning enters at channels that nothing reads. All of it is spread over all
    channels, so that none is large and 8 bits are enough for a row.
    """
    hidden = SOVITS.hidden
    wanted = np.concatenate([book.mean, book.logs + math.log(NOISE / DEFAULT_NOISE)], axis=1).astype(np.float64)
    scale = np.concatenate([1 / book.weight.astype(np.float64), np.ones(WIDTH)])
    left, values, _ = np.linalg.svd((wanted - wanted.mean(axis=0)) / scale, full_matrices=False)
    parts = left[:, :_DIRECTIONS] * values[:_DIRECTIONS]
    parts *= math.sqrt(0.9 * hidden / (parts**2).sum(axis=1).max())
    ones, signs = np.ones((hidden, 1)), np.tile([[1.0], [-1.0]], (hidden // 2, 1))
    others = np.random.default_rng(_SEED).standard_normal((hidden, _DIRECTIONS))
    basis = np.linalg.qr(np.concatenate([ones, signs, others], axis=1))[0][:, 2:]
    rows = parts @ basis.T + np.sqrt(1 - (parts**2).sum(axis=1, keepdims=True) / hidden) * signs.T
    table = np.zeros((SOVITS.codes, SOVITS.ssl))
    table[: len(rows), :hidden] = rows
    found[f"{_CODEBOOK}.embed"] = table
    for encoder, layers in (("encoder_ssl", SOVITS.ssl_layers), ("encoder2", SOVITS.mix_layers)):
        for layer in range(layers):
            _silence(found, f"enc_p.{encoder}.attn_layers.{layer}.conv_o")
            _silence(found, f"enc_p.{encoder}.ffn_layers.{layer}.conv_2")
    _silence(found, "enc_p.mrte.cross_attention.conv_o")
    for name in ("enc_p.ssl_proj", "enc_p.mrte.c_pre", "enc_p.mrte.c_post"):
        weight = np.zeros_like(found[f"{name}.weight"])
        weight[range(hidden), range(hidden), 0] = 1
        found[f"{name}.weight"] = weight
    extended = np.concatenate([rows, np.ones((len(rows), 1))], axis=1)
    read = np.linalg.lstsq(extended, wanted / scale, rcond=1e-10)[0] * scale
    found["enc_p.proj.weight"], found["enc_p.proj.bias"] = read[:-1].T[..., None], read[-1]
    for part in ("weight", "bias"):
        found[f"ref_enc.fc.fc.{part}"][:hidden] = 0


def _silence(found: dict[str, Floats], name: str) -> None:
    for part in ("weight", "bias"):
        found[f"{name}.{part}"] = np.zeros_like(found[f"{name}.{part}"])
