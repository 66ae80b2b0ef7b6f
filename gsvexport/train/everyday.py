"""Texts like those that people have spoken to them: a grammar of everyday English, rare words, and very short texts.

What `texts` draws from a language model has English's words and transitions; these have its lists, numbers in digits,
names, questions, instructions and announcements. All of it was written for this project.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from gsvexport.train.sentences import HELDOUT, REFERENCE, TEST, VALIDATION
from gsvexport.train.texts import Model, Text, bare, punctuated, rare_words

_GRAMMAR = Path(__file__).parent / "grammar.txt"
_DRAWN: dict[str, Callable[[np.random.Generator], str]] = {  # what is written in digits
    "number": lambda random: str(random.integers(1, [10, 20, 100, 1000][random.integers(4)])),
    "count": lambda random: str(random.integers(2, 30)),
    "hour": lambda random: str(random.integers(1, 13)),
    "time": lambda random: f"{random.integers(1, 13)}:{random.integers(0, 60):02d}",
    "year": lambda random: str(random.integers(1800, 2030)),
    "ordinal": lambda random: _ordinal(int(random.integers(1, 32))),
    "big": lambda random: f"{random.integers(1, 900)},{random.integers(0, 10)}00",
    "digits": lambda random: " ".join(str(digit) for digit in random.integers(0, 10, random.integers(2, 6))),
    "money": lambda random: [f"${random.integers(1, 500)}", f"${random.integers(1, 100)}.{random.integers(10, 99)}"][
        random.integers(2)
    ],
    "percent": lambda random: [f"{random.integers(1, 100)}%", f"{random.integers(1, 20)}.{random.integers(1, 9)}%"][
        random.integers(2)
    ],
}


# how a text comes about → share of a corpus
_MIX = {"short": 0.24, "everyday": 0.34, "lists": 0.12, "phrase": 0.15, "passage": 0.15}


def mixed(count: int, seed: int) -> list[Text]:
    """`count` different texts of all kinds in random order; none of those that the voice is measured with.

    Raises:
        EnvironmentProblem: pocketsphinx is absent.
    """
    random = np.random.default_rng([seed, 40])
    model = Model()
    made = {
        "short": lambda: short(random, 1)[0],
        "everyday": lambda: everyday(random, 1)[0],
        "lists": lambda: lists(random, 1)[0],
        "phrase": lambda: punctuated(next(model.draws(random, 2, 10)), random),
        "passage": lambda: punctuated(next(model.draws(random, 10, 34)), random),
    }
    seen = {bare(text) for text in (REFERENCE, *TEST, *VALIDATION, *HELDOUT)}
    found: list[str] = []
    kinds, shares = list(_MIX), list(_MIX.values())
    while len(found) < count:
        text = made[kinds[random.choice(len(kinds), p=shares)]]()
        if bare(text) not in seen or re.search(r"\d", text):
            seen.add(bare(text))
            found.append(text)
    return [Text(f"s{place:06d}", text) for place, text in enumerate(found)]


def everyday(random: np.random.Generator, count: int) -> list[str]:
    """`count` texts of the grammar, of 3 to 45 words."""
    return grown(random, count, "long", rare_words())


def short(random: np.random.Generator, count: int) -> list[str]:
    """`count` texts of 1 to 4 words or so."""
    return grown(random, count, "short", rare_words())


def lists(random: np.random.Generator, count: int) -> list[str]:
    """`count` texts of 1 to 12 words that have nothing to do with each other: rare ones, as names are."""
    known = rare_words()
    found = []
    for _ in range(count):
        words = [known[random.integers(len(known))] for _ in range(random.integers(1, 13))]
        comma = random.random() < 0.3
        text = (", " if comma else " ").join(words) + str(random.choice([".", ".", ".", "?", "!"]))
        found.append(text[0].upper() + text[1:])
    return found


def grown(random: np.random.Generator, count: int, kind: str, known: Sequence[str]) -> list[str]:
    """`count` texts of the grammar, "short" or "long", with words out of `known`."""
    parts = _grammar()
    roots = parts[kind]

    def put(match: re.Match[str]) -> str:
        kind = match[1]
        if kind == "word":
            return known[int(random.integers(len(known)))]
        if kind in _DRAWN:
            return _DRAWN[kind](random)
        return parts[kind][int(random.integers(len(parts[kind])))]

    found = []
    for _ in range(count):
        text = roots[int(random.integers(len(roots)))]
        while "{" in text:
            text = re.sub(r"\{(\w+)\}", put, text, count=1)
        text = re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)
        first = next(place for place, char in enumerate(text) if char.isalnum())
        found.append(text[:first] + text[first].upper() + text[first + 1 :])
    return found


@cache
def _grammar() -> dict[str, list[str]]:
    """The choices of every kind."""
    rows: list[str] = []
    for line in _GRAMMAR.read_text(encoding="utf-8").splitlines():
        if line.startswith(" "):
            rows[-1] += line[1:]
        elif line and not line.startswith("#"):
            rows.append(line)
    return {name: choices.split("|") for name, choices in (row.split(" = ", 1) for row in rows)}


def _ordinal(number: int) -> str:
    teens = 10 <= number % 100 <= 20
    return f"{number}{'th' if teens else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"
