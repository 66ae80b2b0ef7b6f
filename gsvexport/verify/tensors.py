"""How far an array is from its reference: pure functions on numpy arrays, computed in float64.

Every function takes the reference first. Shapes must be equal; a NaN or an infinity in either array gives NaN, which
no gate accepts (`gates.judge`). Only the signal-to-noise ratio is unbounded by nature: it is capped, see `SNR_CAP`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsvexport.errors import InputError

Array = NDArray[Any]

# Identical arrays have an infinite ratio, which JSON cannot hold: 200 dB stands for it, and for nothing else. Arrays
# that differ are cut at 199 dB, which only a last bit here and there reaches (rounding to float32 is near 150 dB).
SNR_CAP = 200.0
_SNR_BEST = 199.0


def max_abs_error(reference: Array, value: Array) -> float:
    """max |x - r|, in the unit of the arrays; 0 for empty ones."""
    r, x = _pair(reference, value)
    return float(np.max(np.abs(x - r), initial=0.0))


def scaled_error(reference: Array, value: Array) -> float:
    """max |x - r| / max(1, max |r|): absolute for small signals, relative to the peak for large ones.

    One limit then fits logits of ±30 and audio of ±1 alike.
    """
    r, x = _pair(reference, value)
    return float(np.max(np.abs(x - r), initial=0.0) / max(1.0, float(np.max(np.abs(r), initial=0.0))))


def relative_error(reference: Array, value: Array) -> float:
    """‖x - r‖ / ‖r‖ (Euclidean); 0 when both are zero, 1 when only the reference is."""
    r, x = _pair(reference, value)
    norm, error = float(np.linalg.norm(r)), float(np.linalg.norm(x - r))
    if norm == 0.0:
        return 0.0 if error == 0.0 else 1.0
    return error / norm


def snr_db(reference: Array, value: Array) -> float:
    """10·log10(Σ r² / Σ (r - x)²) in dB, for identical arrays `SNR_CAP`, else limited to -200..199."""
    r, x = _pair(reference, value)
    signal, noise = float(np.sum(r * r)), float(np.sum((r - x) ** 2))
    if np.array_equal(r, x):
        return SNR_CAP
    if noise == 0.0:  # differences too small to square
        return _SNR_BEST
    if signal == 0.0:
        return -SNR_CAP
    return float(np.clip(10.0 * (np.log10(signal) - np.log10(noise)), -SNR_CAP, _SNR_BEST))


def cosine_distance(reference: Array, value: Array) -> float:
    """1 - the cosine of the angle between the flattened arrays; 0 when both are zero, 1 when one is.

    As a distance it keeps its digits where it matters, close to 0.
    """
    r, x = _pair(reference, value)
    norms = float(np.linalg.norm(r)), float(np.linalg.norm(x))
    if 0.0 in norms:
        return 0.0 if norms[0] == norms[1] else 1.0
    # |r/‖r‖ - x/‖x‖|² / 2 is the same number without the cancellation.
    return float(np.sum((r / norms[0] - x / norms[1]) ** 2) / 2.0)


def equal_share(reference: Array, value: Array) -> float:
    """Share of equal elements, for codes and tokens; 1 for empty arrays."""
    r, x = _pair(reference, value)
    return float(np.mean(r == x)) if r.size else 1.0


def top_k_agreement(reference: Array, value: Array, k: int) -> float:
    """Mean over rows of |A ∩ B| / k, where A and B are the k best columns of the reference and of the value.

    Logits [n, V]. With k = 1 this is the share of rows with the same arg-max; with k = 15 (the sampler's default) the
    share of candidates that the sampler would still draw from. Order inside the k plays no part; among equal scores the
    lower column wins. k is cut to V.
    """
    r, x = _pair(reference, value)
    k = min(k, r.shape[-1])
    if np.isnan(r).any() or np.isnan(x).any():
        return float("nan")
    best, other = (np.argsort(-a, axis=-1, kind="stable")[..., :k] for a in (r, x))
    shared = [len(np.intersect1d(a, b)) for a, b in zip(best, other, strict=True)]
    return float(np.mean(shared)) / k


def kl_divergence(reference: Array, value: Array) -> float:
    """Mean over rows of KL(softmax(reference) ‖ softmax(value)) in nats, for logits [n, V]."""
    r, x = (_log_softmax(a) for a in _pair(reference, value))
    return float(np.mean(np.sum(np.exp(r) * (r - x), axis=-1)))


def _log_softmax(logits: Array) -> Array:
    shifted = logits - np.max(logits, axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True)))


def _pair(reference: Array, value: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if reference.shape != value.shape:
        raise InputError("only arrays of one shape can be compared", found=value.shape, limit=reference.shape)
    return np.asarray(reference, np.float64), np.asarray(value, np.float64)
