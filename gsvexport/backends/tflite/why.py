"""What a precision means in TFLite and why a target would have it, for `gsvexport plan --explain`."""

from __future__ import annotations

from collections.abc import Sequence


def why(role: str, precision: str, features: Sequence[str]) -> str:
    """The reason for a precision of a stage's role."""
    if precision == "int16x8":
        return (
            "an Ethos-U computes with 8-bit weights and 16-bit activations, which are fine enough for sound: as many "
            "of the vocoder's groups of layers as the gates allow, the last tanh among them, in windows of one length"
        )
    return (
        "an Edge TPU computes with 8-bit integers only, from the graph's input on: as many of its first groups of "
        "layers as the sound allows are integers, in windows of one length; the rest is float, on the processor"
    )


def weight_bytes(precision: str) -> float:
    """Bytes that a weight takes at most: those of the rest, which stays float."""
    return 4.0


def head_bytes(precision: str) -> float:
    """The same; no stage with a head comes here."""
    return weight_bytes(precision)
