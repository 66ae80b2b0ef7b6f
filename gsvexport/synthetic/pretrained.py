"""Upstream's pretrained networks with random weights, in their own file formats: for tests and benchmarks.

    write_pretrained(Path("pretrained"), ("hubert", "bert", "speaker"))           # tiny: 3, 13 and 2 MB
    write_pretrained(Path("pretrained"), ("hubert",), "full", safetensors=True)   # of upstream's size

A tiny HuBERT and BERT are as wide as a voice asks (768, 1024), with fewer and narrower layers. Weights are float16.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gsvexport.files import disk_errors
from gsvexport.stages import BERT_WIDTH, SPEAKER_BANDS, SPEAKER_WIDTH, SSL_WIDTH
from gsvexport.synthetic.container import write_checkpoint
from gsvexport.voice.pretrained import CUT_LAYERS, BertDims, HubertDims, Shapes, bert_shapes, hubert_shapes

_Arrays = dict[str, np.ndarray]
_STRIDES, _KERNELS = (5, 2, 2, 2, 2, 2, 2), (10, 3, 3, 3, 3, 2, 2)
_HUBERT = {"tiny": (8, 2, 64), "full": (512, 12, 3072)}  # channels of the extractor, layers, inner width
_BERT = {"tiny": (3, 64, 512), "full": (24, 4096, 512)}  # layers with those that are cut off, inner width, positions
_TOKENS = 21128
_SIGNS = ",.!?…-，。！？、"
_FIRST_HAN, _LAST_HAN = 0x4E00, 0x9FA5
# Of each of the four layers: blocks, width of a group, channels. A tiny one is narrow until its last layer.
_SPEAKER = {
    "tiny": (8, ((1, 2, 8), (2, 2, 16), (1, 4, 16), (2, 4, SPEAKER_WIDTH * 8 // SPEAKER_BANDS))),
    "full": (64, ((3, 24, 256), (4, 48, 512), (6, 96, 1024), (3, 192, 2048))),
}
_GROUPS = 4


def write_pretrained(
    folder: Path, networks: tuple[str, ...], size: str = "tiny", seed: int = 0, *, safetensors: bool = False
) -> dict[str, str]:
    """Write networks ("hubert", "bert", "speaker") into `folder`; returns their paths, relative to it.

    `safetensors` chooses the format of the first two; that of upstream's own files is torch's.

    Raises:
        EnvironmentProblem: the disk is full or not writable.
    """
    write = {"hubert": _write_hubert, "bert": _write_bert, "speaker": _write_speaker}
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        return {
            name: write[name](folder, size, np.random.Generator(np.random.PCG64([seed, index])), safetensors)
            for index, name in enumerate(networks)
        }


def _write_hubert(folder: Path, size: str, random: np.random.Generator, safetensors: bool) -> str:
    channels, layers, inner = _HUBERT[size]
    conv = tuple((channels, kernel, stride) for kernel, stride in zip(_KERNELS, _STRIDES, strict=True))
    dims = HubertDims(conv, False, SSL_WIDTH, layers, 12, inner, (128, 16), 1e-5)
    config = {
        "model_type": "hubert",
        "architectures": ["HubertModel"],
        "conv_dim": [channels] * len(conv),
        "conv_kernel": list(_KERNELS),
        "conv_stride": list(_STRIDES),
        "conv_bias": False,
        "feat_extract_norm": "group",
        "feat_extract_activation": "gelu",
        "feat_proj_layer_norm": True,
        "do_stable_layer_norm": False,
        "hidden_act": "gelu",
        "hidden_size": SSL_WIDTH,
        "num_feat_extract_layers": len(conv),
        "num_hidden_layers": layers,
        "num_attention_heads": dims.heads,
        "intermediate_size": inner,
        "num_conv_pos_embeddings": dims.positions[0],
        "num_conv_pos_embedding_groups": dims.positions[1],
        "layer_norm_eps": dims.epsilon,
    }
    return _write_folder(folder / "chinese-hubert-base", config, _random(hubert_shapes(dims), random), safetensors)


def _write_bert(folder: Path, size: str, random: np.random.Generator, safetensors: bool) -> str:
    layers, inner, rows = _BERT[size]
    special = ["[PAD]", *(f"[unused{number}]" for number in range(1, 100)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    han = [chr(code) for code in range(_FIRST_HAN, _LAST_HAN)]
    tokens = ([*special, *_SIGNS, *"abcdefghijklmnopqrstuvwxyz0123456789", *han])[:_TOKENS]
    tokens = tokens if size == "full" else tokens[:6000]
    dims = BertDims(BERT_WIDTH, layers - CUT_LAYERS, 16, inner, rows, 1e-12)
    config = {
        "model_type": "bert",
        "architectures": ["BertModel"],
        "hidden_act": "gelu",
        "hidden_size": BERT_WIDTH,
        "num_hidden_layers": layers,
        "num_attention_heads": dims.heads,
        "intermediate_size": inner,
        "max_position_embeddings": rows,
        "type_vocab_size": 2,
        "layer_norm_eps": dims.epsilon,
        "vocab_size": len(tokens),
    }
    every = BertDims(BERT_WIDTH, layers, dims.heads, inner, rows, dims.epsilon)  # what is cut off is in the file
    arrays = {f"bert.{name}": array for name, array in _random(bert_shapes(every, len(tokens)), random).items()}
    name = _write_folder(folder / "chinese-roberta-wwm-ext-large", config, arrays, safetensors)
    (folder / name / "vocab.txt").write_bytes(("\n".join(tokens) + "\n").encode())
    return name


def _write_speaker(folder: Path, size: str, random: np.random.Generator, _: bool) -> str:
    shapes: Shapes = {}

    def conv(name: str, norm: str, shape: tuple[int, ...], *, bias: bool = False) -> None:
        shapes[f"{name}.weight"] = shape
        shapes.update({f"{norm}.{part}": shape[:1] for part in ("weight", "bias", "running_mean", "running_var")})
        if bias:
            shapes[f"{name}.bias"] = shape[:1]

    def fusion(name: str, width: int) -> None:
        inner = max(1, width // 4)
        conv(f"{name}.local_att.0", f"{name}.local_att.1", (inner, 2 * width, 1, 1), bias=True)
        conv(f"{name}.local_att.3", f"{name}.local_att.4", (width, inner, 1, 1), bias=True)

    first, layers = _SPEAKER[size]
    wide = first
    conv("conv1", "bn1", (wide, 1, 3, 3))
    for number, (blocks, width, out) in enumerate(layers, 1):
        for block in range(blocks):
            name = f"layer{number}.{block}"
            conv(f"{name}.conv1", f"{name}.bn1", (width * _GROUPS, wide, 1, 1))
            for group in range(_GROUPS):
                conv(f"{name}.convs.{group}", f"{name}.bns.{group}", (width, width, 3, 3))
            for group in range(_GROUPS - 1 if number > 2 else 0):
                fusion(f"{name}.fuse_models.{group}", width)
            conv(f"{name}.conv3", f"{name}.bn3", (out, width * _GROUPS, 1, 1))
            if block == 0 and (number > 1 or out != wide):
                conv(f"{name}.shortcut.0", f"{name}.shortcut.1", (out, wide, 1, 1))
            wide = out
    shapes["layer3_ds.weight"] = (layers[3][2], layers[2][2], 3, 3)
    fusion("fuse34", layers[3][2])
    if size == "full":  # the head, which is not used
        shapes |= {"seg_1.weight": (192, 2 * SPEAKER_WIDTH), "seg_1.bias": (192,)}
    name = "pretrained_eres2netv2w24s4ep4.ckpt"
    write_checkpoint(folder / name, _random(shapes, random), root=None)
    return name


def _write_folder(folder: Path, config: Mapping[str, Any], arrays: _Arrays, safetensors: bool) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_bytes(json.dumps(config, indent=2).encode())
    if safetensors:
        from safetensors.numpy import save_file

        save_file(arrays, folder / "model.safetensors", metadata={"format": "pt"})
    else:
        write_checkpoint(folder / "pytorch_model.bin", arrays, root=None)
    return folder.name


def _random(shapes: Shapes, random: np.random.Generator) -> _Arrays:
    """Weights that keep about unit variance; norms near one, variances positive, biases small."""

    def array(name: str, shape: tuple[int, ...]) -> np.ndarray:
        values = random.standard_normal(shape, np.float32)
        last = name.rpartition(".")[2]
        if last == "running_var" or last == "weight_g":
            return 0.5 + np.abs(values)
        if last == "weight" and len(shape) == 1:
            return 1 + 0.2 * values
        return 0.2 * values if len(shape) == 1 else _scale(name)(values)

    return {name: array(name, shape).astype(np.float16) for name, shape in shapes.items()}


def _scale(name: str) -> Callable[[np.ndarray], np.ndarray]:
    if name.endswith("embeddings.weight"):
        return lambda values: values
    return lambda values: values / np.float32(np.sqrt(np.prod(values.shape[1:])))
