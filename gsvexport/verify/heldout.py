"""What a voice says to be listened to: sentences that it was neither trained nor calibrated with.

The demo voice brings its own. Every other voice says those of its language, in `heldout/`: one sentence a line,
written for this project (CC0-1.0), of common words and without digits, so that a recogniser can be asked for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gsvexport.errors import InputError
from gsvexport.model import Model
from gsvexport.reading import read_text, why
from gsvexport.text.phonemise import phonemise
from gsvexport.text.symbols import phone_ids

FOLDER = Path(__file__).parent / "heldout"
DEMO = "demo"


@dataclass(frozen=True)
class Sentence:
    """A text, and its phones as ids of the voice's table."""

    text: str
    phones: tuple[int, ...]


def sentences(model: Model, path: Path | None = None) -> tuple[Sentence, ...]:
    """The sentences for a voice: those in the file `path`, or its own, or its language's; empty where there are none.

    Raises:
        InputError: the file cannot be read, holds no sentence, or holds what cannot be said (all findings).
    """
    if path is not None:
        return _from_file(path, model)
    if model.name == DEMO and model.language == "en" and model.symbols == "v2":
        from gsvexport import demo

        found = tuple(Sentence(one.text, one.phones) for one in demo.sentences())
    else:
        written = FOLDER / f"{model.language}.txt"
        found = _from_file(written, model) if written.is_file() else ()
    known = min(model.dims.phones, model.dims.text_phones)
    return found if all(max(one.phones) < known for one in found) else ()


def _from_file(path: Path, model: Model) -> tuple[Sentence, ...]:
    try:
        lines = read_text(path, 1 << 20, mark=True).splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as text: {why(error)}") from error
    found, problems = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            phones = [name for part in phonemise(line, model.language, model.symbols) for name in part]
            found.append(Sentence(line.strip(), phone_ids(phones, model.symbols)))
        except InputError as error:
            problems.append(f"line {number}: {' '.join(str(error).split())}")
    if problems or not found:
        fix = "write one sentence a line, in the voice's language"
        raise InputError(f"{path} holds no sentences to verify with", problems=problems, fix=fix)
    return tuple(found)
