"""Sound as callers get it: the formats of OpenAI's API, whole or in pieces."""

from __future__ import annotations

import io
import struct
from math import gcd
from typing import Any

import numpy as np

from gsvexport.errors import InputError
from gsvexport.runtime.audio import Audio
from gsvexport.signal.audio import resample

PCM_RATE = 24_000  # what OpenAI's clients take raw samples for: 16 bits, little-endian, one channel
_OPUS_RATE = 48_000
_UNKNOWN = 0xFFFFFFFF  # a WAV's sizes while it is still being written
_CONTEXT = 64  # samples on each side that the resampling filter cannot see beyond, at any of our rates
MEDIA = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": f"audio/pcm;rate={PCM_RATE}",
}
IN_PIECES = ("wav", "pcm")
_SOUNDFILE = {"mp3": ("MP3", None), "opus": ("OGG", "OPUS"), "flac": ("FLAC", "PCM_16")}


def formats() -> tuple[str, ...]:
    """The formats that can be written here: wav and pcm, and the others as far as soundfile's library has them."""
    soundfile = _soundfile()
    return tuple(
        name
        for name in MEDIA
        if name in IN_PIECES or (soundfile is not None and soundfile.check_format(*_SOUNDFILE[name]))
    )


def check_format(name: str) -> None:
    """Refuse a format before anything is spoken.

    Raises:
        InputError: it is not known, or cannot be written here.
    """
    if name not in (known := formats()):
        where = "is not written by this server" if name in MEDIA else "is no response_format"
        raise InputError(f"{name[:40]!a} {where}", limit=", ".join(known), fix="choose one of these")


def encoded(audio: Audio, name: str) -> bytes:
    """A recording as a file of that format.

    Raises:
        InputError: it cannot be written here.
    """
    check_format(name)
    if name == "pcm":
        return _pcm(resample(audio.samples, audio.rate, PCM_RATE))
    if name == "wav":
        data = audio.pcm().tobytes()
        return wav_header(audio.rate, len(data)) + data
    samples, rate = audio.samples, audio.rate
    if name == "opus" and rate != _OPUS_RATE:
        samples, rate = resample(samples, rate, _OPUS_RATE).astype(np.float32), _OPUS_RATE
    kind, code = _SOUNDFILE[name]
    out = io.BytesIO()
    _soundfile().write(out, np.clip(samples, -1, 1), rate, format=kind, subtype=code)
    return out.getvalue()


def wav_header(rate: int, size: int | None = None) -> bytes:
    """The 44 bytes before 16-bit samples of one channel; without a `size` in bytes, of a file that is still growing."""
    data = _UNKNOWN if size is None else size
    riff = _UNKNOWN if size is None else size + 36
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", riff, b"WAVE", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16, b"data", data
    )


class Pieces:
    """A stream of sound as bytes, piece by piece: together they are what the whole would be."""

    def __init__(self, name: str, rate: int) -> None:
        self._name, self._rate, self._begun = name, rate, False
        self._resampled = Resampled(rate, PCM_RATE) if name == "pcm" else None

    def add(self, audio: Audio) -> bytes:
        """The bytes that this piece makes known; there may be none yet."""
        if self._resampled is not None:
            return _pcm(self._resampled.add(audio.samples))
        before = b"" if self._begun else wav_header(self._rate)
        self._begun = True
        return before + audio.pcm().tobytes()

    def end(self) -> bytes:
        """What is left."""
        return _pcm(self._resampled.end()) if self._resampled is not None else b""


class Resampled:
    """`resample` of a signal that comes in pieces: the same samples, a few of them later."""

    def __init__(self, rate: int, new_rate: int) -> None:
        self._rate, self._new = rate, new_rate
        self._in, self._out = rate // gcd(rate, new_rate), new_rate // gcd(rate, new_rate)
        self._context = self._in * -(-_CONTEXT // self._in)  # so that what is dropped is whole steps of both rates
        self._held = np.zeros(0, np.float32)
        self._done = 0  # output samples of what is held that went out already

    def add(self, samples: np.ndarray[Any, np.dtype[np.float32]]) -> np.ndarray[Any, np.dtype[np.float64]]:
        """The samples that nothing to come can change."""
        self._held = np.concatenate([self._held, samples])
        known = (len(self._held) - self._context) // self._in
        if known * self._out <= self._done:
            return np.zeros(0)
        found = resample(self._held, self._rate, self._new)[self._done : known * self._out]
        keep = max(0, known * self._in - self._context)
        self._held, self._done = self._held[keep:], (known * self._in - keep) // self._in * self._out
        return found

    def end(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """The samples that are left."""
        return resample(self._held, self._rate, self._new)[self._done :] if len(self._held) else np.zeros(0)


def _pcm(samples: np.ndarray[Any, Any]) -> bytes:
    return Audio(samples.astype(np.float32), PCM_RATE).pcm().tobytes()


def _soundfile() -> Any:
    """The library, or None where it is not installed."""
    try:
        import soundfile
    except (ImportError, OSError):  # OSError: the package without its C library
        return None
    return soundfile
