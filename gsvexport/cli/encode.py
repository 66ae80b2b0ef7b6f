"""What a recording is written as: the ending of its name decides."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gsvexport.errors import InputError, missing_package
from gsvexport.files import atomic_file

if TYPE_CHECKING:
    from gsvexport.runtime.audio import Audio

WAV = ("", ".wav", ".wave")
# Ending → what soundfile calls container and code. WAV needs nothing; the others its library, as far as it has them.
FORMATS = {".flac": ("FLAC", "PCM_16"), ".ogg": ("OGG", "VORBIS"), ".opus": ("OGG", "OPUS"), ".mp3": ("MP3", None)}
_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)


def check_ending(out: Path) -> None:
    """Refuse an ending that nothing is written as, before anything is spoken.

    Raises:
        InputError: it is none of those that are known, or this machine's library does not have it.
        EnvironmentProblem: it takes a package that is not installed.
    """
    ending = out.suffix.lower()
    if ending in WAV:
        return
    if ending not in FORMATS:
        known = ", ".join((*WAV[1:2], *FORMATS))
        raise InputError(
            f"nothing is known that is written as {out.name}", limit=known, fix="choose one of these endings"
        )
    kind, code = FORMATS[ending]
    if not _soundfile().check_format(kind, code):
        raise InputError(f"the libsndfile here writes no {ending[1:]}", fix="choose .wav or .flac, or update soundfile")


def save(audio: Audio, out: Path, *, force: bool) -> int:
    """Write a recording as its ending says, whole or not at all; returns how many samples had to be clipped.

    Raises: as `check_ending`, and
        InputError: `out` exists and `force` is false, or Opus does not have the voice's rate.
    """
    check_ending(out)
    if (ending := out.suffix.lower()) in WAV:
        return audio.save(out, force=force)
    soundfile = _soundfile()
    kind, code = FORMATS[ending]
    samples, rate = np.clip(audio.samples, -1, 1), audio.rate
    if code == "OPUS" and rate not in _OPUS_RATES:
        from gsvexport.signal.audio import resample

        samples, rate = np.clip(resample(samples, rate, 48000), -1, 1).astype(np.float32), 48000
    with atomic_file(out, force=force) as work, open(work, "wb") as stream:
        soundfile.write(stream, samples, rate, format=kind, subtype=code)
    return int(np.count_nonzero(np.abs(audio.samples) > 1))


def _soundfile() -> Any:
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: the package without its C library
        raise missing_package("soundfile", "writing other files than WAV", "compile") from error
    return soundfile
