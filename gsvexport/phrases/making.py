"""A phrase pack for a voice, from the file that somebody wrote."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gsvexport.errors import missing_package
from gsvexport.files import atomic_file, refuse_existing
from gsvexport.phrases.compiling import compile_phrases
from gsvexport.phrases.pack import Pack, Phrase
from gsvexport.phrases.spec import read_spec
from gsvexport.progress import Progress, counted, note
from gsvexport.runtime.pipeline import load
from gsvexport.text.symbols import phone_ids


def make_pack(
    phrases: Path,
    voice: Path,
    out: Path,
    *,
    language: str | None = None,
    render: bool = False,
    seed: int = 0,
    force: bool = False,
    progress: Progress | None = None,
    **opening: Any,
) -> Pack:
    """Read the phrases of a TOML file for `voice` (an artifact or a source), and write the pack to `out`.

    `render` also speaks those without slots, with `seed`, and keeps the sound as 16-bit FLAC. `opening` goes to
    `gsvexport.load`.

    Raises:
        InputError: phrases that cannot be read or said, or `out` exists and `force` is false.
        EnvironmentProblem: the language's extra is missing, or for `render` soundfile.
        ArtifactError, BackendError: the voice cannot be opened or run.
    """
    refuse_existing(out, force=force)
    specs = read_spec(phrases)
    if render:
        _soundfile()
    with load(voice, **opening) as opened:
        model = opened.model
        tongue = language or model.language
        found = compile_phrases(specs, tongue, model.symbols, progress=progress)
        if render:
            found = _rendered(opened, found, seed, progress)
        pack = Pack(model.name, tongue, model.symbols, opened.rate, found)
    with atomic_file(out, force=force) as work:
        work.write_bytes(pack.to_bytes())
    return pack


def _rendered(voice: Any, phrases: Mapping[str, Phrase], seed: int, progress: Progress | None) -> dict[str, Phrase]:
    found = dict(phrases)
    fixed = [name for name, phrase in phrases.items() if not phrase.slots]
    for number, name in enumerate(fixed, 1):
        if progress is not None:
            progress(counted(f"speaking phrase {name}", "speaking phrases", number, len(fixed)))
        audio = voice.synthesize(phones=phone_ids(phrases[name].phones({}), voice.model.symbols), seed=seed)
        if progress is not None:
            for text in audio.notes:
                progress(note(f"phrase {name}: {text}"))
        stream = io.BytesIO()
        _soundfile().write(stream, audio.pcm(), audio.rate, format="FLAC", subtype="PCM_16")
        found[name] = replace(phrases[name], sound=stream.getvalue())
    return found


def _soundfile() -> Any:
    try:
        import soundfile
    except (ImportError, OSError) as error:
        raise missing_package("soundfile", "speaking phrases ahead of time", "compile") from error
    return soundfile
