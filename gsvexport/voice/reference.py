"""The reference of a voice: the recordings that it is cloned from, and the prompt that it continues."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gsvexport.errors import InputError, VoiceError
from gsvexport.model import Spectrogram
from gsvexport.signal.audio import clipped_share, decode, loudness, spectrogram_frames
from gsvexport.signal.cloning import odd_pace
from gsvexport.stages import POSITIONS, SPEAKER_WIDTH, VERSIONS
from gsvexport.text.phonemise import phonemise
from gsvexport.text.symbols import phone_ids
from gsvexport.untrusted.reading import read_array, why
from gsvexport.voice.dims import SovitsDims
from gsvexport.voice.findings import Findings
from gsvexport.voice.profile import ReferenceTable

REFERENCE_SECONDS = (3.0, 10.0)  # what upstream accepts; other lengths work, less well
SHORTEST_SECONDS = 0.5  # of less, no voice can be cloned
SILENT_DB = -50.0  # below full scale; the 199 recordings of speech that were looked at have -12 to -23
CLIPPED = (0.001, 0.02)  # a note from the first share on, an error above the second; 6 dB too loud is 0.04
_MIN_FRAMES = 2
_MAX_ARRAY_BYTES = 1 << 20


@dataclass(frozen=True, eq=False)
class Reference:
    """What a voice is cloned from.

    `audio` are recordings of the same speaker, averaged. `phones` and `prompt_codes` (int64 [Y]) are the prompt; both
    are None in a prompt-free voice; codes alone are None where they are to be made of the first recording. `speaker`
    has a float32 [20480] for each recording, or none; where the version takes one and there is none, it is to be made.
    """

    audio: tuple[Path, ...]
    text: str | None
    language: str
    phones: tuple[int, ...] | None
    prompt_codes: npt.NDArray[np.int64] | None
    speaker: tuple[npt.NDArray[np.float32], ...]


def read_reference(
    table: ReferenceTable, language: str, dims: SovitsDims, makes: Collection[str]
) -> tuple[Reference, tuple[str, ...]]:
    """A reference for weights of these sizes that speak `language`, and notes; `makes` are the stages of pretrained
    networks that are there.

    Raises:
        VoiceError: everything that is wrong with it.
        EnvironmentProblem: as `gsvexport.voice.voice.read_voice`.
    """
    found = Findings()
    reference = checked_reference(table, language, dims, makes, found)
    if found.problems:
        raise VoiceError("this reference cannot be used", problems=found.problems, fix=found.fix)
    return reference, tuple(found.notes)


def checked_reference(
    table: ReferenceTable, language: str, dims: SovitsDims | None, makes: Collection[str], found: Findings
) -> Reference:
    """A reference; what is wrong goes to `found`. `makes` are the stages of pretrained networks that are there."""
    table = replace(table, language=table.language or language)
    _check_audio(table, dims, found)
    speaker = tuple(array for path in table.speaker if (array := _speaker(path, found)) is not None)
    if dims is not None and VERSIONS[dims.version].speaker:
        if not table.speaker and "speaker" not in makes:
            found.problems.append(
                f'[reference] of a {dims.version} voice needs speaker = "sv.npy" ({SPEAKER_WIDTH} numbers for each '
                'recording), or speaker = "pretrained_eres2netv2w24s4ep4.ckpt" in [pretrained], which makes them'
            )
        elif table.speaker and len(table.speaker) != len(table.audio):
            found.problems.append(f"{len(table.audio)} reference recordings, but {len(table.speaker)} speaker files")
    elif dims is not None and speaker:
        found.notes.append(f"the speaker embedding is ignored: a {dims.version} voice takes none")
        speaker = ()
    phones, codes = _prompt(table, dims, makes, found)
    if phones is not None and table.language != language:
        found.notes.append(f"the reference speaks '{table.language}', the voice '{language}': an accent is likely")
    return Reference(table.audio, table.text, table.language, phones, codes, speaker)


def _prompt(
    table: ReferenceTable, dims: SovitsDims | None, makes: Collection[str], found: Findings
) -> tuple[tuple[int, ...] | None, npt.NDArray[np.int64] | None]:
    """The phones and codes of the prompt, or neither; phones alone where HuBERT makes the codes."""
    if table.text is None and table.phones is None and table.prompt_codes is None:
        if dims is not None and VERSIONS[dims.version].mel is not None:
            found.problems.append(
                f"[reference] of a {dims.version} voice needs its text (or phones) and prompt_codes: {dims.version} "
                "continues a prompt"
            )
            return None, None
        found.notes.append("no text, phones or prompt_codes in [reference]: a prompt-free voice")
        return None, None
    if table.prompt_codes is None and "ssl" not in makes:
        odd = odd_pace(dims.rate, dims.hop) if dims is not None else None
        found.problems.append(
            f"[reference] has no prompt_codes, and they cannot be made: {odd}; leave out its text and phones for a "
            "prompt-free voice"
            if odd
            else '[reference] has no prompt_codes, and no HuBERT to make them: give prompt_codes = "codes.npy", or '
            'hubert = "chinese-hubert-base/" in [pretrained], or leave out text and phones for a prompt-free voice'
        )
    phones = _prompt_phones(table, dims, found) if dims is not None else None
    if phones is not None and len(phones) >= POSITIONS:
        found.problems.append(f"[reference] has {len(phones)} phones, the limit is {POSITIONS - 1}")
    codes = None if table.prompt_codes is None else _codes(table.prompt_codes, dims, found)
    return phones, codes


def _prompt_phones(table: ReferenceTable, dims: SovitsDims, found: Findings) -> tuple[int, ...] | None:
    """The phones as they are given, or else those of the text."""
    if table.phones is None and table.text is None:
        found.problems.append(
            "[reference] has prompt_codes, but no text and no phones: give the text of the recording, or leave out "
            "prompt_codes for a prompt-free voice"
        )
        return None
    try:
        if table.phones is not None:
            return phone_ids(table.phones, dims.symbols)
        text = table.text or ""
        if table.language != "en" and re.search("[A-Za-z]", text) and text.isascii():
            raise InputError(f"'{text[:40]}' has no letter of that language")
        sentences = phonemise(text, table.language, dims.symbols, limit=POSITIONS, prompt=True)
        return phone_ids([phone for sentence in sentences for phone in sentence], dims.symbols)
    except InputError as error:
        if table.phones is not None:
            found.problems += [f"[reference] phones, table {dims.symbols}: {text}" for text in error.problems]
        else:
            texts = error.problems or [error.what]
            found.problems += [f"[reference] text, read in language '{table.language}': {one}" for one in texts]
            found.fix = found.fix or "set language in [reference] to that of the text, or give its phones = [...]"
        return None


def _check_audio(table: ReferenceTable, dims: SovitsDims | None, found: Findings) -> None:
    settings = Spectrogram(dims.rate, dims.n_fft, dims.hop, dims.window_length) if dims else Spectrogram()
    low, high = REFERENCE_SECONDS
    # upstream refuses other lengths of what it makes codes of
    coded = table.audio[:1] if table.prompt_codes is None and (table.text or table.phones) else ()
    for path in table.audio:
        try:
            samples, rate = decode(path)
        except VoiceError as error:
            found.add(error)
            continue
        count = -(-len(samples) * settings.rate // rate)
        seconds = len(samples) / rate
        if seconds < SHORTEST_SECONDS or spectrogram_frames(count, settings) < _MIN_FRAMES:
            found.problems.append(
                f"{path} is too short: {seconds:.2f} s, at least {SHORTEST_SECONDS:g} s; use 3 to 10 seconds of speech"
            )
            continue
        if path in coded and not low <= seconds <= high:
            found.problems.append(
                f"{path} lasts {seconds:.2f} s; prompt codes are made of {low:g} to {high:g} s: cut it, and its text"
            )
        elif not low <= seconds <= high:
            found.notes.append(f"{path.name} lasts {seconds:.1f} s; upstream asks for {low:g} to {high:g} s")
        if (level := loudness(samples, rate)) < SILENT_DB:
            found.problems.append(
                f"{path} is silent: {level:.0f} dB in its loudest tenth of a second, at least {SILENT_DB:g} dB; "
                "record or choose another reference"
            )
        elif (share := clipped_share(samples)) > CLIPPED[1]:
            found.problems.append(
                f"{path} is clipped: {share:.1%} of its samples are cut off, at most {CLIPPED[1]:.0%}; "
                "record it again with less gain"
            )
        elif share > CLIPPED[0]:
            found.notes.append(f"{path.name} is clipped: {share:.2%} of its samples; the voice will sound like that")


def _codes(path: Path, dims: SovitsDims | None, found: Findings) -> npt.NDArray[np.int64] | None:
    array = _array(path, found)
    if array is None:
        return None
    if array.dtype.kind not in "iu" or array.size != max(array.shape, default=0) or not 0 < array.size < POSITIONS:
        found.problems.append(
            f"{path} holds {array.dtype} {list(array.shape)}, not 1 to {POSITIONS - 1} prompt codes int64 [Y]"
        )
        return None
    codes = np.array(array, np.int64).reshape(-1)
    if dims is not None and (bad := sorted({int(code) for code in codes if not 0 <= code < dims.codes})):
        found.problems.append(f"{path} has prompt codes outside 0..{dims.codes - 1}: {bad[:10]}")
    return codes


def _speaker(path: Path, found: Findings) -> npt.NDArray[np.float32] | None:
    array = _array(path, found)
    if array is None:
        return None
    if array.dtype.kind != "f" or array.shape not in ((SPEAKER_WIDTH,), (1, SPEAKER_WIDTH)):
        found.problems.append(f"{path} holds {array.dtype} {list(array.shape)}, not float32 [{SPEAKER_WIDTH}]")
        return None
    with np.errstate(over="ignore"):
        embedding = np.array(array, np.float32).reshape(-1)
    if bad := int(np.count_nonzero(~np.isfinite(embedding))):
        found.problems.append(f"{path} has {bad} NaN or infinite values")
    return embedding


def _array(path: Path, found: Findings) -> npt.NDArray[Any] | None:
    """A `.npy` file as a mapped array: no pickle, no npz, and never more memory than the file has bytes."""
    size = path.stat().st_size
    if size > _MAX_ARRAY_BYTES:
        found.problems.append(f"{path} has {size} bytes; the limit is {_MAX_ARRAY_BYTES}")
        return None
    try:
        array: npt.NDArray[Any] = read_array(path, _MAX_ARRAY_BYTES)
    except (OSError, ValueError) as error:
        found.problems.append(f"{path} is not a .npy file of numbers: it {why(error)}")
        return None
    return array
