"""Writes the voice.toml of a draft, and copies its files where that is asked for.

A file near the voice's folder is named relative to it, so that both can be moved together; any other by its full path.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from gsvexport.errors import InputError
from gsvexport.files import atomic_file, refuse_existing
from gsvexport.stages import VERSIONS
from gsvexport.untrusted.reading import Refused, opened, why
from gsvexport.voice import upstream
from gsvexport.voice.draft import Draft, missing

FILE = "voice.toml"
_NEAR = 3  # folders that a relative path goes up at most
_LARGEST_COPY = {"weights": 4 << 30, "recording": 256 << 20}  # bytes


def write(draft: Draft, folder: Path, *, copy: bool = False, force: bool = False) -> Draft:
    """Write the draft's voice.toml into `folder`; with `copy` also its weights and recordings.

    Returns the draft as it was written. All of it appears, or nothing. Upstream's networks stay where they are: many
    voices share them.

    Raises:
        InputError: something of it exists and `force` is false, or a path cannot be written into a text file.
        EnvironmentProblem: the disk is full or not writable.
    """
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise InputError(f"{folder} is a file; a voice is a folder", fix="choose another one with -o")
    refuse_existing(folder / FILE, force=force)
    new = not os.path.isdir(folder)
    copies, written = _copies(draft, folder) if copy else ({}, draft)
    try:
        with contextlib.ExitStack() as stack:  # left in reverse order: voice.toml appears last
            work = stack.enter_context(atomic_file(folder / FILE, force=force))
            work.write_bytes(toml(written, folder).encode())
            for target, (source, kind) in copies.items():
                _copy(source, stack.enter_context(atomic_file(target, force=force)), _LARGEST_COPY[kind])
    except BaseException:
        if new:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise
    return written


def toml(draft: Draft, folder: Path) -> str:
    """The text of the voice.toml in `folder`.

    Raises:
        InputError: a path that is no text, on a system where paths are bytes.
    """

    def quoted(path: Path) -> str:
        return _string(written_path(path, folder))

    mel, audio = VERSIONS[draft.version].mel, [quoted(path) for path in draft.audio]
    lines = [
        "# A voice of GPT-SoVITS, begun by `gsvexport init`. Build it with: gsvexport --target NAME FOLDER",
        "# Paths are relative to this file, or whole.",
        "",
        "[voice]",
        f"name = {_string(draft.name)}",
        "# What it speaks, where nothing else is asked for: zh, yue, en, ja or ko.",
        f'language = "{draft.language}"' if draft.language else '# language = "en"     # missing',
        "# v1, v2, v2Pro, v2ProPlus, v3 or v4, as its files say.",
        f'version = "{draft.version}"',
        f"gpt = {quoted(draft.gpt)}",
        f"sovits = {quoted(draft.sovits)}",
    ]
    if draft.lora:
        name = Path(upstream.BASES[draft.version]).name
        lines += ["# It is a LoRA: upstream's own model, which it was trained on, is its base."]
        lines += [f"base = {quoted(draft.base)}" if draft.base else f'# base = "{name}"     # missing']
    lines += [
        "# Every artifact tells its licence: this line, and a file called NOTICE beside this one.",
        '# licence = "CC-BY-4.0"',
        "",
        "# The recording that it speaks like: 3 to 10 seconds, or a list of several, which are averaged.",
    ]
    lines += ["[reference]"] if audio else ["# [reference]     # missing"]
    lines += (
        [f"audio = {audio[0] if len(audio) == 1 else '[' + ', '.join(audio) + ']'}"]
        if audio
        else ['# audio = "ref.wav"']
    )
    optional = "" if mel is not None else " Without it the voice is not prompted, and less like the recording."
    lines += [f"# What is said in the first of them, to the letter.{optional}"]
    if draft.text is not None:
        lines += [f"{'' if audio else '# '}text = {_string(draft.text)}"]
    else:
        lines += ['# text = "What is said in it."' + ("     # missing" if mel is not None or not audio else "")]
    if audio:
        lines += ["# The language of that text, where it is not the voice's."]
        lines += [f'language = "{draft.spoken}"' if draft.spoken else '# language = "ja"']
    return "\n".join([*lines, "", *_networks(draft, quoted), ""])


def _networks(draft: Draft, quoted: Callable[[Path], str]) -> list[str]:
    absent = {need.option: need.networks for need in missing(draft)}
    lines = ["# Upstream's networks; all voices may share them.", "[pretrained]"]
    for key, path, what in (
        ("hubert", draft.hubert, "recording → prompt codes"),
        ("speaker", draft.speaker, "recording → speaker embedding (v2Pro, v2ProPlus)"),
        ("bert", draft.bert, "Mandarin text → features"),
        ("vocoder", draft.vocoder, "mel → sound (v3, v4)"),
    ):
        if path is not None:
            lines += [f"# {what}", f"{key} = {quoted(path)}"]
        elif f"--{key}" in absent:
            lines += [f"# {what}", f'# {key} = "{absent[f"--{key}"]}"     # missing']
    return lines


def written_path(path: Path, folder: Path) -> str:
    """A path as a file in `folder` names it: relative where it is near, else whole; with / on every system."""
    place = Path(os.path.realpath(folder))
    whole = Path(os.path.realpath(path.parent)) / path.name  # a link itself stays what the user named
    try:
        near = os.path.relpath(whole, place)
        shared = Path(os.path.commonpath([whole, place]))
    except ValueError:  # another drive
        return whole.as_posix()
    parts = Path(near).parts
    if parts.count(os.pardir) > _NEAR or (shared == Path(shared.anchor) and parts[:1] == (os.pardir,)):
        return whole.as_posix()
    return Path(near).as_posix()


def _string(text: str) -> str:
    """A string of TOML, which is JSON's, but that DEL has to be escaped, too."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"{text!a} is no text, so no voice.toml can name it", fix="rename it, or copy it into the voice with --copy"
        ) from None
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _copies(draft: Draft, folder: Path) -> tuple[dict[Path, tuple[Path, str]], Draft]:
    """What is copied to where, and the draft that names the copies. What lies in the folder already is not copied."""
    copies: dict[Path, tuple[Path, str]] = {}

    def copied(path: Path, name: str, kind: str) -> Path:
        if os.path.realpath(path.parent) == os.path.realpath(folder):
            return path
        copies[folder / name] = (path, kind)
        return folder / name

    audio = tuple(
        copied(path, f"reference{'' if index == 1 else f'-{index}'}{_ending(path)}", "recording")
        for index, path in enumerate(draft.audio, 1)
    )
    gpt, sovits = copied(draft.gpt, "gpt.ckpt", "weights"), copied(draft.sovits, "sovits.pth", "weights")
    return copies, replace(draft, gpt=gpt, sovits=sovits, audio=audio)


def _ending(path: Path) -> str:
    ending = path.suffix.lower()
    return ending if ending.isascii() and ending[1:].isalnum() and len(ending) < 8 else ".wav"


def _copy(source: Path, target: Path, limit: int) -> None:
    try:
        with opened(source) as stream, open(target, "wb") as out:
            if (size := os.fstat(stream.fileno()).st_size) > limit:
                raise InputError(
                    f"{source} is too large to be copied",
                    found=f"{size} bytes",
                    limit=f"{limit} bytes",
                    fix="leave --copy out",
                )
            shutil.copyfileobj(stream, out, 1 << 20)
    except Refused as error:
        raise InputError(f"{source} {why(error)}", fix="name a file") from error
