"""Strict reading of layered TOML into frozen dataclasses: every problem is found, each with its file and line."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from gsvexport.errors import TargetError
from gsvexport.untrusted.reading import read_text, why

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LARGEST = 1 << 18  # bytes of a TOML file; a target has 1000
_MOST_LAYERS = 16
_WORDS = {
    str: "a string",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "a table",
    bool: "true or false",
}


@dataclass(frozen=True)
class Rule:
    """What one key may hold. `low`..`high` is the plausible range in `unit`; lists and tables hold strings.

    A `kind` that is itself a dataclass of `key` fields is a table of its own.
    """

    kind: type
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    unit: str = ""


def key(
    kind: type, *choices: str, low: float | None = None, high: float | None = None, unit: str = "", **default: Any
) -> Any:
    """A dataclass field that TOML may set; `default` or `default_factory` makes it optional."""
    return field(metadata={"rule": Rule(kind, choices, low, high, unit)}, **default)


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint such as "; did you mean 'memory_mb'?", or nothing when no known name is close."""
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return "; did you mean " + " or ".join(f"'{item}'" for item in close) + "?" if close else ""


@dataclass(frozen=True)
class Layers:
    """Merged values of one file and everything it extends. `where` gives "file:line" for each dotted key."""

    values: dict[str, Any]
    where: dict[str, str]

    def under(self, above: Layers) -> Layers:
        """These with what `above` sets in its place."""
        return Layers(_merge(self.values, above.values), {**self.where, **above.where})


def read_layers(
    path: Path, find: Callable[[str, Path], Path], problems: list[str], above: tuple[Path, ...] = ()
) -> Layers:
    """Read a file on top of the files that its `extends` names; `find(name, folder of the asking file)` locates those.

    Tables are merged key by key, every other value is replaced. Problems with `extends` are appended to `problems`.

    Raises:
        TargetError: a file that is not TOML or cannot be read.
    """
    try:
        text = read_text(path, LARGEST, mark=True)
        own = tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise TargetError(f"{path} cannot be read as TOML: {why(error)}") from error
    lines = {name: f"{path}:{number}" for name, number in key_lines(text).items()}
    at = lines.pop("extends", f"{path}:1")
    parents = own.pop("extends", [])
    parents = [parents] if isinstance(parents, str) else parents
    if not isinstance(parents, list) or not all(isinstance(item, str) for item in parents):
        problems.append(f"{at}: 'extends' takes a name or a list of names, not {parents!r}")
        parents = []
    layers = Layers({}, {})
    for parent in parents:
        try:
            found = find(parent, path.parent)
        except TargetError as error:
            problems.append(f"{at}: {error.what}")
            continue
        if len(above) == _MOST_LAYERS:
            problems.append(f"{at}: more than {_MOST_LAYERS} files extend one another")
            continue
        if found in (path, *above):
            problems.append(f"{at}: '{path.stem}' extends '{parent}', which extends '{path.stem}'")
            continue
        layers = layers.under(read_layers(found, find, problems, (*above, path)))
    return layers.under(Layers(own, lines))


def key_lines(text: str) -> dict[str, int]:
    """Line of each dotted key, from its `[table]` or `key =` line; keys of an inline table have its line."""
    lines: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[+\s*([^\]#]+?)\s*\]", line):
            table = _plain(header[1])
            lines.setdefault(table, number)
        elif entry := re.match(r"""\s*((?:[\w.-]|"[^"]*"|'[^']*')+)\s*=""", line):
            lines.setdefault(f"{table}.{_plain(entry[1])}".lstrip("."), number)
    return lines


class Reader:
    """Takes values out of `Layers` by rule. What is wrong goes to `problems`, so that all of it is known at the end."""

    def __init__(self, layers: Layers, path: Path, problems: list[str]) -> None:
        self.values, self._where, self._path, self.problems = layers.values, layers.where, path, problems

    def problem(self, name: str, text: str) -> None:
        """Note a problem at the file and line of a dotted key, or of the nearest table around it."""
        while name and name not in self._where:
            name = name.rpartition(".")[0]
        self.problems.append(f"{self._where.get(name, self._path)}: {text}")

    def unknown(self, table: str, values: Mapping[str, Any], known: Iterable[str]) -> None:
        """Note every key of `values` that is not in `known`, with the nearest one that is."""
        known = list(known)
        for name in values:
            if name not in known:
                place = f"in [{table}]" if table else "at the top level"
                self.problem(f"{table}.{name}".lstrip("."), f"unknown key '{name}' {place}{nearest(name, known)}")

    def mapping(self, name: str, values: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The table called `name`, empty when absent or not a table."""
        value = (self.values if values is None else values).get(name.rpartition(".")[2], {})
        if isinstance(value, dict):
            return value
        self.problem(name, f"'{name}' is a table, not {value!r}")
        return {}

    def value(self, name: str, rule: Rule, default: Any = MISSING) -> Any:
        """One top-level value, or `default`; None when it is wrong or missing without a default."""
        if name in self.values:
            return converted(self.values[name], rule) if self.check(name, self.values[name], rule) else None
        if default is MISSING:
            self.problem("", f"'{name}' is missing")
            return None
        return default

    def table(self, cls: type[Any], name: str, values: Mapping[str, Any] | None = None) -> Any:
        """An instance of a dataclass made of `key` fields from the table `name`, or None when something is wrong."""
        values = self.mapping(name) if values is None else values
        before = len(self.problems)
        self.unknown(name, values, [item.name for item in fields(cls)])
        arguments = {}
        for item in fields(cls):
            rule = item.metadata["rule"]
            if item.name in values and is_dataclass(rule.kind):
                inside = f"{name}.{item.name}"
                arguments[item.name] = self.table(item.metadata["rule"].kind, inside, self.mapping(inside, values))
            elif item.name in values:
                if self.check(f"{name}.{item.name}", values[item.name], rule):
                    arguments[item.name] = converted(values[item.name], rule)
            elif item.default is MISSING and item.default_factory is MISSING:
                self.problem(name, f"[{name}] lacks '{item.name}'")
        return cls(**arguments) if len(self.problems) == before else None

    def check(self, name: str, value: Any, rule: Rule) -> bool:
        """Whether a value has the type, choices and range of its rule; if not, why goes to the problems."""
        last = name.rpartition(".")[2]
        unit = f" {rule.unit}" if rule.unit else ""
        items = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
        kinds = (int, float) if rule.kind is float else rule.kind
        if not isinstance(value, kinds) or isinstance(value, bool) != (rule.kind is bool):
            wanted = _WORDS[rule.kind] + (f" in{unit}" if unit else "")
            self.problem(name, f"'{last}' takes {wanted}, not {value!r}")
        elif not all(isinstance(item, str) for item in items):
            self.problem(name, f"'{last}' holds strings only, not {value!r}")
        elif rule.choices and value not in rule.choices:
            hint = nearest(str(value), rule.choices)
            self.problem(name, f"'{last}' is one of {', '.join(rule.choices)}, not '{value}'{hint}")
        elif isinstance(value, float) and not abs(value) < float("inf"):
            self.problem(name, f"'{last}' takes a finite number, not {value}")
        elif isinstance(value, (int, float)) and not _between(rule.low, value, rule.high):
            self.problem(name, f"'{last}' = {value}{unit} is not between {rule.low} and {rule.high}{unit}: wrong unit?")
        else:
            return True
        return False


def converted(value: Any, rule: Rule) -> Any:
    """A checked value as the dataclasses hold it: lists as tuples, whole numbers as float where a number is asked."""
    if rule.kind is float:
        return float(value)
    return tuple(value) if rule.kind is list else value


def _between(low: float | None, value: float, high: float | None) -> bool:
    return (low is None or low <= value) and (high is None or value <= high)


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for name, value in above.items():
        old = merged.get(name)
        merged[name] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _plain(name: str) -> str:
    return ".".join(part.strip().strip("\"'") for part in name.split("."))
