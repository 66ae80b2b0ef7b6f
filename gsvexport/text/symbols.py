"""The phone tables of upstream: a phone's id is its place in the list."""

from __future__ import annotations

import difflib
import functools
import json
import operator
from collections.abc import Sequence
from importlib.resources import files
from typing import SupportsIndex

from gsvexport.errors import InputError
from gsvexport.stages import SYMBOL_COUNTS


@functools.cache
def symbols(version: str) -> tuple[str, ...]:
    """The names of table "v1" (322) or "v2" (732) in the order of their ids; v2 starts with all of v1.

    "v1-2024-08" is table v1, too; its name tells how Japanese is written in it (`text.ja`).

    Raises:
        InputError: no such table.
    """
    if version not in SYMBOL_COUNTS:
        raise InputError(f"there is no phone table {version!r}", limit=" or ".join(SYMBOL_COUNTS))
    text = files("gsvexport.text").joinpath(f"symbols_{version.partition('-')[0]}.json").read_text(encoding="utf-8")
    return tuple(json.loads(text))


@functools.cache
def _numbers(version: str) -> dict[str, int]:
    return {name: number for number, name in enumerate(symbols(version))}


def phone_ids(phones: Sequence[str | SupportsIndex], version: str) -> tuple[int, ...]:
    """The ids of phones given by name, by id, or mixed.

    Raises:
        InputError: names that the table does not have (with the nearest ones) and ids out of range, all at once.
    """
    known = _numbers(version)
    found: list[int] = []
    problems: dict[str, None] = {}  # in order, each once
    for phone in phones:
        if isinstance(phone, str):
            if phone in known:
                found.append(known[phone])
                continue
            close = difflib.get_close_matches(phone, known, n=3, cutoff=0.5)
            problems[f"unknown phone {phone!a}" + (f"; did you mean {' or '.join(close)}?" if close else "")] = None
            continue
        try:
            number = operator.index(phone)
        except TypeError:
            number = -1
        if isinstance(phone, bool) or not 0 <= number < len(known):
            problems[f"phone id {phone!r} is not between 0 and {len(known) - 1}"] = None
        found.append(number)
    if problems:
        raise InputError(
            f"phones that the {version} table does not have",
            problems=list(problems),
            limit=f"{len(known)} phones, ids 0 to {len(known) - 1}",
            fix=f"use names or ids of the {version} table; unknown sounds are written UNK",
        )
    return tuple(found)
