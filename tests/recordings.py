"""Sounds like speech, with pauses and noise, as somebody would record them."""

import numpy as np

RATE = 16000


def voiced(seconds, peak=0.4):
    time = np.arange(int(RATE * seconds)) / RATE
    phase = 2 * np.pi * np.cumsum(110 + 20 * np.sin(2 * np.pi * time)) / RATE
    values = sum(np.sin(order * phase + order) / order for order in range(1, 20))
    values *= 1.1 + np.sin(2 * np.pi * 3 * time)
    return values / np.abs(values).max() * peak


def recorded(*pieces, noise=-60.0, top=1.0):
    """Pieces of sound, and seconds of pauses between them, with noise of that level, cut off at `top`."""
    values = np.concatenate([np.zeros(int(RATE * one)) if isinstance(one, float) else one for one in pieces])
    values = values + 10 ** (noise / 20) * np.random.default_rng(0).standard_normal(len(values))
    return np.clip(values, -top, top).astype(np.float32)[:, None]
