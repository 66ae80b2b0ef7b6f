"""A rule of the English front end: what is looked for, and what is put there.

Rules are data, so that another front end can have the very same ones: the page that speaks in a browser does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

Match = re.Match[str]
Put = str | Callable[[Match], str]  # a text, `Filled`, or a function with a name of its own
Rule = tuple[re.Pattern[str], Put]


@dataclass(frozen=True)
class Filled:
    """A text with gaps {}, and for each gap what a function makes of a group of the match."""

    form: str
    parts: tuple[tuple[Callable[[str], str], int], ...]

    def __call__(self, match: Match) -> str:
        """What is put in place of a match."""
        return self.form.format(*(make(match[group]) for make, group in self.parts))


def filled(form: str, *parts: tuple[Callable[[str], str], int]) -> Filled:
    """`Filled`, as rules are written."""
    return Filled(form, parts)


def apply(rules: Iterable[Rule], text: str) -> str:
    """The text after all of the rules, one after the other."""
    for pattern, put in rules:
        text = pattern.sub(put, text)
    return text
