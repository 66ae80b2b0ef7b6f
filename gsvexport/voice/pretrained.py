"""Upstream's pretrained networks, in the folders that upstream keeps them in, each checked against its own sizes.

    hubert    chinese-hubert-base/            config.json and pytorch_model.bin or model.safetensors (Hugging Face)
    bert      chinese-roberta-wwm-ext-large/  the same, and vocab.txt
    speaker   pretrained_eres2netv2w24s4ep4.ckpt, tensors alone; every size follows from their shapes

Nothing in them is run. Weights may be float16, float32 or bfloat16.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from gsvexport.errors import VoiceError
from gsvexport.stages import BERT_WIDTH, SPEAKER_BANDS, SPEAKER_WIDTH, SSL_WIDTH
from gsvexport.untrusted.reading import lines, parse_json, read_bytes, why
from gsvexport.voice.checkpoint import Array, TensorFile, read_tensor_file
from gsvexport.voice.config import Config, indices
from gsvexport.voice.safetensors import read_safetensors

CUT_LAYERS = 2  # of BERT that are not needed: its features are hidden_states[-3]
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_MAX_CONFIG_BYTES = 1 << 16
_MAX_VOCABULARY_BYTES = 4 << 20
_SPECIAL = ("[UNK]", "[CLS]", "[SEP]")
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class HubertDims:
    """`conv` are (channels, kernel, stride) of the feature extractor's layers; `positions` (kernel, groups) of the
    convolution that stands for positions."""

    conv: tuple[tuple[int, int, int], ...]
    conv_bias: bool
    width: int
    layers: int
    heads: int
    inner: int
    positions: tuple[int, int]
    epsilon: float

    @property
    def pace(self) -> float:
        """Features a second, of audio at 16 kHz."""
        return 16000 / prod(stride for _, _, stride in self.conv)


@dataclass(frozen=True)
class BertDims:
    """`layers` are those that are run, `rows` the positions that it knows."""

    width: int
    layers: int
    heads: int
    inner: int
    rows: int
    epsilon: float


@dataclass(frozen=True, eq=False)
class Hubert:
    """A HuBERT: audio at 16 kHz → features at 50 Hz."""

    file: TensorFile
    dims: HubertDims


@dataclass(frozen=True, eq=False)
class Bert:
    """A BERT and the bytes of its `vocab.txt`: a token a line, its number is its id."""

    file: TensorFile
    dims: BertDims
    vocabulary: bytes


@dataclass(frozen=True, eq=False)
class Pretrained:
    """What of upstream's pretrained networks a voice was given; `speaker` is an ERes2NetV2."""

    hubert: Hubert | None = None
    bert: Bert | None = None
    speaker: TensorFile | None = None

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages that they make."""
        found = {"ssl": self.hubert, "speaker": self.speaker, "bert": self.bert}
        return tuple(name for name, network in found.items() if network is not None)

    @property
    def provenance(self) -> dict[str, Any]:
        """SHA-256 and size of each file, by stage."""
        files = {
            "ssl": self.hubert.file if self.hubert else None,
            "speaker": self.speaker,
            "bert": self.bert.file if self.bert else None,
        }
        return {name: {"sha256": file.sha256, "size": file.size} for name, file in files.items() if file}


NOTHING = Pretrained()


def read_hubert(folder: Path) -> Hubert:
    """Read a HuBERT of the base layout (group norm in the first layer, layer norm after each block).

    Raises:
        VoiceError: absent, damaged, or another network; all findings.
    """
    values, weights = _folder(folder, "hubert")
    found = Config(values)
    conv = tuple(found.sizes(key) for key in ("conv_dim", "conv_kernel", "conv_stride"))
    if len({len(part) for part in conv}) != 1:
        found.problems.append("config: conv_dim, conv_kernel and conv_stride differ in length")
    wanted = {
        "feat_extract_norm": "group",
        "feat_extract_activation": "gelu",
        "hidden_act": "gelu",
        "do_stable_layer_norm": False,
        "conv_pos_batch_norm": False,
        "feat_proj_layer_norm": True,
    }
    found.problems += _other(values, wanted)
    dims = HubertDims(
        tuple(zip(*conv, strict=False)),
        values.get("conv_bias") is True,
        found.size("hidden_size"),
        found.size("num_hidden_layers", 128),
        found.size("num_attention_heads", 128),
        found.size("intermediate_size"),
        (found.size("num_conv_pos_embeddings", 1024), found.size("num_conv_pos_embedding_groups", 1024)),
        _epsilon(values, 1e-5),
    )
    found.problems += _widths(dims.width, dims.heads, SSL_WIDTH)
    tensors = _positions_renamed(_named(weights.tensors, "hubert."))
    problems = found.problems or _compare(tensors, hubert_shapes(dims), folder)
    _refuse(problems, folder, "a HuBERT base model", "upstream's chinese-hubert-base/")
    return Hubert(TensorFile(weights.path, weights.sha256, weights.size, tensors), dims)


def read_bert(folder: Path) -> Bert:
    """Read a BERT; its last `CUT_LAYERS` layers and its heads are left where they are.

    Raises:
        VoiceError: absent, damaged, or another network; all findings.
    """
    values, weights = _folder(folder, "bert")
    found = Config(values)
    told = found.size("num_hidden_layers", 128)
    dims = BertDims(
        found.size("hidden_size"),
        told - CUT_LAYERS,
        found.size("num_attention_heads", 128),
        found.size("intermediate_size"),
        found.size("max_position_embeddings"),
        _epsilon(values, 1e-12),
    )
    if dims.layers < 1:
        found.problems.append(f"config: num_hidden_layers is {told}; the features come from the third last state")
    found.problems += _other(values, {"hidden_act": "gelu", "position_embedding_type": "absolute"})
    found.problems += _widths(dims.width, dims.heads, BERT_WIDTH)
    vocabulary = _bytes(folder / "vocab.txt", _MAX_VOCABULARY_BYTES)
    tokens = lines(vocabulary.decode("utf-8", "replace"))
    found.problems += [f"vocab.txt has no {token}" for token in _SPECIAL if token not in tokens]
    if (size := found.size("vocab_size", 1 << 20)) < len(tokens):
        found.problems.append(f"vocab.txt has {len(tokens)} tokens, the network {size}")
    tensors = {_old_norm(name): array for name, array in _named(weights.tensors, "bert.").items()}
    problems = found.problems or _compare(tensors, bert_shapes(dims, size), folder)
    _refuse(problems, folder, "a BERT", "upstream's chinese-roberta-wwm-ext-large/")
    return Bert(TensorFile(weights.path, weights.sha256, weights.size, tensors), dims, vocabulary)


def read_speaker(path: Path) -> TensorFile:
    """Read an ERes2NetV2; what it needs for the embedding before pooling is checked, its head is not.

    Raises:
        VoiceError: absent, damaged, or another network; all findings.
    """
    weights = read_tensor_file(path, "model")
    tensors = weights.tensors
    problems = _compare(tensors, _speaker_shapes(tensors), path)
    if not problems:
        width = tensors["fuse34.local_att.3.weight"].shape[0] * SPEAKER_BANDS // 8
        if width != SPEAKER_WIDTH:
            problems.append(f"its embedding has {width} numbers, voices take {SPEAKER_WIDTH}")
    _refuse(problems, path, "an ERes2NetV2", "upstream's pretrained_eres2netv2w24s4ep4.ckpt")
    return weights


def _folder(folder: Path, kind: str) -> tuple[dict[str, Any], TensorFile]:
    """The settings and the weights of a Hugging Face folder."""
    where = folder / "config.json"
    try:
        values = parse_json(_bytes(where, _MAX_CONFIG_BYTES))
        if not isinstance(values, dict):
            raise ValueError("no table of settings")
    except (ValueError, RecursionError) as error:
        raise VoiceError(f"{where} cannot be read: {error}", fix="download the folder again") from error
    if values.get("model_type", kind) != kind:
        raise VoiceError(f"{folder} holds a {str(values['model_type'])[:40]!r}, not a {kind}")
    file = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)
    if file is None:
        raise VoiceError(f"{folder} holds neither {' nor '.join(_WEIGHTS)}", fix="download the folder again")
    return values, read_safetensors(file) if file.suffix == ".safetensors" else read_tensor_file(file, "state_dict")


def _bytes(path: Path, limit: int) -> bytes:
    try:
        return read_bytes(path, limit)
    except (OSError, ValueError) as error:
        raise VoiceError(f"{path} cannot be used: it {why(error)}", fix="download the folder again") from error


def _named(tensors: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    """Tensors by their names inside the network; a model with a head on top has them below `prefix`."""
    inside = any(name.startswith(prefix) for name in tensors)
    return {
        name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix) or not inside
    }


def _positions_renamed(tensors: dict[str, Array]) -> dict[str, Array]:
    """Weight norm has had two names: `weight_g` and `weight_v`, later `parametrizations.weight.original0` and `1`."""
    parts = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    before = "encoder.pos_conv_embed.conv."
    names = {f"{before}{new}": f"{before}{old}" for new, old in parts.items()}
    return {names.get(name, name): array for name, array in tensors.items()}


def _old_norm(name: str) -> str:
    """Layer norm's parameters were called gamma and beta once."""
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def _other(values: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    return [
        f"config: {key} is {str(values[key])[:40]!r}, only {value!r} is supported"
        for key, value in wanted.items()
        if key in values and values[key] != value
    ]


def _epsilon(values: Mapping[str, Any], usual: float) -> float:
    value = values.get("layer_norm_eps", usual)
    return float(value) if isinstance(value, float) and 0 < value < 1 else usual


def _widths(width: int, heads: int, wanted: int) -> list[str]:
    found = [] if width == wanted else [f"config: hidden_size is {width}, voices take {wanted}"]
    return found if width % heads == 0 else [*found, f"config: {heads} heads do not divide {width} channels"]


def hubert_shapes(dims: HubertDims) -> Shapes:
    """Every tensor by name."""
    shapes: Shapes = {}
    before = 1
    for index, (channels, kernel, _) in enumerate(dims.conv):
        name = f"feature_extractor.conv_layers.{index}"
        shapes[f"{name}.conv.weight"] = (channels, before, kernel)
        if dims.conv_bias:
            shapes[f"{name}.conv.bias"] = (channels,)
        if index == 0:
            shapes |= {f"{name}.layer_norm.{part}": (channels,) for part in ("weight", "bias")}
        before = channels
    kernel, groups = dims.positions
    shapes |= {f"feature_projection.layer_norm.{part}": (before,) for part in ("weight", "bias")}
    shapes |= _linear("feature_projection.projection", before, dims.width)
    positions = "encoder.pos_conv_embed.conv"
    shapes[f"{positions}.weight_g"] = (1, 1, kernel)
    shapes[f"{positions}.weight_v"] = (dims.width, dims.width // groups, kernel)
    shapes[f"{positions}.bias"] = (dims.width,)
    shapes |= {f"encoder.layer_norm.{part}": (dims.width,) for part in ("weight", "bias")}
    for index in range(dims.layers):
        name = f"encoder.layers.{index}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= _linear(f"{name}.attention.{part}", dims.width, dims.width)
        shapes |= _linear(f"{name}.feed_forward.intermediate_dense", dims.width, dims.inner)
        shapes |= _linear(f"{name}.feed_forward.output_dense", dims.inner, dims.width)
        for norm in ("layer_norm", "final_layer_norm"):
            shapes |= {f"{name}.{norm}.{part}": (dims.width,) for part in ("weight", "bias")}
    return shapes


def bert_shapes(dims: BertDims, tokens: int) -> Shapes:
    """Every tensor that is needed, by name."""
    width = dims.width
    shapes: Shapes = {
        "embeddings.word_embeddings.weight": (tokens, width),
        "embeddings.position_embeddings.weight": (dims.rows, width),
        "embeddings.token_type_embeddings.weight": (2, width),
    }
    norms = ["embeddings.LayerNorm"]
    for index in range(dims.layers):
        name = f"encoder.layer.{index}"
        for part in ("query", "key", "value"):
            shapes |= _linear(f"{name}.attention.self.{part}", width, width)
        shapes |= _linear(f"{name}.attention.output.dense", width, width)
        shapes |= _linear(f"{name}.intermediate.dense", width, dims.inner)
        shapes |= _linear(f"{name}.output.dense", dims.inner, width)
        norms += [f"{name}.attention.output.LayerNorm", f"{name}.output.LayerNorm"]
    return shapes | {f"{norm}.{part}": (width,) for norm in norms for part in ("weight", "bias")}


def _speaker_shapes(tensors: Mapping[str, Array]) -> Shapes:
    """What an ERes2NetV2 of these widths has; a width is read where it is set and checked everywhere else."""

    def of(name: str, axis: int) -> int:
        shape = tensors[name].shape if name in tensors else ()
        return int(shape[axis]) if axis < len(shape) else 1

    shapes: Shapes = {}

    def conv(name: str, norm: str, shape: tuple[int, ...], *, bias: bool = False) -> None:
        shapes[f"{name}.weight"] = shape
        if bias:
            shapes[f"{name}.bias"] = shape[:1]
        shapes.update({f"{norm}.{part}": shape[:1] for part in ("weight", "bias", "running_mean", "running_var")})

    def fusion(name: str, width: int) -> None:
        inner = of(f"{name}.local_att.0.weight", 0)
        conv(f"{name}.local_att.0", f"{name}.local_att.1", (inner, 2 * width, 1, 1), bias=True)
        conv(f"{name}.local_att.3", f"{name}.local_att.4", (width, inner, 1, 1), bias=True)

    wide, outputs = of("conv1.weight", 0), []
    conv("conv1", "bn1", (wide, 1, 3, 3))
    for layer in range(1, 5):
        for block in range(max(1, indices(tensors, rf"layer{layer}\.(\d+)\."))):
            name = f"layer{layer}.{block}"
            scale = max(1, indices(tensors, rf"layer{layer}\.{block}\.convs\.(\d+)\."))
            width, out = of(f"{name}.convs.0.weight", 0), of(f"{name}.conv3.weight", 0)
            conv(f"{name}.conv1", f"{name}.bn1", (width * scale, wide, 1, 1))
            for index in range(scale):
                conv(f"{name}.convs.{index}", f"{name}.bns.{index}", (width, width, 3, 3))
            for index in range(scale - 1 if layer > 2 else 0):
                fusion(f"{name}.fuse_models.{index}", width)
            conv(f"{name}.conv3", f"{name}.bn3", (out, width * scale, 1, 1))
            if (layer > 1 and block == 0) or out != wide:
                conv(f"{name}.shortcut.0", f"{name}.shortcut.1", (out, wide, 1, 1))
            wide = out
        outputs.append(wide)
    shapes["layer3_ds.weight"] = (outputs[3], outputs[2], 3, 3)
    fusion("fuse34", outputs[3])
    return shapes


def _linear(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _compare(tensors: Mapping[str, Array], expected: Shapes, where: Path) -> list[str]:
    return [
        f"missing tensor: {name} {list(shape)}"
        if name not in tensors
        else f"wrong shape: {name} is {list(tensors[name].shape)}, expected {list(shape)}"
        for name, shape in expected.items()
        if name not in tensors or tensors[name].shape != shape
    ]


def _refuse(problems: list[str], where: Path, what: str, fix: str) -> None:
    if problems:
        raise VoiceError(
            f"{where} is not {what} that can be used",
            problems=problems[:20],
            found=f"{len(problems)} problems",
            fix=f"[pretrained] names {fix}",
        )
