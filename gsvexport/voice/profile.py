"""`voice.toml`: strictly read, every problem with its line."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from gsvexport.errors import InputError, VoiceError
from gsvexport.stages import VERSIONS
from gsvexport.system.names import refused
from gsvexport.target.tables import LARGEST, Layers, Reader, Rule, key, key_lines
from gsvexport.untrusted.reading import read_bytes, read_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

NOTICE = "NOTICE"  # a file of this name beside voice.toml needs no mention in it
LARGEST_NOTICE = 1 << 20  # bytes
LANGUAGES = ("zh", "yue", "en", "ja", "ko")
FRONT_ENDS = ("2024-01", "2024-08")  # of v1: what upstream made of Japanese when the voice was trained
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")  # of a voice


@dataclass(frozen=True)
class VoiceTable:
    """`[voice]`: paths as written."""

    name: str = key(str)
    language: str = key(str, *LANGUAGES)
    gpt: str = key(str)
    sovits: str = key(str)
    base: str | None = key(str, default=None)
    version: str | None = key(str, *VERSIONS, default=None)
    front_end: str | None = key(str, *FRONT_ENDS, default=None)
    licence: str | None = key(str, default=None)
    notice: str | None = key(str, default=None)


@dataclass(frozen=True)
class PretrainedTable:
    """`[pretrained]`: a v3 or v4 voice needs its vocoder; the others make what `[reference]` does not give."""

    hubert: str | None = key(str, default=None)
    bert: str | None = key(str, default=None)
    speaker: str | None = key(str, default=None)
    vocoder: str | None = key(str, default=None)


@dataclass(frozen=True)
class SlimTable:
    """`[slim]`, which `gsvexport slim` writes: whose student a voice is, and how it came about.

    `teacher` is the teacher's folder as written, relative to this file; `teacher_gpt` and `teacher_sovits` are the
    SHA-256 of its weights. `losses` are numbers as text, those of the held-out part.
    """

    teacher: str = key(str)
    teacher_gpt: str = key(str)
    teacher_sovits: str = key(str)
    recipe: str = key(str)
    recipe_digest: str = key(str)
    data: str = key(str)
    seed: int = key(int, low=0, high=1 << 62)
    losses: dict[str, str] = key(dict)  # noqa: RUF009 - a field specifier


@dataclass(frozen=True)
class ReferenceTable:
    """`[reference]`: existing files; `phones` as written, ids or names."""

    audio: tuple[Path, ...]
    text: str | None
    language: str
    phones: tuple[str | int, ...] | None
    prompt_codes: Path | None
    speaker: tuple[Path, ...]


@dataclass(frozen=True)
class Profile:
    """A whole `voice.toml`; `gpt`, `sovits`, `base` and the files of the reference exist, and so does what `pretrained`
    names: `vocoder` a file or the folder that holds it, `hubert` and `bert` folders, `speaker` a file. `notice` is what
    every artifact says of the voice's licence."""

    path: Path
    name: str
    language: str
    gpt: Path
    sovits: Path
    version: str | None
    reference: ReferenceTable | None
    base: Path | None = None
    vocoder: Path | None = None
    hubert: Path | None = None
    bert: Path | None = None
    speaker: Path | None = None
    notice: bytes | None = None
    front_end: str | None = None
    slim: SlimTable | None = None


def given_reference(audio: Sequence[Path | str], text: str | None, language: str | None) -> ReferenceTable:
    """A reference that does not come from a `voice.toml`; without a `language` it speaks the voice's.

    Raises:
        InputError: what is wrong with it, all of it.
    """
    problems = [f"there is no recording at {path}" for path in audio if not os.path.isfile(path)]
    if not audio:
        problems.append("a text or a language of a reference comes with its recording")
    if text is not None and not text.strip():
        problems.append("the text is empty; leave it out for a prompt-free voice")
    if language not in (None, *LANGUAGES):
        problems.append(f"language is one of {', '.join(LANGUAGES)}, not {language!r}")
    if problems:
        raise InputError("this reference cannot be used", problems=problems, fix="--reference FILE.wav")
    return ReferenceTable(tuple(map(Path, audio)), text, language or "", None, None, ())


def read_profile(path: Path) -> Profile:
    """Read a `voice.toml`, or the one in a directory.

    Raises:
        VoiceError: absent, not TOML, or with every unknown key, wrong value and missing file, each with its line.
    """
    path = path / "voice.toml" if os.path.isdir(path) else path
    try:
        text = read_text(path, LARGEST, mark=True)  # some editors put a mark before the first line
    except OSError as error:
        raise VoiceError(
            f"there is no voice at {path}: {error.strerror}", fix="pass a voice.toml, or the directory that holds one"
        ) from error
    except ValueError as error:
        raise VoiceError(
            f"{path} is no UTF-8 text of a voice.toml: it {error}",
            fix="pass a voice.toml, saved as UTF-8, or the directory that holds one",
        ) from error
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # numbers too long and tables too deep for Python, besides bad TOML
        raise VoiceError(f"{path} is not valid TOML: {error}", fix="correct that line") from error
    problems: list[str] = []
    lines = {name: f"{path}:{number}" for name, number in key_lines(text).items()}
    reader = _Files(Layers(values, lines), path, problems)
    reader.unknown("", values, ("voice", "reference", "pretrained", "slim"))
    voice = _voice(reader)
    networks = _pretrained(reader, reader.table(PretrainedTable, "pretrained"))
    reference = _reference(reader, voice.language if voice else "en") if "reference" in values else None
    notice = reader.notice(voice) if voice else None
    slim = reader.table(SlimTable, "slim") if "slim" in values else None
    if problems or voice is None:
        raise VoiceError(f"{path} cannot be used", problems=problems, fix="correct voice.toml")
    gpt, sovits = path.parent / voice.gpt, path.parent / voice.sovits
    base = path.parent / voice.base if voice.base is not None else None
    return Profile(
        path,
        voice.name,
        voice.language,
        gpt,
        sovits,
        voice.version,
        reference,
        base,
        vocoder=networks.get("vocoder"),
        hubert=networks.get("hubert"),
        bert=networks.get("bert"),
        speaker=networks.get("speaker"),
        notice=notice,
        front_end=voice.front_end,
        slim=slim,
    )


def _voice(reader: _Files) -> VoiceTable | None:
    if "voice" not in reader.values:
        reader.problem("", "[voice] is missing")
        return None
    table = reader.mapping("voice")
    voice: VoiceTable | None = reader.table(VoiceTable, "voice", table)
    name = table.get("name")
    if isinstance(name, str) and not NAME.fullmatch(name):
        reader.problem("voice.name", f"'name' takes 1 to 64 letters, digits, '.', '_' and '-', not {name!a}")
    elif isinstance(name, str) and (why := refused(name)):
        reader.problem("voice.name", f"'name' {name!a} {why}, and files and folders are named after it")
    for part in ("gpt", "sovits", "base"):
        if part in table:
            reader.file(f"voice.{part}", table[part])
    return voice


def _pretrained(reader: _Files, table: PretrainedTable | None) -> dict[str, Path]:
    found: dict[str, Path | None] = {}
    if table is not None and table.vocoder is not None:
        found["vocoder"] = reader.folder(table.vocoder) or reader.file("pretrained.vocoder", table.vocoder)
    if table is not None and table.speaker is not None:
        found["speaker"] = reader.file("pretrained.speaker", table.speaker)
    for name in ("hubert", "bert"):
        if table is not None and (value := getattr(table, name)) is not None:
            found[name] = reader.folder(value)
            if found[name] is None:
                reader.problem(f"pretrained.{name}", f"'{name}' names {value!r}, which is no folder")
    return {name: path for name, path in found.items() if path is not None}


def _reference(reader: _Files, language: str) -> ReferenceTable | None:
    table = reader.mapping("reference")
    reader.unknown("reference", table, [item.name for item in fields(ReferenceTable)])
    before = len(reader.problems)
    audio = reader.files("reference.audio", table.get("audio"))
    if not audio:
        reader.problem("reference.audio", "[reference] needs 'audio', a recording or a list of several")
    text, phones = table.get("text"), table.get("phones")
    if text is not None and not (isinstance(text, str) and text.strip()):
        reader.problem("reference.text", "'text' takes what the recording says; leave it out for a prompt-free voice")
    if phones is not None and not (
        isinstance(phones, list) and phones and all(type(phone) is str or _is_id(phone) for phone in phones)
    ):
        reader.problem("reference.phones", "'phones' takes a list of phone ids or names")
    language = table.get("language", language)
    reader.check("reference.language", language, Rule(str, LANGUAGES))
    codes = table.get("prompt_codes")
    codes_file = reader.file("reference.prompt_codes", codes) if codes is not None else None
    speaker = reader.files("reference.speaker", table.get("speaker"))
    if len(reader.problems) > before:
        return None
    return ReferenceTable(audio, text, language, None if phones is None else tuple(phones), codes_file, speaker)


def _is_id(phone: Any) -> bool:
    return type(phone) is int and abs(phone) < 1 << 63


class _Files(Reader):
    """A reader that also finds files relative to the TOML file."""

    def file(self, name: str, value: Any) -> Path | None:
        """The existing file that `value` names, or None after noting why there is none."""
        last = name.rpartition(".")[2]
        if not isinstance(value, str) or not value:
            if isinstance(value, str) or not name.startswith("voice."):  # [voice]'s rules have told of other types
                self.problem(name, f"'{last}' takes the name of a file, not {value!r}")
            return None
        path = self._path.parent / value
        if not os.path.isfile(path):  # unlike Path's, false for a name that no file system takes
            self.problem(
                name, f"'{last}' names {path}, which is {'a directory' if os.path.isdir(path) else 'not there'}"
            )
            return None
        return path

    def notice(self, voice: VoiceTable) -> bytes | None:
        """The voice's licence in a line, then its notice, a text that has to lie with the voice."""
        told = f"Licence of the voice: {voice.licence.strip()}\n".encode() if voice.licence else b""
        path = self._path.parent / NOTICE if voice.notice is None else self.file("voice.notice", voice.notice)
        if path is None or not path.is_file():
            return told or None
        if not path.resolve().is_relative_to(self._path.parent.resolve()):
            self.problem("voice.notice", f"'notice' names {path}, which is outside of the voice's folder")
            return None
        try:
            text = read_bytes(path, LARGEST_NOTICE)
        except (OSError, ValueError):
            text = b"\0"
        if b"\0" in text:
            self.problem("voice.notice", f"{path} is no text of at most {LARGEST_NOTICE} bytes")
        return told + (b"\n" if told else b"") + text

    def folder(self, value: str) -> Path | None:
        """The existing folder that `value` names, if it names one."""
        path = self._path.parent / value
        return path if value and os.path.isdir(path) else None

    def files(self, name: str, value: Any) -> tuple[Path, ...]:
        """One file or a list of files."""
        items = value if isinstance(value, list) else [] if value is None else [value]
        found = [self.file(name, item) for item in items]
        return tuple(path for path in found if path is not None)
