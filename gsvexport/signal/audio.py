"""A recording as the reference encoder sees it: decoded, resampled, and as a linear magnitude spectrogram."""

from __future__ import annotations

from math import ceil, gcd
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gsvexport.errors import InputError, VoiceError, missing_package
from gsvexport.model import Spectrogram
from gsvexport.stages import MEL_BANDS, Mel
from gsvexport.untrusted.reading import Refused, opened, why

Samples = npt.NDArray[np.float32]

MAX_SECONDS = 60.0
_ZERO_CROSSINGS = 6  # on each side of the resampling filter: torchaudio's default `lowpass_filter_width`
_ROLLOFF = 0.99  # its cutoff relative to the lower Nyquist frequency: torchaudio's default as well
_SHARP_CROSSINGS = 90
_SHARP_ROLLOFF = 0.9565  # the middle of the transition band
_SHARP_BETA = 12.3  # 120 dB (Kaiser 1974)
_CHUNK = 1 << 16
_TABLE = 1 << 22  # values of kernels that are computed once
_QUIETEST = 1e-5  # mel magnitude
_SILENT_CHANNEL = 1e-3  # of the loudest channel's range, -60 dB
_MAX_VALUES = 1 << 25  # decoded samples of all channels: 60 s at 192 kHz in stereo is 23 million


def read_audio(path: Path, rate: int) -> Samples:
    """Decode a sound file to mono float32 [N] at `rate` Hz; channels are averaged.

    Raises:
        VoiceError: absent, not a sound file, empty, all zero, longer than `MAX_SECONDS`, or with NaN or infinite
            samples.
        EnvironmentProblem: the extra `compile` is not installed.
    """
    samples, own_rate = decode(path)
    return resample(samples.mean(axis=1, dtype=np.float64), own_rate, rate).astype(np.float32)


def decode(path: Path, longest: float = MAX_SECONDS) -> tuple[Samples, int]:
    """The samples float32 [N, channels] of a sound file of at most `longest` seconds, and their rate in Hz.

    Raises:
        VoiceError, EnvironmentProblem: as `read_audio`.
    """
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: the package without its C library
        raise missing_package("soundfile", "reading a reference recording", "compile") from error
    try:
        # A descriptor: from the name of a path soundfile would guess a headerless format, and for a Python file its C
        # library calls back into Python, where a Ctrl-C would be swallowed.
        with opened(path) as stream, soundfile.SoundFile(stream.fileno(), closefd=False) as sound:
            frames, channels, own_rate = sound.frames, sound.channels, sound.samplerate
            if frames * channels > _MAX_VALUES or frames > longest * own_rate:
                raise VoiceError(
                    f"{path} is too long for a reference",
                    found=f"{frames} frames of {channels} channels at {own_rate} Hz",
                    limit=f"{longest:g} s, {_MAX_VALUES} samples",
                    fix="cut a reference of 3 to 10 seconds",
                )
            samples: Samples = sound.read(frames, dtype="float32", always_2d=True)
    except (OSError, Refused) as error:
        raise VoiceError(f"{path} {why(error)}", fix="check the path") from error
    except (RuntimeError, ValueError, TypeError) as error:
        reason = getattr(error, "error_string", error)  # soundfile's own text spells the file object out
        raise VoiceError(
            f"{path} is not a sound file that can be decoded ({reason})", fix="convert it to WAV"
        ) from error
    if not samples.any():
        found = f"{samples.size} samples" + (", all of them zero" if samples.size else "")
        raise VoiceError(f"{path} holds no sound", found=found, fix="record or choose another reference")
    if not np.isfinite(samples).all():
        raise VoiceError(f"{path} has NaN or infinite samples", fix="record or choose another reference")
    return samples, own_rate


def loudness(samples: Samples, rate: int) -> float:
    """The level in dB below full scale of the loudest tenth of a second of [N, channels], the mean of it taken off."""
    mono = samples.mean(axis=1, dtype=np.float64)
    size = min(len(mono), max(1, rate // 10))
    frames = mono[: len(mono) // size * size].reshape(-1, size)
    power = frames.var(axis=1).max()
    return float(10 * np.log10(max(power, 1e-20)))


def clipped_share(samples: Samples) -> float:
    """The share of samples of [N, channels] that stand on a plateau: three equal ones in a row at 99 % of the peak.

    Sound that was cut off keeps its plateaus when it is made quieter afterwards, so the peak counts and not full scale.
    The steps of 8-bit sound can look like plateaus.
    """
    spread = np.ptp(samples, axis=0)
    samples = samples[:, spread > _SILENT_CHANNEL * spread.max()]  # one that nothing was recorded on cuts nothing off
    if not samples.size:
        return 0.0
    size = np.abs(samples)
    high = size >= 0.99 * size.max(axis=0, keepdims=True)
    flat = high[1:] & (samples[1:] == samples[:-1])
    runs = flat[1:] & flat[:-1]
    plateau = np.zeros(samples.shape, bool)
    for shift in range(3):
        plateau[shift : shift + len(runs)] |= runs
    return float(plateau.mean(axis=0).max())


def resample(
    samples: npt.NDArray[np.floating], rate: int, new_rate: int, *, sharp: bool = False
) -> npt.NDArray[np.float64]:
    """Change the sampling rate of [N] to ceil(N·new_rate/rate) samples, in float64.

    Band-limited interpolation: y[m] = Σ_n x[n]·h(n - m·rate/new_rate) with a sinc under a Hann window, as torchaudio's
    `resample` defines it by default (https://ccrma.stanford.edu/~jos/resample/). Each output takes only the few inputs
    that its window covers, so unusual pairs of rates cost no more than usual ones. `sharp` keeps what is below
    0.913 of the lower Nyquist frequency and drops what is above it to -120 dB, with a Kaiser window: soxr's "HQ", with
    which upstream's librosa reads what HuBERT is fed.
    """
    values = np.asarray(samples, np.float64)
    if rate == new_rate:
        return values
    common = gcd(rate, new_rate)
    old, new = rate // common, new_rate // common
    rolloff, crossings = (_SHARP_ROLLOFF, _SHARP_CROSSINGS) if sharp else (_ROLLOFF, _ZERO_CROSSINGS)
    cutoff = min(old, new) * rolloff / old  # in cycles for each pair of inputs
    reach = ceil(crossings / cutoff)
    padded = np.pad(values, (reach, reach + 1))
    taps = np.arange(-reach, reach + 1)
    out = np.empty(-(-len(values) * new // old))
    step = max(1, _CHUNK // len(taps))

    def kernels(part: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        distance = np.clip((taps - part[:, None] / new) * cutoff, -crossings, crossings)
        if sharp:
            window = np.i0(_SHARP_BETA * np.sqrt(1 - (distance / crossings) ** 2)) / np.i0(_SHARP_BETA)
        else:
            window = np.cos(distance * (np.pi / 2 / crossings)) ** 2
        return np.sinc(distance) * window * cutoff

    table = kernels(np.arange(new)) if new * len(taps) <= _TABLE else None
    for start in range(0, len(out), step):
        place = np.arange(start, min(start + step, len(out)), dtype=np.int64) * old
        whole, part = np.divmod(place, new)  # exact: the output lies `part/new` after input number `whole`
        inputs = padded[whole[:, None] + taps + reach]
        out[start : start + len(place)] = np.einsum("ij,ij->i", inputs, kernels(part) if table is None else table[part])
    return out


def spectrogram_frames(samples: int, parameters: Spectrogram) -> int:
    """How many frames R `spectrogram` gives; 0 where the recording is too short to be reflected at its ends."""
    pad = (parameters.n_fft - parameters.hop) // 2
    return 0 if samples <= pad else max(0, (samples + 2 * pad - parameters.n_fft) // parameters.hop + 1)


def spectrogram(samples: Samples, parameters: Spectrogram) -> Samples:
    """Linear magnitudes float32 [1, n_fft/2 + 1, R] of mono samples [N], computed in float64.

    As upstream's `spectrogram_torch`: Hann window (periodic), reflected by (n_fft - hop)/2 at both ends, no further
    centring, sqrt(re² + im² + 1e-8). A recording that exceeds ±1 is divided by its peak, at most by 2.

    Raises:
        InputError: not one channel, not finite, or too short for a frame.
    """
    values = np.asarray(samples, np.float64)
    n_fft, hop, length = parameters.n_fft, parameters.hop, parameters.window
    if values.ndim != 1 or not np.isfinite(values).all() or not spectrogram_frames(len(values), parameters):
        raise InputError(
            "the reference recording gives no spectrogram",
            found=f"shape {list(values.shape)}",
            limit=f"mono, finite, at least {n_fft - 2 * ((n_fft - hop) // 2)} samples",
        )
    if (peak := np.abs(values).max()) > 1:
        values = values / min(2.0, peak)
    magnitude = _magnitudes(values, n_fft, hop, length)
    return magnitude.T[None].astype(np.float32)


def mel_spectrogram(samples: Samples, mel: Mel) -> npt.NDArray[np.float64]:
    """Natural logarithms float64 [1, 100, M] of the mel magnitudes of mono samples [N] at `mel.rate`.

    As upstream's `mel_spectrogram_torch`: frames as in `spectrogram`, but no peak is divided by; `mel_filters` from 0
    to half the rate; nothing below 1e-5.
    """
    magnitude = _magnitudes(np.asarray(samples, np.float64), mel.window, mel.hop, mel.window)
    filtered = magnitude @ mel_filters(mel.rate, mel.window, MEL_BANDS).T
    return np.asarray(np.log(np.maximum(filtered, _QUIETEST)).T[None])


def mel_filters(rate: int, n_fft: int, bands: int) -> npt.NDArray[np.float64]:
    """Triangular filters [bands, n_fft/2 + 1], each of area 1, evenly spaced on Slaney's mel scale: linear below
    1000 Hz (200/3 Hz a mel), 27 mels for each factor of 6.4 above (Auditory Toolbox, 1998)."""
    knee, slope, step = 1000.0, 200.0 / 3, np.log(6.4) / 27
    top = knee / slope + np.log(rate / 2 / knee) / step
    mels = np.linspace(0, top, bands + 2)
    edges = np.where(mels < knee / slope, mels * slope, knee * np.exp((mels - knee / slope) * step))[:, None]
    frequencies, width = np.linspace(0, rate / 2, n_fft // 2 + 1), np.diff(edges, axis=0)
    rising, falling = (frequencies - edges[:-2]) / width[:-1], (edges[2:] - frequencies) / width[1:]
    return np.asarray(np.maximum(0, np.minimum(rising, falling)) * 2 / (edges[2:] - edges[:-2]))


def _magnitudes(values: npt.NDArray[np.float64], n_fft: int, hop: int, length: int) -> npt.NDArray[np.float64]:
    """Linear magnitudes [R, n_fft/2 + 1] of frames under a Hann window, reflected at both ends."""
    pad = (n_fft - hop) // 2
    padded = np.pad(values, pad, mode="reflect")
    window = np.zeros(n_fft)
    left = (n_fft - length) // 2
    window[left : left + length] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop]
    spectrum = np.fft.rfft(frames * window, axis=-1)
    return np.asarray(np.sqrt(spectrum.real**2 + spectrum.imag**2 + 1e-8))
