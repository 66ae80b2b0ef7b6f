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
_ACOUSTIC = 122_400.0  # bytes for a code
_VOCODER = 23.1  # bytes for an element of the widest array
_WINDOW = 2 * 64  # codes of 64 at speed 0.5


def why(role: str, precision: str, features: Sequence[str]) -> str:
    """The reason for a precision of a stage's role."""
    if role != "conditioning" and precision == "fp32":
        return "as in the source"
    return _WHY[precision]


def weight_bytes(precision: str) -> float:
    """Bytes that a weight takes, in a file and in memory."""
    return _BYTES[precision]


def head_bytes(precision: str) -> float:
    """The same for the weights of T2S's last product."""
    return weight_bytes(precision)


def scratch_bytes(tokens: int, widest: int, frames: float) -> float:
    """An estimate of the scratch memory that all engines share, for sentences of up to `tokens` codes: `acoustic` takes
    a whole one, the vocoder windows of 64 codes at half speed, whose widest array has `widest` floats for each of
    `frames` frames of a code.

    The two factors are what tensorrt-rtx 1.7.1 planned for a full-size v2 voice; that of v3, which runs whole, takes
    more than this says.
    """
    return max(_ACOUSTIC * tokens, _VOCODER * widest * _WINDOW * frames)
