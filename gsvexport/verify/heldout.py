"""What a voice says to be listened to: sentences that it was neither trained nor calibrated with.

The demo voice brings its own. Every voice says those of its language, in `heldout/`: one sentence a line, written for
this project (CC0-1.0), of common words and without digits, so that a recogniser can be asked for them. There are so
many of them because a rise of one word in a hundred has to be seen; `MOST` are said.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gsvexport.errors import InputError
from gsvexport.model import Model
from gsvexport.text.phonemise import phonemise
from gsvexport.text.symbols import phone_ids, symbols
from gsvexport.untrusted.reading import lines, read_text, why

FOLDER = Path(__file__).parent / "heldout"
DEMO = "demo"
_SHORTEST = 12  # phones: half a second, of which something is voiced
MOST = 60


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
    found: tuple[Sentence, ...] = ()
    if model.name == DEMO and model.language == "en" and model.symbols == "v2":
        from gsvexport import demo

        found = tuple(Sentence(one.text, one.phones) for one in demo.sentences())
    written = FOLDER / f"{model.language}.txt"
    found += _from_file(written, model) if written.is_file() else ()
    known = min(model.dims.phones, model.dims.text_phones)
    return found[:MOST] if all(max(one.phones) < known for one in found) else ()


def short_texts(model: Model) -> tuple[Sentence, ...]:
    """Texts of a few words in the voice's language, or none: they are where a voice ends too late or too early."""
    written = FOLDER / f"{model.language}-short.txt"
    found = _from_file(written, model) if written.is_file() else ()
    known = min(model.dims.phones, model.dims.text_phones)
    return found if all(max(one.phones) < known for one in found) else ()


def spoken(model: Model, count: int) -> tuple[tuple[int, ...], ...]:
    """Phone ids of sentences to measure a voice with, at most `count` that it knows all phones of.

    Held-out ones in English; in other languages those of the calibration corpus, whose phones need no front end.

    Raises:
        InputError: there is no corpus of the voice's language.
    """
    if found := (sentences(model) if model.language == "en" else ()):
        return tuple(one.phones for one in found[:count])
    from gsvexport.calibrate.corpus import VOICE, find_corpora

    known = set(symbols(model.symbols)[: min(model.dims.phones, model.dims.text_phones)])
    every = [one.phones for corpus in find_corpora(VOICE, model.language) for one in corpus.sentences]
    fitting = [one for one in every if known.issuperset(one) and len(one) >= _SHORTEST]
    return tuple(phone_ids(one, model.symbols) for one in fitting[:count])


def _from_file(path: Path, model: Model) -> tuple[Sentence, ...]:
    try:
        texts = lines(read_text(path, 1 << 20, mark=True))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as text: {why(error)}") from error
    found, problems = [], []
    for number, line in enumerate(texts, 1):
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
