"""A voice: two checked weights files, their sizes, and the reference that it speaks like."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from gsvexport.errors import GsvError, InputError, VoiceError
from gsvexport.model import Spectrogram
from gsvexport.signal.audio import clipped_share, decode, loudness, spectrogram_frames
from gsvexport.stages import MARKED_V1, POSITIONS, SPEAKER_WIDTH, SYMBOL_COUNTS, VERSIONS, Mel
from gsvexport.text.phonemise import phonemise
from gsvexport.text.symbols import phone_ids
from gsvexport.untrusted.reading import read_array, why
from gsvexport.voice.checkpoint import Checkpoint, read_checkpoint, without
from gsvexport.voice.dims import SovitsDims, T2SDims, sovits_dims, t2s_dims
from gsvexport.voice.layout import TRAINING_ONLY
from gsvexport.voice.lora import is_lora, merged
from gsvexport.voice.pretrained import NOTHING, Pretrained, read_bert, read_hubert, read_speaker
from gsvexport.voice.profile import Profile, ReferenceTable, read_profile
from gsvexport.voice.version import config_version, find_version, flow_matching
from gsvexport.voice.vocoder import FILES, Vocoder, read_vocoder

REFERENCE_SECONDS = (3.0, 10.0)  # what upstream accepts; other lengths work, less well
SHORTEST_SECONDS = 0.5  # of less, no voice can be cloned
SILENT_DB = -50.0  # below full scale; the 199 recordings of speech that were looked at have -12 to -23
CLIPPED = (0.001, 0.02)  # a note from the first share on, an error above the second; 6 dB too loud is 0.04
_MIN_FRAMES = 2
_MAX_ARRAY_BYTES = 1 << 20
_T = TypeVar("_T")


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


@dataclass(frozen=True, eq=False)
class Voice:
    """A voice that can be exported: every tensor, id and file in it has been checked.

    `path` is the `voice.toml`, `provenance` identifies the weights without naming a place on any machine, `notes` are
    things worth telling that are no errors, `notice` is the licence's text for every artifact.
    `sovits` of a LoRA is merged with its base; v3 and v4 have a `vocoder`.
    """

    name: str
    language: str
    version: str
    path: Path
    gpt: Checkpoint
    sovits: Checkpoint
    t2s: T2SDims
    acoustics: SovitsDims
    reference: Reference | None
    provenance: dict[str, Any]
    notes: tuple[str, ...] = ()
    vocoder: Vocoder | None = None
    pretrained: Pretrained = NOTHING
    notice: bytes | None = None


def read_voice(path: Path | str, reference: ReferenceTable | None = None) -> Voice:
    """Read and check a voice from its `voice.toml`, or from the directory that holds one.

    `reference` takes the place of the one in `voice.toml`.

    Raises:
        VoiceError: with everything that is wrong in `voice.toml`, else everything wrong in the files that it names.
        EnvironmentProblem: a recording or a text has to be read and the extra that does it is not installed.
    """
    profile = read_profile(Path(path))
    found = _Findings()
    gpt = found.collect(lambda: _gpt(profile))
    sovits = found.collect(lambda: _sovits(profile, found))
    if gpt and sovits:
        _compare(gpt[1], sovits.dims, found)
    dims = sovits.dims if sovits else None
    pretrained = _pretrained(profile, dims, found)
    table, made = reference or profile.reference, None
    if table:
        made = _reference(table, profile.language, dims, pretrained.stages, found)
    if found.problems or gpt is None or sovits is None:
        fix = found.fix or f"correct {profile.path.name}, or the files that it names"
        raise VoiceError(f"the voice of {profile.path} cannot be used", problems=found.problems, fix=fix)
    return Voice(
        profile.name,
        profile.language,
        sovits.dims.version,
        profile.path,
        gpt[0],
        sovits.checkpoint,
        gpt[1],
        sovits.dims,
        made,
        {"gpt": _provenance(gpt[0]), **sovits.provenance, **pretrained.provenance},
        tuple(found.notes),
        sovits.vocoder,
        pretrained,
        profile.notice,
    )


def read_reference(
    table: ReferenceTable, language: str, dims: SovitsDims, makes: Collection[str]
) -> tuple[Reference, tuple[str, ...]]:
    """A reference for weights of these sizes that speak `language`, and notes; `makes` are the stages of pretrained
    networks that are there.

    Raises:
        VoiceError: everything that is wrong with it.
        EnvironmentProblem: as `read_voice`.
    """
    found = _Findings()
    reference = _reference(table, language, dims, makes, found)
    if found.problems:
        raise VoiceError("this reference cannot be used", problems=found.problems, fix=found.fix)
    return reference, tuple(found.notes)


@dataclass(frozen=True, eq=False)
class _Sovits:
    """A SoVITS file, merged where it is a LoRA, and the vocoder of its version."""

    checkpoint: Checkpoint
    dims: SovitsDims
    provenance: dict[str, Any]
    vocoder: Vocoder | None


def _gpt(profile: Profile) -> tuple[Checkpoint, T2SDims]:
    checkpoint = read_checkpoint(profile.gpt)
    return checkpoint, t2s_dims(checkpoint)


def _sovits(profile: Profile, found: _Findings) -> _Sovits:
    """The SoVITS file and what it needs besides; a vocoder that is absent or wrong is noted.

    Raises:
        VoiceError: the file or its base cannot be used.
    """
    own = checkpoint = read_checkpoint(profile.sovits)
    provenance, start = {"sovits": _provenance(own)}, ""
    if is_lora(own):
        if profile.base is None:
            raise VoiceError(
                f"{own.path} is a LoRA: its weights belong on top of a base model",
                fix='add base = "s2Gv3.pth" (or "s2Gv4.pth"), upstream\'s pretrained model, to [voice] in voice.toml',
            )
        base = without(read_checkpoint(profile.base), TRAINING_ONLY)
        checkpoint, start = merged(own, base), base.start
        provenance["base"] = _provenance(base)
    elif profile.base is not None:
        raise VoiceError(f"{own.path} is no LoRA, so it takes no base", fix="remove base from [voice] in voice.toml")
    version, _ = find_version(checkpoint, profile.version, start)
    mel, vocoder = VERSIONS[version].mel, None
    if mel is not None and flow_matching(checkpoint.tensors):
        vocoder = found.collect(lambda: _vocoder(profile, version, mel))
        if vocoder:
            provenance["vocoder"] = {"sha256": vocoder.file.sha256, "size": vocoder.file.size}
    dims = sovits_dims(checkpoint, profile.version, vocoder.dims if vocoder else None, start)
    if version == "v1" and _marks_pitch(profile, checkpoint):
        dims = replace(dims, symbols=MARKED_V1)
    return _Sovits(without(checkpoint, TRAINING_ONLY), dims, provenance, vocoder)


def _marks_pitch(profile: Profile, checkpoint: Checkpoint) -> bool:
    """Whether a voice of v1 was trained by upstream of August 2024 or newer, which names the version in the config."""
    if profile.front_end is not None:
        return profile.front_end == "2024-08"
    return profile.language == "ja" and config_version(checkpoint.config) is not None


def _vocoder(profile: Profile, version: str, mel: Mel) -> Vocoder:
    if profile.vocoder is None:
        raise VoiceError(
            f"a {version} voice needs the vocoder that upstream offers for it",
            fix=f'add vocoder = "{FILES[version]}" (or the folder that holds it) to [pretrained] in voice.toml',
        )
    return read_vocoder(profile.vocoder, version, mel)


def _pretrained(profile: Profile, dims: SovitsDims | None, found: _Findings) -> Pretrained:
    """The networks that the voice is given; a speaker network only for a version that takes it."""
    takes = dims is None or VERSIONS[dims.version].speaker
    hubert, bert, speaker = profile.hubert, profile.bert, profile.speaker if takes else None
    return Pretrained(
        found.collect(lambda: read_hubert(hubert)) if hubert else None,
        found.collect(lambda: read_bert(bert)) if bert else None,
        found.collect(lambda: read_speaker(speaker)) if speaker else None,
    )


class _Findings:
    """Problems and notes of one voice, and the advice that came with the first problem."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.fix: str | None = None

    def add(self, error: GsvError) -> None:
        """Keep an error as problems that each name the file."""
        found = [] if error.found is None else [f"found {error.found}"]
        limit = [] if error.limit is None else [f"limit {error.limit}"]
        detail = f" ({', '.join(found + limit)})" if found or limit else ""
        self.problems += [f"{error.what}: {problem}" for problem in error.problems] or [error.what + detail]
        self.fix = self.fix or error.fix

    def collect(self, read: Callable[[], _T]) -> _T | None:
        """What `read` gives; None after noting what is wrong."""
        try:
            return read()
        except VoiceError as error:
            self.add(error)
            return None


def _compare(t2s: T2SDims, dims: SovitsDims, found: _Findings) -> None:
    if t2s.eos != dims.codes:
        found.problems.append(f"the GPT file speaks {t2s.eos} codes, the SoVITS file has {dims.codes}: not one voice")
    if t2s.phones < dims.text_phones:
        found.problems.append(
            f"the GPT file knows {t2s.phones} phones, the SoVITS file ({dims.version}) {dims.text_phones}: "
            "a GPT file of v1 with a SoVITS file of v2 or newer; use files of the same version"
        )
    elif t2s.phones >= SYMBOL_COUNTS["v2"] > dims.text_phones:
        found.notes.append("the GPT file is of v2 or newer and the SoVITS file of v1: probably not one voice")


def _reference(
    table: ReferenceTable, language: str, dims: SovitsDims | None, makes: Collection[str], found: _Findings
) -> Reference:
    """`makes` are the stages of pretrained networks that are there."""
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
    table: ReferenceTable, dims: SovitsDims | None, makes: Collection[str], found: _Findings
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
        found.problems.append(
            '[reference] has no prompt_codes, and no HuBERT to make them: give prompt_codes = "codes.npy", or hubert '
            '= "chinese-hubert-base/" in [pretrained], or leave out text and phones for a prompt-free voice'
        )
    phones = _prompt_phones(table, dims, found) if dims is not None else None
    if phones is not None and len(phones) >= POSITIONS:
        found.problems.append(f"[reference] has {len(phones)} phones, the limit is {POSITIONS - 1}")
    codes = None if table.prompt_codes is None else _codes(table.prompt_codes, dims, found)
    return phones, codes


def _prompt_phones(table: ReferenceTable, dims: SovitsDims, found: _Findings) -> tuple[int, ...] | None:
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


def _check_audio(table: ReferenceTable, dims: SovitsDims | None, found: _Findings) -> None:
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


def _codes(path: Path, dims: SovitsDims | None, found: _Findings) -> npt.NDArray[np.int64] | None:
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


def _speaker(path: Path, found: _Findings) -> npt.NDArray[np.float32] | None:
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


def _array(path: Path, found: _Findings) -> npt.NDArray[Any] | None:
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


def _provenance(checkpoint: Checkpoint) -> dict[str, Any]:
    """What identifies a weights file; upstream's info is left out where somebody has put a path into it."""
    info = "" if any(mark in checkpoint.info for mark in "/\\") else checkpoint.info
    return {"sha256": checkpoint.sha256, "size": checkpoint.size, "header": checkpoint.header, "info": info}
