"""A user's own recordings as lessons.

A recording gives its codes and its pace. Its sound is made of them by the teacher, because a student learns the
teacher's sound, and because upstream's files hold no encoder that would find a recording's latent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gsvexport.calibrate.run import known_phones
from gsvexport.errors import GsvError, InputError
from gsvexport.files import sha256_file
from gsvexport.progress import Progress, counted, note
from gsvexport.signal.audio import clipped_share, decode, loudness
from gsvexport.signal.cloning import codes_of, odd_pace
from gsvexport.slim.texts import Line
from gsvexport.stages import FRAMES_PER_CODE, POSITIONS
from gsvexport.text.phonemise import phonemise
from gsvexport.text.symbols import phone_ids
from gsvexport.untrusted.reading import lines, read_text, why
from gsvexport.voice.reference import CLIPPED, SILENT_DB
from gsvexport.voice.upstream import LISTED_LANGUAGES

if TYPE_CHECKING:
    from gsvexport.runtime.loaded import LoadedStages

SECONDS = (1.0, 20.0)
_LOUDEST = 2.0  # a peak; full scale is 1
_FIELDS = 4
_MOST_TOLD = 20
_LARGEST = 16 << 20  # bytes of a list
_FIX = "each line is PATH|SPEAKER|LANGUAGE|TEXT, as in upstream's lists"


@dataclass(frozen=True)
class Recording:
    """One line of a list: a sound file, what is said in it, and in which language."""

    place: str
    path: Path
    language: str
    text: str


@dataclass(frozen=True)
class Heard:
    """A recording that can be learned from: the line to say, and the SHA-256 of its file."""

    line: Line
    path: Path
    digest: str


def read_list(path: Path) -> list[Recording]:
    """The recordings of one of upstream's training lists; paths are relative to the list's folder.

    Raises:
        InputError: the file cannot be read, or every line that is none.
    """
    try:
        listed = lines(read_text(path, _LARGEST, mark=True))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} {why(error)}", fix="give a list in UTF-8") from error
    found, problems = [], []
    for number, line in enumerate(listed, 1):
        if not line.strip():
            continue
        fields = [one.strip() for one in line.split("|", _FIELDS - 1)]
        if len(fields) < _FIELDS or not all((fields[0], fields[2], fields[3])):
            problems.append(f"line {number}: {line[:60]!r}")
            continue
        language = LISTED_LANGUAGES.get(fields[2].lower(), fields[2])
        found.append(Recording(f"{path}, line {number}", path.parent / fields[0], language, fields[3]))
    if problems or not found:
        more = [f"and {len(problems) - _MOST_TOLD} lines more"] if len(problems) > _MOST_TOLD else []
        told = [*problems[:_MOST_TOLD], *more] or ["no line"]
        raise InputError(f"{path} is no list of recordings", problems=told, fix=_FIX)
    return found


def heard(voice: LoadedStages, recordings: Sequence[Recording], longest: int, say: Progress) -> list[Heard]:
    """Those that something can be learned from; each of the others is told.

    Raises:
        InputError: the source makes no codes of recordings, or there is nothing to learn from.
    """
    sizes = voice.model.spectrogram
    if "ssl" not in voice.stages:
        if odd := odd_pace(sizes.rate, sizes.hop):
            raise InputError(f"no codes can be made of recordings: {odd}", fix="leave out --recordings")
        raise InputError(
            f"{voice.model.name} has no HuBERT to make codes of recordings",
            fix='add hubert = "chinese-hubert-base/" to [pretrained] in its voice.toml',
        )
    found, last = [], ""
    for place, one in enumerate(recordings):
        say(counted(f"teacher: recording {place + 1} of {len(recordings)}", "recordings", place + 1, len(recordings)))
        try:
            phones = tuple(_phones(voice, one, longest))
            _decoded(one.path)
        except GsvError as error:
            bounds = [f"{name}: {value}" for name in ("found", "limit") if (value := getattr(error, name)) is not None]
            last = f"{one.place} is left out: " + "; ".join((error.what, *error.problems, *bounds))
            say(note(last))
            continue
        found.append(Heard(Line(f"r{place:05d}", phones), one.path, sha256_file(one.path)))
    if not found:
        raise InputError("none of the recordings can be learned from", problems=[last], fix="the lines above say why")
    return found


def codes(voice: LoadedStages, path: Path) -> NDArray[np.int64]:
    """The codes [n] of a recording, without those of the silence that HuBERT is given after it."""
    mono, rate = _decoded(path)
    sizes = voice.model.spectrogram
    lasts = round(len(mono) / rate * sizes.rate / sizes.hop / FRAMES_PER_CODE)
    return codes_of(voice.run, mono, rate)[0, :lasts]


def _decoded(path: Path) -> tuple[NDArray[np.float64], int]:
    """Mono samples [N] and their rate.

    Raises:
        VoiceError, EnvironmentProblem: as `decode`.
        InputError: too short or long, silent, cut off or far beyond full scale.
    """
    samples, rate = decode(path)
    low, high = SECONDS
    if not low * rate <= len(samples) <= high * rate:
        raise InputError(
            f"{path} is too {'short' if len(samples) < low * rate else 'long'}",
            found=f"{len(samples) / rate:.2f} s",
            limit=f"{low:g} to {high:g} s",
        )
    mono = samples.mean(axis=1, dtype=np.float64)
    if (level := loudness(mono[:, None], rate)) < SILENT_DB:
        raise InputError(f"{path} is silent", found=f"{level:.0f} dB below full scale", limit=f"{SILENT_DB:g} dB")
    if (peak := float(np.abs(mono).max())) > _LOUDEST:
        raise InputError(f"{path} is beyond full scale", found=f"{peak:.3g}", limit=f"{_LOUDEST:g}")
    if (share := clipped_share(samples)) > CLIPPED[1]:
        raise InputError(f"{path} is clipped", found=f"{share:.1%}", limit=f"{CLIPPED[1]:.0%}")
    return mono, rate


def _phones(voice: LoadedStages, one: Recording, longest: int) -> Sequence[int]:
    parts = phonemise(one.text, one.language, voice.model.symbols, limit=POSITIONS, prompt=True)
    phones = [phone for part in parts for phone in part]
    if len(phones) > longest:
        raise InputError(f"{len(phones)} phones; data.longest of the recipe is {longest}")
    if unknown := sorted(set(phones) - known_phones(voice.model)):
        raise InputError(f"the voice cannot say {' '.join(unknown)}")
    return phone_ids(phones, voice.model.symbols)
