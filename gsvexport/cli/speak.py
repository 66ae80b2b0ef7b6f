"""What `say` does: options into one call of the runtime."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gsvexport.cli.echo import echo
from gsvexport.cli.encode import check_ending, save
from gsvexport.errors import InputError
from gsvexport.files import refuse_existing
from gsvexport.progress import Progress, counted
from gsvexport.stages import MAX_TOKENS
from gsvexport.untrusted.reading import Refused, read_text, utf8, why

LONGEST_ARGUMENT = 10_000  # characters
_LARGEST_TEXT = 1 << 20  # bytes

if TYPE_CHECKING:
    from gsvexport.runtime.audio import Audio


def text_of(text: str | None, file: Path | None) -> str | None:
    """The text that was given as an argument, or in a file; None where none was.

    Raises:
        InputError: both were given, it is too long, or no UTF-8.
    """
    if file is not None and text is not None:
        raise InputError("both a text and --text-file were given", fix="give one of them")
    if file is None:
        if text is not None and len(text) > LONGEST_ARGUMENT:
            found, fix = f"{len(text)} characters", "put it into a file: --text-file FILE, or - for standard input"
            raise InputError("the text is too long for an argument", found=found, limit=LONGEST_ARGUMENT, fix=fix)
        return text
    where = "standard input" if str(file) == "-" else str(file)
    try:
        if str(file) == "-":
            data = sys.stdin.buffer.read(_LARGEST_TEXT + 1)
            if len(data) > _LARGEST_TEXT:
                raise Refused(f"has more than {_LARGEST_TEXT} bytes")
            return utf8(data, mark=True)
        return read_text(file, _LARGEST_TEXT, mark=True)
    except (OSError, ValueError) as error:
        raise InputError(f"{where} {why(error)}", fix="give a text in UTF-8") from error


class Chosen(NamedTuple):
    """A phrase of a pack: its phones, and the phone table that these are names of."""

    phones: tuple[str, ...]
    symbols: str


def chosen_phrase(
    pack: Path | None, phrase: str | None, slots: tuple[str, ...], otherwise: str | None
) -> Chosen | None:
    """What `--pack`, `--phrase` and `--slot` name together; None where none of them is given.

    Raises:
        InputError: one of them without the others, something else to say besides, no pack, or values that it lacks.
    """
    if pack is None and phrase is None and not slots:
        return None
    if pack is None or phrase is None:
        raise InputError("a phrase is named by --pack and --phrase", fix="--pack FILE --phrase NAME --slot metres=250")
    if otherwise is not None:
        raise InputError("both a phrase and something else to say were given", fix="give one of them")
    if wrong := [one for one in slots if "=" not in one]:
        raise InputError(f"--slot takes SLOT=VALUE, not {wrong[0]!r}", fix="--slot metres=250")
    from gsvexport.phrases.pack import read_pack

    found = read_pack(pack)
    values = {name: value for name, _, value in (one.partition("=") for one in slots)}
    return Chosen(found.phrase(phrase).phones(values), found.symbols)


def speak(
    artifact: Path,
    text: str | None,
    phones: str | None,
    out: Path,
    *,
    language: str | None,
    force: bool,
    threads: int | None,
    any_machine: bool,
    no_prompt: bool,
    greedy: bool,
    max_tokens: int | None,
    seed: int,
    speed: float,
    noise_scale: float | None,
    stream: bool = False,
    ahead: int | None = None,
    key: str | None = None,
    steps: int | None = None,
    cfg_rate: float = 0.0,
    solver: str = "euler",
    progress: Progress | None = None,
    retry: bool = False,
    phrase: Chosen | None = None,
    **chosen: Any,
) -> str:
    """Speak into `out`; returns a line that says what came of it.

    `chosen` holds sampling settings by name; None leaves the voice's own. `progress` is told of each of several
    sentences.

    Raises:
        InputError: wrong arguments, a text that cannot be read, unknown phones, or `out` exists and `force` is false.
        EnvironmentProblem: the extra of the text's language is not installed.
        ArtifactError, BackendError: the artifact cannot be loaded or run, or was made for another machine and
            `any_machine` is false.
    """
    from gsvexport.runtime.ahead import AHEAD
    from gsvexport.runtime.pipeline import load
    from gsvexport.text.symbols import phone_ids

    if str(out) != "-":
        refuse_existing(out, force=force)
    elif not stream:
        raise InputError("a sound file is written whole, not to standard output", fix="add --stream, or name a file")
    if str(out) != "-":
        check_ending(out)
    if ahead is not None and not stream:
        raise InputError("--ahead is for speech in pieces", fix="add --stream")
    if text is not None and phones is not None:
        raise InputError("both a text and --phones were given", fix="give one of them")
    if text is None and phrase is None and not (phones or "").split():
        raise InputError("nothing to say", fix='give a text, or --phones "HH AH0 L OW1 ."')
    if retry and stream and ahead != 0:
        raise InputError("what was heard already cannot be said again", fix="leave --retry out, or add --ahead 0")
    limit = MAX_TOKENS if max_tokens is None else max_tokens
    with load(artifact, threads=threads, any_machine=any_machine, key=key) as voice:
        if phrase is not None and phrase.symbols != voice.model.symbols:
            what = (
                f"the pack is for voices of phone table {phrase.symbols}; {voice.model.name} has {voice.model.symbols}"
            )
            raise InputError(what, fix="make a pack for this voice: gsvexport phrases")
        given = phrase.phones if phrase is not None else None if phones is None else _split(phones)
        ids = None if given is None else phone_ids(given, voice.model.symbols)
        settings = {name: value for name, value in chosen.items() if value is not None}
        sampling = replace(voice.sampling, greedy=greedy, **settings)
        how: dict[str, Any] = {
            "language": language,
            "seed": seed,
            "speed": speed,
            "noise_scale": noise_scale,
            "sampling": sampling,
            "prompt": () if no_prompt else None,
            "max_tokens": limit,
            "steps": steps,
            "cfg_rate": cfg_rate,
            "solver": solver,
            "progress": partial(_sentence, progress) if progress else None,
            "retry": retry,
        }
        if stream:
            waits = AHEAD if ahead is None else ahead or None
            return _streamed(voice.stream(text, ids, ahead=waits, **how), out, force=force)
        audio = voice.synthesize(text, ids, **how)
    _tell(audio.notes)
    clipped = save(audio, out, force=force)
    return f"{out}  {audio.seconds:.2f} s at {audio.rate} Hz" + (f", {clipped} samples clipped" if clipped else "")


def _streamed(pieces: Iterator[Audio], out: Path, *, force: bool) -> str:
    """Hand on each piece as it comes, or collect them into one file; says when the first one was there."""
    import numpy as np

    from gsvexport.runtime.audio import Audio

    began, first, found = time.perf_counter(), 0.0, []
    for piece in pieces:
        if str(out) == "-":
            sys.stdout.buffer.write(piece.pcm().tobytes())
            sys.stdout.buffer.flush()
        first = first or time.perf_counter() - began
        found.append(piece.samples)
        _tell(piece.notes)
    audio = Audio(np.concatenate(found), piece.rate)
    if str(out) != "-":
        save(audio, out, force=force)
    return f"{out}  {audio.seconds:.2f} s at {audio.rate} Hz, first sound after {first:.2f} s"


def _sentence(say: Progress, number: int, total: int) -> None:
    """A sentence begins. A single one is no work to be told of."""
    if total > 1:
        say(counted(f"speaking: sentence {number} of {total}", "speaking", number, total))


def _tell(notes: tuple[str, ...]) -> None:
    """A line for each note, on standard error: the sound is there, but may not be what was to be said."""
    for note in notes:
        echo(f"warning: {note}", err=True)


def _split(phones: str) -> list[str | int]:
    return [int(word) if word.isascii() and word.isdigit() else word for word in phones.split()]
