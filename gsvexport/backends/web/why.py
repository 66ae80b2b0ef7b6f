"""What each precision means in a browser and why a target would have it, for `gsvexport plan --explain`."""

from __future__ import annotations

from collections.abc import Sequence

from gsvexport import backends
from gsvexport.backends.web.stand_in import NATIVE

_WHY = {
    ("ar", "fp16"): "half the bytes to download; computed in FP32: blocks of integers take 4 times as long in wasm",
}


def why(role: str, precision: str, features: Sequence[str]) -> str:
    """The reason for a precision of a stage's role."""
    return _WHY.get((role, precision)) or backends.reasons(NATIVE).why(role, precision, features)


def weight_bytes(precision: str) -> float:
    """Bytes of a weight in a layer of that precision."""
    return backends.reasons(NATIVE).weight_bytes(precision)


def head_bytes(precision: str) -> float:
    """The same for the weights of T2S's last product."""
    return backends.reasons(NATIVE).head_bytes(precision)
