"""A recording → what the networks imitate: the same speech on the grid, and its latent.

WORLD takes the recording apart (spectral envelope, F0); the periodic part is synthesised with the grid's F0, the noise
part is the grid's fixed noise under the same envelope. The latent describes exactly that, and nothing of it is learned.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsvexport.errors import EnvironmentProblem
from gsvexport.train.grid import (
    CELLS,
    FEWEST_CYCLES,
    FRICATIVE,
    HOP,
    MOST_CYCLES,
    RATE,
    Floats,
    Plan,
    frequency,
)

BANDS = 47  # of the envelope, every 10 ms
CONTROLS = 9 + (MOST_CYCLES - FEWEST_CYCLES + 1) + CELLS
CHANNELS = 2 * BANDS + CONTROLS
PERIOD = 0.005  # of the analysis, in seconds
_STEPS = 8  # analysis periods per token
_BINS = 1025
_PITCH = (90.0, 300.0)  # Hz
_NOISE_FFT = 1024
_FLOOR = 1e-9


@dataclass(frozen=True)
class Target:
    """`audio` float32 [T·1280] and `latent` float32 [2T, CHANNELS], not normalised."""

    audio: NDArray[np.float32]
    latent: NDArray[np.float32]


def load(path: Path) -> Floats:
    """A WAV file of 32 kHz, mono, as float64."""
    import soundfile

    samples, rate = soundfile.read(path)
    if rate != RATE:
        raise EnvironmentProblem(f"{path} has {rate} Hz", limit=f"{RATE} Hz", fix="install festvox-us-slt-hts")
    return np.asarray(samples, np.float64)


def pitch(samples: Floats, *, refined: bool) -> Floats:
    """F0 in Hz every 5 ms, 0 where unvoiced."""
    world = _world()
    from scipy.signal import resample_poly

    low = resample_poly(samples, 1, 2)
    values, times = world.dio(low, RATE // 2, frame_period=PERIOD * 1000, f0_floor=_PITCH[0], f0_ceil=_PITCH[1])
    return np.asarray(world.stonemask(low, values, times, RATE // 2) if refined else values)


def target(samples: Floats, plan: Plan) -> Target:
    """The recording on the grid of `plan`."""
    world = _world()
    values = pitch(samples, refined=True)
    times = np.arange(len(values)) * PERIOD
    power = world.cheaptrick(samples, values, times, RATE, f0_floor=_PITCH[0], fft_size=2 * (_BINS - 1))
    tokens = len(plan.unit)
    envelope = np.exp(_warped(np.log(power + 1e-10), plan))
    nodes, phase = frequency(plan.cycles)
    track = np.interp(np.arange(len(envelope)) * PERIOD, np.arange(len(nodes)) * 0.02, nodes)
    unvoiced = _aperiodicity()[_kinds(plan)]  # [8T+1, 1025], the share of amplitude that is noise
    periodic = world.synthesize(
        track, envelope * (1 - unvoiced**2) + 1e-12, np.full_like(envelope, 1e-5), RATE, PERIOD * 1000
    )
    length = tokens * 2 * HOP
    audio = np.zeros(length)
    audio[: min(length, len(periodic))] = periodic[:length]
    audio += _noise_part(envelope * unvoiced**2, plan)
    return Target(audio.astype(np.float32), _latent(envelope, plan, nodes, phase))


def _warped(spectrum: Floats, plan: Plan) -> Floats:
    """Log spectra [n, 1025] of the source, at every 5 ms of the grid: [8T+1, 1025]."""
    tokens = len(plan.unit)
    step = np.arange(tokens * _STEPS + 1)
    token = np.minimum(step // _STEPS, tokens - 1)
    ends = np.array([[one.start, one.end, one.tokens] for one in plan.units])[plan.unit[token]]
    along = (plan.place[token] + (step - token * _STEPS) / _STEPS) / ends[:, 2]
    where = np.clip((ends[:, 0] + (ends[:, 1] - ends[:, 0]) * along) / PERIOD, 0, len(spectrum) - 1.001)
    low = where.astype(int)
    share = (where - low)[:, None]
    return spectrum[low] * (1 - share) + spectrum[low + 1] * share


def _kinds(plan: Plan) -> NDArray[np.int64]:
    """Per 5 ms of the grid, [8T+1]: 0 voiced, 1 voiced fricative, 2 unvoiced."""
    units = [plan.units[index] for index in plan.unit]
    kinds = np.array([(1 if one.label in FRICATIVE else 0) if one.voiced else 2 for one in units])
    return np.append(np.repeat(kinds, _STEPS), kinds[-1])


@functools.cache
def _aperiodicity() -> Floats:
    """The share of amplitude that is noise at each of 1025 frequencies, for the three kinds: breath above 7 kHz in
    voiced sounds, friction above 2.2 kHz in voiced fricatives."""
    hertz = np.linspace(0, RATE / 2, _BINS)
    voiced = 0.002 + 0.45 / (1 + np.exp(-(hertz - 7000) / 900))
    friction = 0.03 + 0.9 / (1 + np.exp(-(hertz - 2200) / 300))
    return np.stack([voiced, friction, np.full(_BINS, 0.9999)])


@functools.cache
def fixed_noise() -> Floats:
    """The noise of all unvoiced sounds, [4, 1280]: white, unit variance."""
    return np.random.default_rng(4).standard_normal((CELLS, 2 * HOP))


def _noise_part(power: Floats, plan: Plan) -> Floats:
    """The fixed noise under the power spectrum `power` [8T+1, 1025], by overlap-add every 5 ms: [T·1280]."""
    length, hop = len(plan.unit) * 2 * HOP, round(PERIOD * RATE)
    source = fixed_noise()[np.minimum(plan.place, CELLS - 1)].ravel()
    half = _NOISE_FFT // 2
    padded = np.pad(source, (half, half))
    window = np.sqrt(np.hanning(_NOISE_FFT + 1)[:-1])
    frames = np.lib.stride_tricks.sliding_window_view(padded, _NOISE_FFT)[::hop][: len(power)]
    gain = np.sqrt(power[:, :: (_BINS - 1) // half])
    shaped = np.fft.irfft(np.fft.rfft(frames * window) * gain, _NOISE_FFT) * window
    out = np.zeros(len(padded))
    for number, frame in enumerate(shaped):
        out[number * hop : number * hop + _NOISE_FFT] += frame
    return out[half : half + length] * (2 * hop / _NOISE_FFT)  # shifted Hann windows sum to 1 / (2·hop / size)


def _latent(envelope: Floats, plan: Plan, nodes: Floats, phase: Floats) -> NDArray[np.float32]:
    frames = 2 * len(plan.unit)
    bands = 0.5 * np.log(envelope @ _mel().T + _FLOOR)  # log amplitude, [8T+1, BANDS]

    def smoothed(first: int) -> Floats:
        before, here, after = (bands[first + shift :: 4][:frames] for shift in range(3))
        return 0.25 * before + 0.5 * here + 0.25 * after

    voiced = (_kinds(plan) < 2).astype(np.float64)
    now, later = voiced[0::4][:frames], voiced[2::4][:frames]  # at the frame's start and 10 ms on
    middle = (nodes[:-1] + nodes[1:]) / 2
    angle = 2 * np.pi * phase[:-1]
    angle_later = angle + 2 * np.pi * 0.01 * (nodes[:-1] + middle) / 2
    cycles = np.repeat(plan.cycles, 2)[:, None] == np.arange(FEWEST_CYCLES, MOST_CYCLES + 1)
    cells = np.repeat(np.minimum(plan.place, CELLS - 1), 2)[:, None] == np.arange(CELLS)
    controls = [
        now,
        later,
        np.cos(angle) * now,
        np.sin(angle) * now,
        np.cos(angle_later) * later,
        np.sin(angle_later) * later,
        (nodes[:-1] - 170) / 30 * now,
        (middle - 170) / 30 * later,
        np.tile([1.0, -1.0], frames // 2),
    ]
    parts = [smoothed(0), smoothed(2), np.stack(controls, axis=1), cycles * now[:, None], cells]
    return np.concatenate(parts, axis=1).astype(np.float32)


@functools.cache
def _mel() -> Floats:
    """Triangular bands, equally spaced on O'Shaughnessy's mel scale, each of weight 1: [BANDS, 1025]."""
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + RATE / 1400), BANDS + 2) / 2595) - 1)
    hertz = np.linspace(0, RATE / 2, _BINS)
    rising = (hertz - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - hertz) / np.diff(edges)[1:, None]
    bands = np.maximum(0, np.minimum(rising, falling))
    return np.asarray(bands / bands.sum(axis=1, keepdims=True))


def _world() -> Any:
    try:
        import pyworld
    except ImportError as error:
        raise EnvironmentProblem(
            "analysing speech needs pyworld", fix="python -m pip install 'gsvexport[train]'"
        ) from error
    return pyworld
