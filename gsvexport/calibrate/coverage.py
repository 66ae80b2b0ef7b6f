"""How much of what a voice can meet a calibration set holds: phones, rates, pitch, codes, lengths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

F0_RANGE = (60.0, 500.0)  # Hz
_F0_RATE = 8000  # samples/s that the autocorrelation works at
_WINDOW, _STEP = 0.04, 0.01  # s; the window holds two periods of the lowest pitch
_PERIODIC = 0.6  # autocorrelation at the period, relative to that at 0, from which a frame counts as voiced
_AS_GOOD = 0.9  # the first peak that reaches this share of the best is the period, not a multiple of it
_SILENT = 0.05  # of the loudest frame's amplitude


@dataclass(frozen=True)
class Finding:
    """Something that a calibration set lacks. `name` is stable, `text` is for a person."""

    name: str
    text: str


@dataclass(frozen=True)
class Pitch:
    """F0 in Hz (5th percentile, median, 95th); `spread`: semitones between the outer two; `voiced`: share in %."""

    low: float
    median: float
    high: float
    spread: float
    voiced: float


@dataclass(frozen=True)
class Codes:
    """Semantic codes said: how many, how many different ones of how many there are, and their entropy in bits."""

    total: int
    distinct: int
    of: int
    entropy: float


@dataclass(frozen=True)
class Coverage:
    """What a calibration set holds. `share` is the part of the inventory that was said, of what the voice can say.

    `missing` are the phones of the languages that no sentence has, `unsayable` those that the voice has no embedding
    for, `left_out` the sentences that need one. `rates` and `prompts` count utterances, `phones_each` and `codes_each`
    are (fewest, median, most), `seconds` is the length of all audio. `notes` say what was not varied.
    """

    languages: tuple[str, ...]
    utterances: int
    sentences: int
    share: float
    missing: tuple[str, ...]
    unsayable: tuple[str, ...]
    left_out: tuple[str, ...]
    rates: dict[str, int]
    prompts: dict[str, int]
    seeds: int
    pitch: Pitch | None
    codes: Codes
    phones_each: tuple[int, int, int]
    codes_each: tuple[int, int, int]
    seconds: float
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `canonical_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Coverage:
        """Rebuild from `to_json`'s value, or from the JSON made of it."""
        pitch = value["pitch"]
        changed = {
            **{name: tuple(item) for name, item in value.items() if isinstance(item, (list, tuple))},
            "pitch": None if pitch is None else Pitch(**pitch),
            "codes": Codes(**value["codes"]),
            "findings": tuple(Finding(**one) for one in value["findings"]),
        }
        return cls(**{**value, **changed})

    def lines(self) -> list[str]:
        """The coverage in words."""
        pitch, codes = self.pitch, self.codes
        rates = ", ".join(f"{rate} ({count})" for rate, count in self.rates.items())
        prompts = ", ".join(f"{name} ({count})" for name, count in self.prompts.items())
        few, _, many = self.codes_each
        short, _, long = self.phones_each
        lines = [
            f"{self.utterances} utterances of {self.sentences} sentences, {self.seconds:.1f} s of speech",
            f"phones: {self.share:.1%} of those of {', '.join(self.languages)}; {short} to {long} in a sentence",
            f"codes: {codes.distinct} of {codes.of}, entropy {codes.entropy:.2f} bits; {few} to {many} in a sentence",
            f"rates {rates}; prompts {prompts}; {self.seeds} seeds",
            f"pitch: {pitch.low:.0f} to {pitch.high:.0f} Hz ({pitch.spread:.1f} semitones), {pitch.voiced:.0f} % voiced"
            if pitch
            else "pitch: no voiced sound",
        ]
        if self.left_out:
            lines.append(f"left out, because the voice lacks their phones: {', '.join(self.left_out)}")
        return [*lines, *self.notes, *(f"warning ({one.name}): {one.text}" for one in self.findings)]


def missing_phones(sentences: Iterable[Sequence[str]], inventory: Collection[str]) -> tuple[str, ...]:
    """The symbols of `inventory`, in its order, that no sentence has."""
    said = {phone for phones in sentences for phone in phones}
    return tuple(symbol for symbol in inventory if symbol not in said)


def findings(missing: Sequence[str], rates: Collection[float]) -> tuple[Finding, ...]:
    """What a calibration set must have and does not."""
    found = []
    if missing:
        found.append(Finding("missing-phones", f"no sentence has {len(missing)} phones: {' '.join(missing)}"))
    if len(set(rates)) < 2:
        only = ", ".join(f"{rate:g}" for rate in sorted(set(rates)))
        found.append(Finding("single-rate", f"everything is said at one speed ({only})"))
    return tuple(found)


def code_usage(codes: Iterable[Ints], of: int) -> Codes:
    """How many codes are used, and the entropy -Σ p·log2 p of their frequencies."""
    counts = np.array(list(Counter(int(code) for one in codes for code in one.ravel()).values()), np.float64)
    total = int(counts.sum())
    share = counts / max(1, total)
    return Codes(total, len(counts), of, round(float(-(share * np.log2(share)).sum()) + 0.0, 4))


def pitch_track(samples: Floats, rate: int) -> Floats:
    """F0 in Hz every 10 ms, NaN where nothing is periodic: samples [N] in ±1 → float32 [frames].

    The first maximum of the normalised autocorrelation r(l) = Σ x(t)·x(t+l) / √(Σ x(t)²·Σ x(t+l)²) that comes near the
    best one between 60 and 500 Hz, refined by a parabola. Enough to say how far pitch ranges, no more.
    """
    factor = max(1, rate // _F0_RATE)
    length = samples.size // factor * factor
    x = samples[:length].reshape(-1, factor).mean(axis=1, dtype=np.float64)  # a box filter, then every factor-th sample
    rate_used = rate / factor
    shortest, longest = int(rate_used / F0_RANGE[1]), int(np.ceil(rate_used / F0_RANGE[0])) + 1
    window, step = int(_WINDOW * rate_used), int(_STEP * rate_used)
    if x.size < window + longest:
        return np.empty(0, np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(x, window + longest)[::step]
    frames = frames - frames.mean(axis=1, keepdims=True)
    head = frames[:, :window]
    size = 1 << int(np.ceil(np.log2(window + 2 * longest + window)))
    products = np.fft.irfft(np.conj(np.fft.rfft(head, size)) * np.fft.rfft(frames, size), size)[:, : longest + 1]
    squares = np.concatenate([np.zeros((len(frames), 1)), np.cumsum(frames**2, axis=1)], axis=1)
    energy = squares[:, window : window + longest + 1] - squares[:, : longest + 1]
    r = products / np.sqrt(np.maximum(energy[:, :1] * energy, 1e-20))

    inner = r[:, shortest:longest]
    is_peak = (inner >= r[:, shortest - 1 : longest - 1]) & (inner > r[:, shortest + 1 : longest + 1])
    peaks = np.where(is_peak, inner, -1)
    best = peaks.max(axis=1)
    lag = shortest + (peaks >= _AS_GOOD * best[:, None]).argmax(axis=1)
    rows = np.arange(len(r))
    before, here, after = r[rows, lag - 1], r[rows, lag], r[rows, lag + 1]
    bend = before - 2 * here + after
    shift = np.where(bend < 0, 0.5 * (before - after) / np.where(bend < 0, bend, -1), 0)
    loud = energy[:, 0] > _SILENT**2 * energy[:, 0].max()
    voiced = (best > _PERIODIC) & loud
    return np.where(voiced, rate_used / (lag + shift), np.nan).astype(np.float32)


def pitch_spread(tracks: Iterable[Floats]) -> Pitch | None:
    """The spread of F0 over all tracks; None when no frame is voiced."""
    every = np.concatenate([np.empty(0, np.float32), *tracks])
    voiced = every[np.isfinite(every)]
    if not voiced.size:
        return None
    low, median, high = (round(float(value), 2) for value in np.percentile(voiced, [5, 50, 95]))
    return Pitch(low, median, high, round(12 * float(np.log2(high / low)), 2), round(100 * voiced.size / every.size, 2))


def spread(counts: Sequence[int]) -> tuple[int, int, int]:
    """(fewest, median, most)."""
    return min(counts), int(np.median(counts)), max(counts)
