"""What a JSON value from outside has to look like: shapes made of shapes, each of which yields what is wrong.

    POINT = record({"x": number(), "name": text(40)}, {"tags": rows(text(), most=8)})
    findings(value, POINT)  →  ["x is no number", "name is missing"]

No value is formatted into a finding but short names, so that what is wrong cannot make a message long. Artifacts carry
this module; it runs on Python 3.8.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from re import Pattern
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    Shape = Callable[[Any, str], Iterator[str]]


MOST_FINDINGS = 20
_LONGEST_KEY = 200
NOTHING: Mapping[str, Shape] = {}


def findings(value: Any, shape: Shape, where: str = "") -> list[str]:
    """What is wrong with a value, the first twenty; empty where it has the shape."""
    return list(itertools.islice(shape(value, where), MOST_FINDINGS))


def text(most: int = 1000, pattern: Pattern[str] | None = None) -> Shape:
    """A string of at most so many letters that has no half characters, and matches a pattern where one is given."""

    def check(value: Any, where: str) -> Iterator[str]:
        if not isinstance(value, str):
            yield f"{where} is no text"
        elif len(value) > most:
            yield f"{where} is longer than {most} letters"
        elif any("\ud800" <= letter <= "\udfff" for letter in value):
            yield f"{where} has half of a character"
        elif pattern is not None and not pattern.fullmatch(value):
            yield f"{where} is {value[:80]!a}, which it cannot be"

    return check


def whole(low: int = 0, high: int = 1 << 40) -> Shape:
    """A whole number from `low` to `high`."""

    def check(value: Any, where: str) -> Iterator[str]:
        if type(value) is not int:
            yield f"{where} is no whole number"
        elif not low <= value <= high:
            yield f"{where} is not between {low} and {high}"

    return check


def number(low: float = -1e30, high: float = 1e30) -> Shape:
    """A finite number from `low` to `high`."""

    def check(value: Any, where: str) -> Iterator[str]:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            yield f"{where} is no number"
        elif not low <= value <= high:
            yield f"{where} is not between {low:g} and {high:g}"

    return check


def anything(value: Any, where: str) -> Iterator[str]:
    """Any JSON value: what `parse_json` bounds and nothing here uses."""
    yield from ()


def flag(value: Any, where: str) -> Iterator[str]:
    """True or false."""
    if not isinstance(value, bool):
        yield f"{where} is neither true nor false"


def one_of(*values: object) -> Shape:
    """One of these values."""

    def check(value: Any, where: str) -> Iterator[str]:
        if not any(type(value) is type(one) and value == one for one in values):
            yield f"{where} is none of {', '.join(map(str, values))}"

    return check


def optional(shape: Shape) -> Shape:
    """None, or of a shape."""

    def check(value: Any, where: str) -> Iterator[str]:
        if value is not None:
            yield from shape(value, where)

    return check


def rows(shape: Shape, most: int, least: int = 0) -> Shape:
    """A list of `least` to `most` values of a shape."""

    def check(value: Any, where: str) -> Iterator[str]:
        if not isinstance(value, list):
            yield f"{where} is no list"
        elif not least <= len(value) <= most:
            yield f"{where} has {len(value)} entries, not {least} to {most}"
        else:
            for index, item in enumerate(value):
                yield from shape(item, f"{where}[{index}]")

    return check


def row(*shapes: Shape) -> Shape:
    """A list of exactly one value of each shape."""

    def check(value: Any, where: str) -> Iterator[str]:
        if not isinstance(value, list):
            yield f"{where} is no list"
        elif len(value) != len(shapes):
            yield f"{where} has {len(value)} entries, not {len(shapes)}"
        else:
            for index, (shape, item) in enumerate(zip(shapes, value)):  # noqa: B905 - strict is Python 3.10
                yield from shape(item, f"{where}[{index}]")

    return check


def table(shape: Shape, most: int, key: Shape | None = None) -> Shape:
    """At most so many values of a shape by any name, or by names of the shape `key`."""
    names = key or text(_LONGEST_KEY)

    def check(value: Any, where: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f"{where} is no table"
        elif len(value) > most:
            yield f"{where} has {len(value)} entries, more than {most}"
        else:
            for name, item in value.items():
                wrong = list(names(name, f"a name in {where or 'it'}"))
                yield from wrong or shape(item, _below(where, name))

    return check


def record(needed: Mapping[str, Shape], maybe: Mapping[str, Shape] = NOTHING, *, more: bool = False) -> Shape:
    """A table with exactly the entries `needed`, perhaps some of `maybe`, and with `more` any others."""

    def check(value: Any, where: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f"{where or 'it'} is no table"
            return
        for name in value:
            if not more and name not in needed and name not in maybe:
                yield f"{where or 'it'} has an entry {str(name)[:80]!a} that is not known"
        for name, shape in (*needed.items(), *maybe.items()):
            if name in value:
                yield from shape(value[name], _below(where, name))
            elif name in needed:
                yield f"{_below(where, name)} is missing"

    return check


def _below(where: str, name: str) -> str:
    return f"{where}.{name[:80]}" if where else name[:80]
