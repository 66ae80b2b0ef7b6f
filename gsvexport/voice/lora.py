"""LoRA voices of v3 and v4: small products added to the weights of the base model that they were trained on.

    W = W_base + B·A        (upstream trains with alpha = rank, so that the usual factor alpha / rank is 1)

Whatever else the file stores replaces the base's, buffers included.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gsvexport.errors import VoiceError
from gsvexport.voice.checkpoint import Checkpoint

Array = npt.NDArray[Any]
_WRAPPED = "base_model.model."  # where the library that upstream trains with puts a model
_A, _B = ".lora_A.default.weight", ".lora_B.default.weight"


def is_lora(checkpoint: Checkpoint) -> bool:
    """Whether a SoVITS file holds products instead of whole weights."""
    return any(name.endswith((_A, _B)) for name in checkpoint.tensors)


def merged(lora: Checkpoint, base: Checkpoint) -> Checkpoint:
    """The whole voice. A merged weight is computed, in float32, each time it is asked for and is not kept.

    Raises:
        VoiceError: products that are not in pairs, of another rank than the file says, or that do not fit the base.
    """
    own = {name.replace(_WRAPPED, "").replace(".base_layer.", "."): array for name, array in lora.tensors.items()}
    ends = {end: {name[: -len(end)]: array for name, array in own.items() if name.endswith(end)} for end in (_A, _B)}
    problems, pairs = [], {}
    for name in sorted(ends[_A].keys() | ends[_B].keys()):
        weight, a, b = base.tensors.get(f"{name}.weight"), ends[_A].get(name), ends[_B].get(name)
        if a is None or b is None:
            problems.append(f"{name} has {'no A' if a is None else 'no B'} to its product")
        elif weight is None or a.ndim != 2 or b.ndim != 2 or weight.shape != (b.shape[0], a.shape[1]):
            there = "is not in it" if weight is None else f"is {list(weight.shape)}"
            problems.append(f"{name}.weight {there}, the product is {list(b.shape)} x {list(a.shape)}")
        elif a.shape[0] != b.shape[1] or lora.lora_rank not in (None, a.shape[0]):
            problems.append(f"{name}: rank {a.shape[0]} and {b.shape[1]}, the file says {lora.lora_rank}")
        else:
            pairs[f"{name}.weight"] = (a, b)
    if problems:
        raise VoiceError(
            f"{lora.path} does not fit its base {base.path}",
            problems=problems[:20],
            found=f"{len(problems)} problems",
            fix="base names the pretrained model that the LoRA was trained on: s2Gv3.pth or s2Gv4.pth",
        )
    whole = dict(base.tensors) | {name: array for name, array in own.items() if not name.endswith((_A, _B))}
    digest = hashlib.sha256(f"{lora.sha256} on {base.sha256}".encode()).hexdigest()
    return replace(lora, tensors=_Merged(whole, pairs), sha256=digest, lora_rank=None)


class _Merged(Mapping[str, Array]):
    """Tensors by name, some of them the sum of a weight and a product."""

    def __init__(self, tensors: dict[str, Array], pairs: dict[str, tuple[Array, Array]]) -> None:
        self._tensors, self._pairs = tensors, pairs

    def __getitem__(self, name: str) -> Array:
        weight = self._tensors[name]
        if name not in self._pairs:
            return weight
        a, b = (array.astype(np.float64) for array in self._pairs[name])
        # Summed in float64, to be equal on every machine; rounded and added in float32, as upstream does.
        found: Array = weight.astype(np.float32) + (b @ a).astype(np.float32)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)
