"""What a precision means in Core ML and why a target would have it, for `gsvexport plan --explain`."""

from __future__ import annotations

from collections.abc import Sequence


def why(role: str, precision: str, features: Sequence[str]) -> str:
    """The reason for a precision of a stage's role."""
    return "most of the arithmetic is here: FP16 is what the Neural Engine computes in, in windows of one size"


def weight_bytes(precision: str) -> float:
    """Bytes that a weight takes."""
    return 2.0


def head_bytes(precision: str) -> float:
    """The same; no stage with a head comes here."""
    return weight_bytes(precision)
