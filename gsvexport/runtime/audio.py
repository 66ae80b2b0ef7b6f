"""Sound as an array, and the WAV file it is saved as."""

from __future__ import annotations

import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gsvexport.errors import InputError
from gsvexport.files import atomic_file

_OTHERS = (".mp3", ".flac", ".ogg", ".opus", ".m4a", ".aac", ".aiff", ".aif", ".raw", ".pcm")  # endings of other kinds
_FULL_SCALE = 32767  # the largest 16-bit sample; -32768 stays unused, so that +1 and -1 are equally loud


@dataclass(frozen=True, eq=False)
class Audio:
    """Mono sound: `samples` float32 [N], nominally in [-1, 1], at `rate` Hz.

    `notes` say in words what is wrong with the speech in it, sentence by sentence: that it ran away, say.
    """

    samples: NDArray[np.float32]
    rate: int
    notes: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """Length of the sound."""
        return len(self.samples) / self.rate

    def pcm(self) -> NDArray[np.int16]:
        """16-bit samples, little-endian [N]; those outside [-1, 1] are clipped."""
        return np.rint(np.clip(self.samples, -1, 1) * _FULL_SCALE).astype("<i2")

    def save(self, path: str | Path, *, force: bool = True) -> int:
        """Write a 16-bit WAV and return how many samples had to be clipped; see `write_wav`.

        Raises:
            InputError: the ending says that it is something else than a WAV file.
        """
        if Path(path).suffix.lower() in _OTHERS:
            what = f"{path} would hold a WAV file, whatever its ending says"
            raise InputError(what, fix="name it .wav; gsvexport say -o writes other kinds, and so does soundfile")
        return write_wav(Path(path), self.samples, self.rate, force=force)


def write_wav(path: Path, samples: NDArray[np.float32], rate: int, *, force: bool = False) -> int:
    """Write mono 16-bit PCM, whole or not at all, and return the number of samples outside [-1, 1].

    `samples` is [N]; those outside [-1, 1] are clipped.

    Raises:
        InputError: not one-dimensional, or NaN or infinite samples, or `path` exists and `force` is false.
        EnvironmentProblem: the disk is full or not writable.
    """
    values = np.asarray(samples, dtype=np.float32)
    if values.ndim != 1:
        raise InputError(f"{path}: a WAV file takes mono samples [N]", found=f"shape {list(values.shape)}")
    broken = int(np.count_nonzero(~np.isfinite(values)))
    if broken:
        raise InputError(f"{path}: samples must be finite", found=f"{broken} of {values.size} are NaN or infinite")
    clipped = int(np.count_nonzero(np.abs(values) > 1))
    pcm = Audio(values, rate).pcm()
    with atomic_file(path, force=force) as work, wave.open(str(work), "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(rate)
        stream.writeframes(pcm.tobytes())
    return clipped
