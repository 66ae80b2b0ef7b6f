"""edgetpu.toml, read strictly: which operators an Edge TPU takes since which runtime, and rules about them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gsvexport.errors import BackendError, TargetError
from gsvexport.target.tables import Reader, nearest, read_layers

TABLE = Path(__file__).parent / "edgetpu.toml"
CONFIDENCE = ("doc", "issue", "unverified")
_TABLES = ("meta", "sources", "compiler", "rule", "op")
_META = ("schema", "oldest", "newest", "activations", "innermost", "fused")
_COMPILER = ("name", "hosts", "command", "seconds", "output", "log", "mapped", "refused", "source")
_GENERAL = (
    "operator", "runtime", "version", "dtype", "fused", "constant", "static", "innermost",
    "limits", "single_partition",
)  # fmt: skip
_OPERATOR = ("since", "version", "weights", "bias", "numbers", "rules", "advice", "note", "source", "confidence")
_RULE = ("kind", "since", "until", "source", "confidence")


@dataclass(frozen=True)
class Rule:
    """One rule: what it demands, who says so, and how sure that is. For runtimes `since` <= version < `until`."""

    kind: str
    source: str
    confidence: str
    meaning: str = ""
    since: int = 0
    until: int | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Operator:
    """What the table says about an operator; `since` is 0 for one that always runs on the processor.

    `weights`, `bias` and `numbers` are the inputs that have to be constants: of 8 bits, INT32, whole numbers.
    """

    since: int
    version: int
    weights: tuple[int, ...]
    bias: tuple[int, ...]
    numbers: tuple[int, ...]
    rules: tuple[Rule, ...]
    advice: str
    note: str
    source: str
    confidence: str


@dataclass(frozen=True)
class Compiler:
    """How edgetpu_compiler is called, and what its log says; `seconds` is how long it may take."""

    name: str
    hosts: tuple[str, ...]
    command: tuple[str, ...]
    seconds: int
    output: str
    log: str
    mapped: str
    refused: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Table:
    """edgetpu.toml, checked. `sources` says what the short names of sources stand for."""

    oldest: int
    newest: int
    activations: tuple[str, ...]
    innermost: int
    fused: tuple[str, ...]
    general: Mapping[str, Rule]
    operators: Mapping[str, Operator]
    compiler: Compiler
    sources: Mapping[str, str]


@functools.cache
def table() -> Table:
    """The project's own table.

    Raises: as `read_table`.
    """
    return read_table(TABLE)


def read_table(path: Path) -> Table:
    """The table in a file.

    Raises:
        BackendError: an unknown key, kind, argument, source or word of confidence, or something missing; all of them.
    """
    problems: list[str] = []
    try:
        reader = Reader(read_layers(path, lambda name, _: path / name, problems), path, problems)
    except TargetError as error:
        raise BackendError(error.what) from error
    found = _Reading(reader).table()
    if problems:
        raise BackendError(
            f"{path.name} is no table of the Edge TPU", problems=problems, fix="correct it, or install gsvexport again"
        )
    assert found is not None
    return found


class _Reading:
    """Takes the parts of the table out of a `Reader`; what is wrong goes to the reader's problems."""

    def __init__(self, reader: Reader) -> None:
        from gsvexport.backends.tflite.rules import KINDS

        self.reader, self.kinds = reader, KINDS
        self.sources: dict[str, str] = reader.mapping("sources")

    def table(self) -> Table | None:
        reader = self.reader
        reader.unknown("", reader.values, _TABLES)
        meta, compiler = reader.mapping("meta"), reader.mapping("compiler")
        self._complete("meta", meta, _META)
        self._complete("compiler", compiler, _COMPILER)
        rules = reader.mapping("rule")
        self._complete("rule", rules, _GENERAL)
        general = {
            name: Rule(name, values.get("source", ""), self._confidence(f"rule.{name}", values), values.get("meaning"))
            for name, values in rules.items()
        }
        for name, values in rules.items():
            self._complete(f"rule.{name}", values, ("meaning", "source", "confidence"))
            self._sources(f"rule.{name}", values)
        self._sources("compiler", compiler)
        operators = {name: self._operator(f"op.{name}", values) for name, values in reader.mapping("op").items()}
        for text, names in compiler.get("refused", {}).items():
            for name in names:
                if name not in rules:
                    reader.problem("compiler.refused", f"'{text}' names no rule '{name}'{nearest(name, rules)}")
        if reader.problems:
            return None
        words: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in compiler.items()
        }
        words["refused"] = {text: tuple(names) for text, names in compiler["refused"].items()}
        del words["source"]
        numbers = {key: meta[key] for key in ("oldest", "newest", "innermost")}
        return Table(
            activations=tuple(meta["activations"]),
            fused=tuple(meta["fused"]),
            general=general,
            operators=operators,
            compiler=Compiler(**words),
            sources=self.sources,
            **numbers,
        )

    def _operator(self, place: str, values: Mapping[str, Any]) -> Operator:
        self.reader.unknown(place, values, _OPERATOR)
        needed = ("since", "source", "confidence", *(["version"] if values.get("since") else []))
        for name in needed:
            if name not in values:
                self.reader.problem(place, f"[{place}] lacks '{name}'")
        self._sources(place, values)
        return Operator(
            since=values.get("since", 0),
            version=values.get("version", 0),
            weights=tuple(values.get("weights", ())),
            bias=tuple(values.get("bias", ())),
            numbers=tuple(values.get("numbers", ())),
            rules=tuple(self._rule(place, line, values) for line in values.get("rules", ())),
            advice=values.get("advice", ""),
            note=values.get("note", ""),
            source=values.get("source", ""),
            confidence=self._confidence(place, values),
        )

    def _rule(self, place: str, line: Mapping[str, Any], of: Mapping[str, Any]) -> Rule:
        kind = str(line.get("kind"))
        arguments = {key: value for key, value in line.items() if key not in _RULE}
        if kind not in self.kinds:
            self.reader.problem(f"{place}.rules", f"no kind of rule is called '{kind}'{nearest(kind, self.kinds)}")
        else:
            try:
                inspect.signature(self.kinds[kind]).bind(None, **arguments)
            except TypeError as error:
                self.reader.problem(f"{place}.rules", f"rule '{kind}': {error}")
        merged = {**of, **line}
        self._sources(f"{place}.rules", merged)
        return Rule(
            kind,
            merged.get("source", ""),
            self._confidence(f"{place}.rules", merged),
            since=line.get("since", 0),
            until=line.get("until"),
            arguments=arguments,
        )

    def _complete(self, place: str, values: Mapping[str, Any], known: tuple[str, ...]) -> None:
        self.reader.unknown(place, values, known)
        for name in known:
            if name not in values:
                self.reader.problem(place, f"[{place}] lacks '{name}'")

    def _sources(self, place: str, values: Mapping[str, Any]) -> None:
        for name in filter(None, (part.strip() for part in str(values.get("source", "")).split(","))):
            if name not in self.sources:
                self.reader.problem(place, f"no source is called '{name}'{nearest(name, self.sources)}")

    def _confidence(self, place: str, values: Mapping[str, Any]) -> str:
        word = values.get("confidence")
        if word not in CONFIDENCE:
            self.reader.problem(place, f"confidence is one of {', '.join(CONFIDENCE)}, not {word!r}")
        return str(word)
