"""What each precision means in ONNX Runtime and why a target would have it, for `gsvexport plan --explain`."""

from __future__ import annotations

from collections.abc import Sequence

from gsvexport.backends.onnxruntime.recipes import saturates

_BLOCKS = (
    "symmetric integers in blocks, one scale a block; a token reads every weight once, so fewer bytes are more speed"
)
_WHY = {
    ("conditioning", "fp32"): "runs once for a voice, so speed and size gain nothing from less",
    ("ar", "fp32"): "weights and products as in the source",
    ("ar", "fp16"): "weights stored in half the bytes, products in FP32",
    ("ar", "int8-weights"): f"8-bit weights: {_BLOCKS}; the product that gives the scores stays float16",
    ("ar", "int4-weights"): f"4-bit weights: {_BLOCKS}; the product that gives the scores stays float16",
    ("acoustic", "fp32"): "as in the source",
    ("acoustic", "fp16"): "weights stored in half the bytes, products in FP32",
    (
        "acoustic",
        "int8-weights",
    ): "weights stored in a quarter of the bytes; runs once a sentence and its errors are heard",
    (
        "acoustic",
        "int8-dynamic",
    ): "products and convolutions on integers, each row and frame with a range of its own; groups of layers stay "
    "float where they would miss their gates",
    ("vocoder", "fp32"): "as in the source",
    ("vocoder", "fp16"): "weights stored in half the bytes, products in FP32",
    ("vocoder", "int8-weights"): "weights stored in a quarter of the bytes, products in FP32",
    (
        "vocoder",
        "int8",
    ): "most of the arithmetic is here: convolutions on integers, with ranges from calibration; layers "
    "stay float where the sound would miss its gates",
}
_SEVEN = "7-bit weights: AVX2 without VNNI adds pairs of products in 16 bits, which 8-bit weights would saturate"
_EIGHT = "8-bit weights: this processor adds products in 32 bits"
# Bytes of one weight, scales included: 4 of them for each block of 64 (8 bits) or 32 (4 bits).
_BYTES = {
    "fp32": 4.0,
    "fp16": 2.0,
    "int8": 1.0,
    "int8-dynamic": 1.0,
    "int8-weights": 1 + 4 / 64,
    "int4-weights": 0.5 + 4 / 32,
}


def why(role: str, precision: str, features: Sequence[str]) -> str:
    """The reason for a precision of a stage's role on a processor with such features."""
    reason = _WHY[role, precision]
    return f"{reason}; {_SEVEN if saturates(features) else _EIGHT}" if precision in ("int8", "int8-dynamic") else reason


def weight_bytes(precision: str) -> float:
    """Bytes that a weight takes, in a file and in memory."""
    return _BYTES[precision]


def head_bytes(precision: str) -> float:
    """The same for the weights of T2S's last product, which never has fewer than 16 bits."""
    return max(2.0, _BYTES[precision])
