"""operators.toml, read strictly: which operators TensorRT's ONNX parser imports since when, and rules about them."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gsvexport.errors import BackendError, TargetError
from gsvexport.target.tables import Reader, nearest, read_layers

OPERATORS = Path(__file__).parent / "operators.toml"
SEVERITIES = ("error", "warn", "info")
_BUILT_IN = ("unknown_op", "unsupported_op")  # every operator is held against these; they take no arguments
_META = ("schema", "oldest", "oldest_reason", "native_int64", "confidence", "sources")
_KIND = ("severity", "since", "until", "meaning")
_RULE = ("kind", "since", "until", "severity", "note", "source")
_DISAGREEMENTS = ("takes", "refuses")
_OPERATOR = (
    "since", "dtypes8", "dtypes10", "typed_inputs", "typed_outputs", "policy", "rules", "advice", "custom", "source",
)  # fmt: skip

Release = tuple[int, ...]


@dataclass(frozen=True)
class Rule:
    """One line of the table: a kind with its arguments, for TensorRT `since` <= version < `until`."""

    kind: str
    severity: str
    since: str | None = None
    until: str | None = None
    note: str = ""
    source: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def holds_for(self, version: Release) -> bool:
        """Whether the rule is one of that version."""
        return (self.since is None or release(self.since) <= version) and (
            self.until is None or version < release(self.until)
        )


@dataclass(frozen=True)
class Operator:
    """What the table says about an operator.

    Nothing imports it before `since`; None: nothing up to `Table.absent_up_to`. `policy` is the precision that the FP16
    lowering starts from. A custom operator is in a domain of its own.
    """

    since: str | None
    rules: tuple[Rule, ...] = ()
    policy: str | None = None
    advice: str = ""
    custom: bool = False
    source: str = ""


@dataclass(frozen=True)
class Disagreement:
    """Where NVIDIA's own parser says something else about an operator ("" for a whole graph): about what, and why the
    table stays as it is."""

    op: str
    what: str
    why: str


@dataclass(frozen=True)
class Table:
    """operators.toml, checked. `rtx` has what TensorRT for RTX "takes" although the table refuses it, and "refuses"."""

    oldest: str
    oldest_reason: str
    native_int64: str
    absent_up_to: str
    severities: Mapping[str, str]
    graph: tuple[Rule, ...]
    operators: Mapping[str, Operator]
    rtx: Mapping[str, tuple[Disagreement, ...]]


def release(version: str) -> Release:
    """A version as integers, so that 10.16 > 10.3; trailing zeros do not count.

    Raises:
        BackendError: not a version.
    """
    if not re.fullmatch(r"\d{1,4}(\.\d{1,6}){0,4}", version):
        raise BackendError("not a TensorRT version", found=version, limit="numbers with dots, such as 10.3 or 8.5.2")
    numbers = [int(number) for number in version.split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


@functools.cache
def operators() -> Table:
    """The project's own table.

    Raises: as `read_operators`.
    """
    return read_operators(OPERATORS)


def read_operators(path: Path) -> Table:
    """The table in a file.

    Raises:
        BackendError: an unknown key, kind, argument, severity or version, or something missing; all of them are named.
    """
    problems: list[str] = []
    try:
        reader = Reader(read_layers(path, lambda name, _: path / name, problems), path, problems)
    except TargetError as error:
        raise BackendError(error.what) from error
    table = _Reading(reader).table()
    if problems:
        raise BackendError(
            f"{path.name} is not a table of operators", problems=problems, fix="correct it, or install gsvexport again"
        )
    return table


class _Reading:
    """Takes the parts of the table out of a `Reader`; what is wrong goes to the reader's problems."""

    def __init__(self, reader: Reader) -> None:
        from gsvexport.backends.tensorrt.rules import GRAPH_KINDS, NODE_KINDS

        self.reader, self.node_kinds, self.graph_kinds = reader, NODE_KINDS, GRAPH_KINDS
        self.kinds: dict[str, dict[str, Any]] = reader.mapping("kinds")

    def table(self) -> Table:
        reader = self.reader
        reader.unknown("", reader.values, ("meta", "kinds", "graph", "rtx", "absent", "op"))
        meta, graph, absent, rtx = (reader.mapping(name) for name in ("meta", "graph", "absent", "rtx"))
        for name, values, known in (
            ("meta", meta, _META),
            ("graph", graph, ("rules", "source")),
            ("rtx", rtx, ("version", *_DISAGREEMENTS)),
            ("absent", absent, ("up_to", "source", "ops", "advice")),
        ):
            reader.unknown(name, values, known)
        self._check_kinds()
        split = self._release("meta.native_int64", meta.get("native_int64"))
        found = {
            name: self._operator(f"op.{name}", values, split)
            for name in reader.mapping("op")
            if (values := reader.mapping(f"op.{name}", reader.mapping("op")))
        }
        advice, source = absent.get("advice", {}), absent.get("source", "")
        for name in absent.get("ops", ()):
            if name in found:
                reader.problem("absent.ops", f"{name} is absent and has an entry of its own")
            found[name] = Operator(None, advice=advice.get(name, ""), source=source)
        return Table(
            oldest=self._release("meta.oldest", meta.get("oldest")),
            oldest_reason=meta.get("oldest_reason", ""),
            native_int64=split,
            absent_up_to=self._release("absent.up_to", absent.get("up_to")),
            severities={name: kind.get("severity", "error") for name, kind in self.kinds.items()},
            graph=self._rules("graph", graph, self.graph_kinds),
            operators=found,
            rtx={side: self._disagreements(side, rtx.get(side, ())) for side in _DISAGREEMENTS},
        )

    def _disagreements(self, side: str, lines: Sequence[Mapping[str, str]]) -> tuple[Disagreement, ...]:
        found = []
        for line in lines:
            self.reader.unknown(f"rtx.{side}", line, ("op", "what", "why"))
            if not line.get("why"):
                self.reader.problem(f"rtx.{side}", f"{line.get('op')}: no 'why'")
            found.append(Disagreement(line.get("op", ""), line.get("what", ""), line.get("why", "")))
        return tuple(found)

    def _check_kinds(self) -> None:
        known = (*_BUILT_IN, *self.node_kinds, *self.graph_kinds)
        self.reader.unknown("kinds", self.kinds, known)
        for name in known:
            if name not in self.kinds:
                self.reader.problem("kinds", f"kind '{name}' has no line")
        for name, kind in self.kinds.items():
            self.reader.unknown(f"kinds.{name}", kind, _KIND)
            self._severity(f"kinds.{name}", kind.get("severity"))
            for bound in ("since", "until"):
                if bound in kind:
                    self._release(f"kinds.{name}", kind[bound])

    def _operator(self, place: str, values: Mapping[str, Any], split: str) -> Operator:
        self.reader.unknown(place, values, _OPERATOR)
        source = values.get("source", "")
        if not source:
            self.reader.problem(place, f"[{place}] lacks 'source'")
        typed = {"inputs": values.get("typed_inputs", [0]), "outputs": values.get("typed_outputs", [])}
        severity = self.kinds.get("dtype", {}).get("severity", "error")
        types = tuple(
            Rule("dtype", severity, since, until, source=source, arguments={"allowed": values[name], **typed})
            for name, since, until in (("dtypes8", None, split), ("dtypes10", split, None))
            if name in values
        )
        return Operator(
            since=self._release(f"{place}.since", values.get("since")),
            rules=types + self._rules(place, values, self.node_kinds),
            policy=values.get("policy"),
            advice=values.get("advice", ""),
            custom=values.get("custom", False),
            source=source,
        )

    def _rules(
        self, name: str, values: Mapping[str, Any], kinds: Mapping[str, Callable[..., object]]
    ) -> tuple[Rule, ...]:
        made = (self._rule(f"{name}.rules", line, kinds, values.get("source", "")) for line in values.get("rules", ()))
        return tuple(rule for rule in made if rule is not None)

    def _rule(
        self, place: str, line: Mapping[str, Any], kinds: Mapping[str, Callable[..., object]], source: str
    ) -> Rule | None:
        kind = str(line.get("kind"))
        if kind not in kinds:
            self.reader.problem(place, f"no kind of rule is called '{kind}' here{nearest(kind, kinds)}")
            return None
        default = self.kinds.get(kind, {})
        bounds = {bound: line.get(bound, default.get(bound)) for bound in ("since", "until")}
        for value in bounds.values():
            if value is not None:
                self._release(place, value)
        arguments = {key: value for key, value in line.items() if key not in _RULE}
        try:
            inspect.signature(kinds[kind]).bind(None, **arguments)
        except TypeError as error:
            self.reader.problem(place, f"rule '{kind}': {error}")
        return Rule(
            kind,
            self._severity(place, line.get("severity", default.get("severity"))),
            **bounds,
            note=line.get("note", ""),
            source=line.get("source", source),
            arguments=arguments,
        )

    def _severity(self, place: str, value: Any) -> str:
        if value not in SEVERITIES:
            self.reader.problem(place, f"severity is one of {', '.join(SEVERITIES)}, not {value!r}")
        return str(value)

    def _release(self, place: str, value: Any) -> str:
        try:
            release(value if isinstance(value, str) else "")
        except BackendError:
            self.reader.problem(place, f'a version is a string such as "10.3", not {value!r}')
        return str(value)
