"""What each precision means in TensorRT and why a target would have it, for `gsvexport plan --explain`."""

from __future__ import annotations

from collections.abc import Sequence

_WHY = {
    "fp32": "runs once for a voice, so speed and size gain nothing from less",
    "fp16": (
        "every edge typed: products and convolutions in FP16; norms, softmax, exponentials, residual sums and whatever "
        "calibration saw near FP16's limit in FP32"
    ),
}
_BYTES = {"fp32": 4.0, "fp16": 2.0}


def why(role: str, precision: str, features: Sequence[str]) -> str:
    """The reason for a precision of a stage's role."""
    if role != "conditioning" and precision == "fp32":
        return "as in the source"
    return _WHY[precision]


def weight_bytes(precision: str) -> float:
    """Bytes that a weight takes, in a file and in memory."""
    return _BYTES[precision]


def head_bytes(precision: str) -> float:
    """The same for the weights of T2S's last product, which computes in FP32."""
    return 4.0
