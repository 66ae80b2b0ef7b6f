"""Templates → phones, exactly as the front end reads each whole sentence.

A text front end looks at neighbours: a number, a name or a sandhi is read by what stands beside it. So nothing is read
in parts. Whole sentences are read with one slot's values varied and the others held, and the phones that change are the
slot's, those that never do the text's. For one slot this is exact by construction. For several, sentences of all slots
together are read as well: one that comes out otherwise is kept whole.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence

from gsvexport.errors import InputError
from gsvexport.phrases.pack import Filled, Phrase, Piece
from gsvexport.phrases.spec import PhraseSpec
from gsvexport.progress import Progress, counted
from gsvexport.text.phonemise import phonemise

MOST_READ = 4096  # sentences of one phrase that are read to see whether its parts fit together

Phones = tuple[str, ...]


def compile_phrases(
    specs: Sequence[PhraseSpec], language: str, symbols: str, *, progress: Progress | None = None
) -> dict[str, Phrase]:
    """The phones of every phrase, for a voice that reads `language` in phone table `symbols`.

    Raises:
        InputError: a phrase that cannot be read, is more than one sentence, or has slots that cannot be told apart in
            more sentences than are read.
        EnvironmentProblem: the language's extra is not installed.
    """
    found = {}
    for number, spec in enumerate(specs, 1):
        if progress is not None:
            progress(counted(f"phrase {spec.name}", "reading phrases", number, len(specs)))
        found[spec.name] = _compiled(spec, language, symbols)
    return found


def _compiled(spec: PhraseSpec, language: str, symbols: str) -> Phrase:
    names = list(spec.slots)
    known: dict[tuple[int, ...], Phones] = {}

    def read(choice: tuple[int, ...]) -> Phones:
        if choice not in known:
            values = {name: spec.slots[name][at] for name, at in zip(names, choice, strict=True)}
            known[choice] = _sentence(spec, spec.filled(values), language, symbols)
        return known[choice]

    pieces = _parted(spec, read)
    phrase = Phrase(spec.text, tuple(spec.slots.items()), pieces)
    every = spec.combinations <= MOST_READ
    others = {choice: read(choice) for choice in _choices(spec, every) if phrase.joined(choice) != read(choice)}
    if others and not every:
        raise InputError(
            f"phrase '{spec.name}': its slots are read otherwise together than apart",
            found=f"{spec.combinations} sentences, {repr(' '.join(next(iter(others.values()))))[:80]} among them",
            limit=f"{MOST_READ} sentences, which are then kept whole",
            fix="give it fewer values, or make several phrases of it",
        )
    return Phrase(spec.text, phrase.slots, pieces, others)


def _sentence(spec: PhraseSpec, text: str, language: str, symbols: str) -> Phones:
    try:
        found = phonemise(text, language, symbols)
    except InputError as error:
        raise InputError(f"phrase '{spec.name}', {text!r}: {error}") from error
    if len(found) != 1:
        raise InputError(
            f"phrase '{spec.name}' is {len(found)} sentences",
            found=repr(text[:80]),
            limit="1",
            fix="make a phrase of each and say them one after the other, or join them with a comma",
        )
    return tuple(found[0])


def _parted(spec: PhraseSpec, read: Callable[[tuple[int, ...]], Phones]) -> tuple[Piece, ...]:
    """The parts of a sentence; a single one of fixed phones where slots cannot be told apart, and each stands whole."""
    # The values in the middle: first ones, like the 0 of an hour, are read in a way of their own more often.
    usual = tuple(len(values) // 2 for values in spec.slots.values())
    base = read(usual)
    spans = []
    for place, values in enumerate(spec.slots.values()):
        if len(values) == 1:
            continue
        readings = [read((*usual[:place], at, *usual[place + 1 :])) for at in range(len(values))]
        start = _alike(readings)
        end = _alike([reading[start:][::-1] for reading in readings])
        spans.append((start, len(base) - end, place, tuple(one[start : len(one) - end] for one in readings)))
    spans.sort(key=lambda span: span[:3])
    pieces: list[Piece] = []
    reached = 0
    for start, stop, place, fillings in spans:
        if start < reached:
            return (base,)
        pieces += [base[reached:start], Filled(place, fillings)]
        reached = stop
    return tuple(piece for piece in (*pieces, base[reached:]) if piece)


def _alike(readings: Sequence[Phones]) -> int:
    """How many phones all of them begin with."""
    return sum(1 for _ in itertools.takewhile(lambda some: len(set(some)) == 1, zip(*readings, strict=False)))


def _choices(spec: PhraseSpec, every: bool) -> Iterator[tuple[int, ...]]:
    """All combinations of values, or so many of them, always the same."""
    sizes = [len(values) for values in spec.slots.values()]
    if every:
        yield from itertools.product(*map(range, sizes))
        return
    draw = random.Random(0)
    for _ in range(MOST_READ):
        yield tuple(draw.randrange(size) for size in sizes)
