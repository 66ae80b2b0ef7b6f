"""What phrases somebody wants, as a TOML file tells it (docs/phrases.md)."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gsvexport.errors import InputError
from gsvexport.untrusted.reading import read_text, why

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LARGEST = 1 << 20  # bytes of a file
MOST_PHRASES = 2000
MOST_VALUES = 10_000  # of a slot
MOST_SLOTS = 8
LONGEST = 500  # characters of a phrase; a sentence has 150 phones at most
LONGEST_VALUE = 100
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_SLOT = re.compile(r"[a-z][a-z0-9_]{0,31}")
_PLACE = re.compile(r"\{([^{}]*)\}")
_RANGE = ("from", "to", "step", "digits")


@dataclass(frozen=True)
class PhraseSpec:
    """One phrase: `text` with `{slot}`s, the texts that each slot may be filled with, and other texts for some values.

    `when` holds (the values of slots that it is for, its text); the first one that fits is used.
    """

    name: str
    text: str
    slots: dict[str, tuple[str, ...]] = field(default_factory=dict)
    when: tuple[tuple[dict[str, tuple[str, ...]], str], ...] = ()

    @property
    def combinations(self) -> int:
        """How many sentences it stands for."""
        return math.prod(map(len, self.slots.values()))

    def filled(self, values: Mapping[str, str]) -> str:
        """Its text for these values of all slots."""
        fits = (text for wanted, text in self.when if all(values[slot] in some for slot, some in wanted.items()))
        return _PLACE.sub(lambda found: values[found[1]], next(fits, self.text))


def read_spec(path: Path) -> list[PhraseSpec]:
    """The phrases of a file, in its order.

    Raises:
        InputError: absent, no TOML, or with unknown keys and wrong values, all of them.
    """
    try:
        values = tomllib.loads(read_text(path, LARGEST, mark=True))
    except OSError as error:
        raise InputError(f"{path} {why(error)}", fix="pass a TOML file of phrases (docs/phrases.md)") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid TOML: {error}", fix="correct that line") from error
    problems = [
        f"unknown key '{name}' at the top level; phrases are [phrases.NAME]" for name in {*values} - {"phrases"}
    ]
    tables = values.get("phrases")
    if not isinstance(tables, dict) or not 1 <= len(tables) <= MOST_PHRASES:
        problems.append(f"[phrases] holds 1 to {MOST_PHRASES} phrases")
        tables = {}
    found = [_phrase(name, table, problems) for name, table in tables.items()]
    if problems:
        raise InputError(f"{path} cannot be used", problems=problems, fix="correct it; docs/phrases.md shows examples")
    return found


def _phrase(name: str, table: Any, problems: list[str]) -> PhraseSpec:
    where = f"phrase '{name}'"
    if not _NAME.fullmatch(name):
        problems.append(f"{where}: a name has up to 64 of a-z, 0-9, '.', '_' and '-'")
    if not isinstance(table, dict):
        problems.append(f"{where} is a table with 'text'")
        return PhraseSpec(name, "")
    problems += [f"{where}: unknown key '{key}'" for key in table if key not in ("text", "slots", "when")]
    given = table.get("slots", {})
    if not isinstance(given, dict) or len(given) > MOST_SLOTS:
        problems.append(f"{where}: 'slots' is a table of at most {MOST_SLOTS}")
        given = {}
    slots = {slot: _values(f"{where}, slot '{slot}'", slot, told, problems) for slot, told in given.items()}
    text = _text(where, table.get("text"), slots, problems)
    unused = sorted({*slots} - {*_PLACE.findall(text)})
    problems += [f"{where}: its text has no {{{slot}}}" for slot in unused]
    when = table.get("when", [])
    if not isinstance(when, list):
        problems.append(f"{where}: 'when' is a list of tables: [[phrases.{name}.when]]")
        when = []
    return PhraseSpec(name, text, slots, tuple(_case(where, one, slots, problems) for one in when))


def _text(where: str, text: Any, slots: Mapping[str, Any], problems: list[str]) -> str:
    if not isinstance(text, str) or not 1 <= len(text) <= LONGEST:
        problems.append(f"{where}: 'text' has 1 to {LONGEST} characters")
        return ""
    problems += [f"{where}: {{{slot}}} is no slot of it" for slot in _PLACE.findall(text) if slot not in slots]
    if set("{}") & set(_PLACE.sub("", text)):
        problems.append(f"{where}: a brace that belongs to no {{slot}}")
    return text


def _values(where: str, slot: str, told: Any, problems: list[str]) -> tuple[str, ...]:
    if not _SLOT.fullmatch(slot):
        problems.append(f"{where}: a slot's name has up to 32 of a-z, 0-9 and '_'")
    if isinstance(told, dict):
        return _range(where, told, problems)
    if not isinstance(told, list) or not 1 <= len(told) <= MOST_VALUES:
        problems.append(f"{where}: 1 to {MOST_VALUES} texts, or a range: {{ from = 1, to = 12 }}")
        return ()
    found = tuple(str(one) for one in told)
    if not all(isinstance(one, str) or type(one) is int for one in told):
        problems.append(f"{where}: its values are texts or whole numbers")
    elif not all(1 <= len(one) <= LONGEST_VALUE and not set("{}\n\0") & set(one) for one in found):
        problems.append(f"{where}: a value has 1 to {LONGEST_VALUE} characters, no brace and no line break")
    elif len({*found}) != len(found):
        problems.append(f"{where}: a value stands there twice")
    return found


def _range(where: str, told: dict[str, Any], problems: list[str]) -> tuple[str, ...]:
    numbers = {"step": 1, "digits": 1, **told}
    if {*numbers} != {*_RANGE} or not all(type(one) is int for one in numbers.values()):
        problems.append(f"{where}: a range has whole numbers from, to, and if wanted step and digits")
        return ()
    first, last, step, digits = (numbers[name] for name in _RANGE)
    if not (step >= 1 and 1 <= digits <= 9 and abs(first) < 10**9 and abs(last) < 10**9):
        problems.append(f"{where}: from and to have at most 9 digits, step is 1 or more, digits 1 to 9")
        return ()
    if not 1 <= (last - first) // step + 1 <= MOST_VALUES:
        problems.append(f"{where}: its range has {max(0, (last - first) // step + 1)} values, not 1 to {MOST_VALUES}")
        return ()
    return tuple(f"{number:0{digits}d}" for number in range(first, last + 1, step))


def _case(
    where: str, told: Any, slots: Mapping[str, tuple[str, ...]], problems: list[str]
) -> tuple[dict[str, tuple[str, ...]], str]:
    if not isinstance(told, dict):
        problems.append(f"{where}: each 'when' is a table with values of slots, and 'text'")
        return {}, ""
    wanted = {}
    for slot, some in told.items():
        if slot == "text":
            continue
        wanted[slot] = tuple(str(one) for one in (some if isinstance(some, list) else [some]))
        if slot not in slots:
            problems.append(f"{where}: 'when' names a slot '{slot}' that it does not have")
        else:
            missing = [one for one in wanted[slot] if one not in slots[slot]]
            problems += [f"{where}: 'when' {slot} = {one!r}, which is no value of it" for one in missing[:3]]
    if not wanted:
        problems.append(f"{where}: a 'when' without a slot's value would always be used")
    return wanted, _text(f"{where}, 'when'", told.get("text"), slots, problems)
