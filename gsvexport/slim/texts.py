"""What the teacher is to say: sentences of the calibration corpora, generated ones, and a user's own.

English is grown from a grammar, with words out of the dictionary by their frequency. Other languages join clauses of
their corpus anew. Of a few candidates always the one is taken whose phones were heard least so far.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gsvexport.calibrate.corpus import VOICE, Sentence, find_corpora
from gsvexport.calibrate.run import known_phones
from gsvexport.errors import InputError
from gsvexport.files import sha256_bytes
from gsvexport.model import Model
from gsvexport.slim.recipe import Data
from gsvexport.text.phonemise import phonemise
from gsvexport.text.symbols import phone_ids

_SIGNS = frozenset(",.?!…-")
_CANDIDATES = 4
_TRIES = 1000  # in a row that give nothing
_CLAUSES = (1, 4)  # of a joined text: from, and below
_LEAST_FREQUENT = -7.5  # the logarithm of a word's share of all English text
_SHORT = 0.3  # the share of English texts of a few words
_SEED = 7


@dataclass(frozen=True)
class Line:
    """One utterance's phones. `name` orders and names its file; its first letter says what it is for."""

    name: str
    phones: tuple[int, ...]

    @property
    def held_out(self) -> bool:
        """Whether nothing is learned from it."""
        return self.name.startswith("h")

    @property
    def codes_only(self) -> bool:
        """Whether it is not voiced."""
        return self.name.startswith("c")


def script(model: Model, data: Data, own: Sequence[str] = ()) -> list[Line]:
    """What is said: `data.held_out` sentences of the corpus, which nothing else repeats, `data.texts` others, and
    `data.codes` more that are not voiced.

    `own` texts come first of the others, whatever their number; then come the corpus's, then generated ones.

    Raises:
        InputError: no corpus of the voice's language, or no sentence of it that the voice can say.
        EnvironmentProblem: the language of own texts needs an extra that is not installed.
    """
    known = known_phones(model)
    every = [one for corpus in find_corpora(VOICE, model.language) for one in corpus.sentences]
    can = [one for one in every if known.issuperset(one.phones) and len(one.phones) <= data.longest]
    if len(can) < 2:
        raise InputError(
            f"{model.name} can say {len(can)} sentences of its language's corpus",
            limit=f"at least 2 of up to {data.longest} phones",
        )
    can.sort(key=lambda one: sha256_bytes(" ".join(one.phones).encode()))
    count = min(data.held_out, len(can) // 2)
    held, rest = can[:count], can[count:]
    read = functools.partial(phonemise, language=model.language, version=model.symbols)
    wanted: list[tuple[str, ...]] = [tuple(one) for text in own for one in read(text)]
    wanted += [one.phones for one in rest][: max(0, data.texts - len(wanted))]
    heard = Counter(phone for phones in wanted for phone in phones)
    draw = _english(read) if model.language == "en" else _clauses(rest)
    random = np.random.default_rng(_SEED)

    def usable(count: int) -> list[tuple[str, ...]]:
        """Those of `count` draws that the voice can say; of further ones, where it can say none."""
        for _ in range(_TRIES):
            drawn = [draw(random) for _ in range(count)]
            if found := [one for one in drawn if known.issuperset(one) and len(one) <= data.longest]:
                return found
        raise InputError(
            f"{model.name} can say none of {_TRIES * count} generated texts",
            limit=f"{data.longest} phones",
            fix="raise data.longest in the recipe",
        )

    while len(wanted) < data.texts:
        best = max(usable(_CANDIDATES), key=lambda one: sum(1 / (1 + heard[phone]) for phone in one) / len(one))
        heard.update(best)
        wanted.append(best)
    random = np.random.default_rng(_SEED + 1)  # so the same ones follow, whatever is voiced
    more = [usable(1)[0] for _ in range(data.codes)]  # so many that coverage comes by itself
    parts = {"h": [one.phones for one in held], "s": wanted, "c": more}
    return [
        Line(f"{kind}{place:05d}", _ids(one, model))
        for kind, several in parts.items()
        for place, one in enumerate(several)
    ]


def _ids(phones: Sequence[str], model: Model) -> tuple[int, ...]:
    return tuple(phone_ids(phones, model.symbols))


def _english(read: Callable[[str], list[list[str]]]) -> Callable[[np.random.Generator], tuple[str, ...]]:
    from gsvexport.train.everyday import grown

    def draw(random: np.random.Generator) -> tuple[str, ...]:
        kind = "short" if random.random() < _SHORT else "long"
        [text] = grown(random, 1, kind, _words())
        return tuple(read(text)[0])

    return draw


@functools.cache
def _words() -> list[str]:
    from gsvexport.text.en.lexicon import spellings
    from gsvexport.text.en.segment import frequency

    return [
        word
        for word in spellings()
        if len(word) > 1 and word.isascii() and word.isalpha() and (frequency(word) or -99) > _LEAST_FREQUENT
    ]


def _clauses(sentences: Sequence[Sentence]) -> Callable[[np.random.Generator], tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for one in sentences:
        clause: list[str] = []
        for phone in one.phones:
            clause.append(phone)
            if phone in _SIGNS:
                found.append(tuple(clause))
                clause = []
    found = [one for one in found if len(one) > 1] or [one.phones for one in sentences]

    def draw(random: np.random.Generator) -> tuple[str, ...]:
        chosen = random.integers(len(found), size=random.integers(*_CLAUSES))
        inner = [phone for place in chosen for phone in (*found[place][:-1], ",")]
        return (*inner[:-1], ".")

    return draw
