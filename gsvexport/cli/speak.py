"""What `say` does: options into one call of the runtime."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsvexport.errors import InputError
from gsvexport.files import refuse_existing
from gsvexport.stages import MAX_TOKENS

if TYPE_CHECKING:
    from gsvexport.runtime.audio import Audio


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
    key: str | None = None,
    steps: int | None = None,
    cfg_rate: float = 0.0,
    **chosen: Any,
) -> str:
    """Speak into `out`; returns a line that says what came of it.

    `chosen` holds sampling settings by name; None leaves the voice's own.

    Raises:
        InputError: wrong arguments, a text that cannot be read, unknown phones, or `out` exists and `force` is false.
        EnvironmentProblem: the extra of the text's language is not installed.
        ArtifactError, BackendError: the artifact cannot be loaded or run, or was made for another machine and
            `any_machine` is false.
    """
    from gsvexport.runtime.pipeline import load
    from gsvexport.text.symbols import phone_ids

    if str(out) != "-":
        refuse_existing(out, force=force)
    elif not stream:
        raise InputError("a WAV file is written whole, not to standard output", fix="add --stream, or name a file")
    if text is not None and phones is not None:
        raise InputError("both a text and --phones were given", fix="give one of them")
    if text is None and not (phones or "").split():
        raise InputError("nothing to say", fix='give a text, or --phones "HH AH0 L OW1 ."')
    limit = MAX_TOKENS if max_tokens is None else max_tokens
    with load(artifact, threads=threads, any_machine=any_machine, key=key) as voice:
        ids = None if phones is None else phone_ids(_split(phones), voice.model.symbols)
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
        }
        if stream:
            return _streamed(voice.stream(text, ids, **how), out, force=force)
        audio = voice.synthesize(text, ids, **how)
    clipped = audio.save(out, force=force)
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
    audio = Audio(np.concatenate(found), piece.rate)
    if str(out) != "-":
        audio.save(out, force=force)
    return f"{out}  {audio.seconds:.2f} s at {audio.rate} Hz, first sound after {first:.2f} s"


def _split(phones: str) -> list[str | int]:
    return [int(word) if word.isascii() and word.isdigit() else word for word in phones.split()]
