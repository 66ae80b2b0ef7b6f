"""What of a TFLite graph an Edge TPU would run, as far as that can be told without its compiler.

    place(graph, "vocoder.tflite", tpu, runtime)  →  a verdict for each operator, with rule, source and confidence

The rules are data (`edgetpu.toml`), what each kind means is in `rules.py`. All of it is a prediction: no compiler has
confirmed it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gsvexport.backends.tflite.graph import Graph, Operator, Tensor
from gsvexport.backends.tflite.rules import KINDS, Site, sizes
from gsvexport.backends.tflite.table import Operator as Known
from gsvexport.backends.tflite.table import Rule, Table, table
from gsvexport.errors import BackendError

MAPPED, REFUSED, AFTER = "mapped", "refused", "after"
_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")


@dataclass(frozen=True)
class Finding:
    """One rule that an operator breaks; `text` has what was found and what is allowed."""

    rule: str
    text: str
    source: str
    confidence: str


@dataclass(frozen=True)
class Row:
    """The verdict on one operator: "mapped", "refused", or "after" the first refused one; `macs`: its multiply-adds."""

    kind: str
    name: str
    verdict: str
    macs: int
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Placement:
    """A graph beside the Edge TPU's rules.

    `parameter_bytes` are those of the mapped operators' constants, `streamed_bytes` what of them does not stay on the
    chip and comes over the link in every run; `moved_bytes` are the activations that cross the link, in and out.
    `largest` is the largest mapped activation, its name and bytes, `since` the oldest runtime that has every mapped
    operator. `estimate_ms` is labelled so wherever it is shown: see `estimate`.
    """

    file: str
    runtime: int
    rows: tuple[Row, ...]
    parameter_bytes: int
    cache_bytes: int
    streamed_bytes: int
    moved_bytes: int
    largest: tuple[str, int]
    since: int
    estimate_ms: float

    @property
    def cut(self) -> int | None:
        """Number of the first operator that is refused; None where all are mapped."""
        return next((number for number, row in enumerate(self.rows) if row.verdict == REFUSED), None)

    @property
    def mapped(self) -> int:
        """How many operators are mapped."""
        return sum(row.verdict == MAPPED for row in self.rows)

    @property
    def macs(self) -> int:
        """Multiplications of the whole graph."""
        return sum(row.macs for row in self.rows)

    @property
    def mapped_macs(self) -> int:
        """Those of mapped operators."""
        return sum(row.macs for row in self.rows if row.verdict == MAPPED)


def place(graph: Graph, file: str, tpu: Mapping[str, float], runtime: int) -> Placement:
    """The verdict on every operator of `graph` for an Edge TPU of `runtime`.

    `tpu` has the target's `sram_mb`, `tops_int8` and `link_gbs`.

    Raises:
        BackendError: a runtime that the table does not know.
    """
    known = table()
    if not known.oldest <= runtime <= known.newest:
        limit = f"{known.oldest} to {known.newest}"
        raise BackendError(
            "no such Edge TPU runtime", found=runtime, limit=limit, fix="correct device.runtimes.edgetpu"
        )
    rows: list[Row] = []
    for operator in graph.operators:
        found = tuple(_findings(graph, operator, known, runtime))
        verdict = REFUSED if found else MAPPED
        if rows and rows[-1].verdict != MAPPED:
            first = next(row for row in rows if row.verdict == REFUSED)
            rule = known.general["single_partition"]
            text = f"comes after {first.kind} '{first.name}', which is refused"
            found, verdict = (Finding(rule.kind, text, rule.source, rule.confidence), *found), AFTER
        rows.append(Row(operator.kind, operator.name, verdict, macs(graph, operator), found))
    mapped = graph.operators[: sum(row.verdict == MAPPED for row in rows)]  # they come first: one partition
    parameters = sum(graph.tensors[index].bytes for index in _constants(graph, mapped))
    cache = int(tpu["sram_mb"] * 2**20)
    largest = max(_activations(graph, mapped), key=lambda tensor: tensor.bytes, default=None)
    moved = sum(graph.tensors[index].bytes for index in _crossing(graph, mapped))
    streamed = max(0, parameters - cache)
    return Placement(
        file=file,
        runtime=runtime,
        rows=tuple(rows),
        parameter_bytes=parameters,
        cache_bytes=cache,
        streamed_bytes=streamed,
        moved_bytes=moved,
        largest=(largest.name, largest.bytes) if largest else ("", 0),
        since=max((known.operators[operator.kind].since for operator in mapped), default=0),
        estimate_ms=estimate(sum(row.macs for row in rows if row.verdict == MAPPED), streamed + moved, tpu),
    )


def estimate(mapped_macs: int, crossing_bytes: int, tpu: Mapping[str, float]) -> float:
    """ms of one run on the TPU: 2 · MACs / TOPS + bytes over the link / its speed.

    A lower bound: the TPU's peak is assumed, nothing overlaps, and the processor's share is not in it.
    """
    return 1e3 * (2 * mapped_macs / (tpu["tops_int8"] * 1e12) + crossing_bytes / (tpu["link_gbs"] * 1e9))


def macs(graph: Graph, operator: Operator) -> int:
    """Multiply-adds of an operator that has weights; 0 for the others, which no peak is quoted for.

    A transposed convolution counts what falls off its ends, too.
    """
    site = Site(graph, operator)
    weights, data = site.input(1), site.input(2 if operator.kind == "TRANSPOSE_CONV" else 0)
    if weights is None or data is None or not operator.outputs:
        return 0
    outputs = graph.tensors[operator.outputs[0]].shape
    if operator.kind in _CONVOLUTIONS:
        return math.prod(outputs[:-1]) * math.prod(weights.shape)
    if operator.kind == "TRANSPOSE_CONV":
        return math.prod(data.shape[:-1]) * math.prod(weights.shape)
    if operator.kind == "FULLY_CONNECTED":
        return math.prod(outputs[:-1]) * math.prod(weights.shape)
    if operator.kind == "BATCH_MATMUL":
        return math.prod(outputs) * data.shape[-1]
    return 0


def oldest_runtime(releases: str) -> int:
    """The oldest Edge TPU runtime that a target's `runtimes.edgetpu` (such as ">=14") allows."""
    found = re.match(r"(?:>=|==)(\d+)", releases)
    return int(found[1]) if found else table().oldest


# --- the rules for every operator -----------------------------------------------------------------------------------


def _findings(graph: Graph, operator: Operator, known: Table, runtime: int) -> Iterator[Finding]:
    """Everything that keeps one operator off the TPU."""
    entry = known.operators.get(operator.kind)
    if entry is None or not entry.since:
        custom = f" {operator.options.get('custom_code')}" if operator.kind == "CUSTOM" else ""
        text = f"the Edge TPU has no {operator.kind}{custom}"
        if entry is None:
            yield _finding(known, "operator", text)
        else:
            advice = f"; {entry.advice}" if entry.advice else ""
            yield Finding("operator", text + advice, entry.source, entry.confidence)
        return
    if runtime < entry.since:
        text = f"{operator.kind} needs runtime {entry.since}; the target has {runtime}"
        yield Finding("runtime", text, entry.source, entry.confidence)
    if operator.version > entry.version:
        yield _finding(known, "version", f"version {operator.version}; the compiler knows up to {entry.version}")
    site = Site(graph, operator)
    yield from (_finding(known, rule, text) for rule, text in _types(site, entry, known))
    yield from (_finding(known, rule, text) for rule, text in _shapes(site, known))
    for rule in entry.rules:
        if rule.since <= runtime and (rule.until is None or runtime < rule.until):
            for text in KINDS[rule.kind](site, **rule.arguments):
                yield Finding(rule.kind, text, rule.source, rule.confidence)


def _types(site: Site, entry: Known, known: Table) -> Iterator[tuple[str, str]]:
    whole = (*entry.bias, *entry.numbers)
    for index, tensor in site.inputs():
        parameter = index in entry.weights or index in whole
        if parameter and tensor.data is None:
            yield "constant", f"input {index} '{tensor.name}' is computed; must be a constant"
        if index in whole:
            if tensor.dtype != "int32":
                yield "dtype", f"input {index} '{tensor.name}' is {tensor.dtype}; must be int32"
        else:
            yield from _eight_bits(f"input {index}", tensor, known)
    for tensor in site.outputs():
        yield from _eight_bits("output", tensor, known)
    fused = site.operator.options.get("fused_activation_function", "NONE")
    if fused not in known.fused:
        yield "fused", f"{fused} is fused; allowed: {', '.join(known.fused)}"


def _eight_bits(place: str, tensor: Tensor, known: Table) -> Iterator[tuple[str, str]]:
    if tensor.dtype not in known.activations:
        yield "dtype", f"{place} '{tensor.name}' is {tensor.dtype}; must be {' or '.join(known.activations)}"
    elif tensor.quantisation is None:
        yield "dtype", f"{place} '{tensor.name}' has no scale"


def _shapes(site: Site, known: Table) -> Iterator[tuple[str, str]]:
    tensors = [tensor for _, tensor in site.inputs() if tensor.data is None] + site.outputs()
    for tensor in dict.fromkeys(tensors):
        if any(axis < 0 for axis in tensor.signature or ()):
            yield "static", f"'{tensor.name}' is declared as {sizes(tensor.signature or ())}; every axis must be fixed"
        if any(axis > 1 for axis in tensor.shape[: -known.innermost]):
            text = f"'{tensor.name}' is {sizes(tensor.shape)}; only the {known.innermost} innermost axes may exceed 1"
            yield "innermost", text


def _finding(known: Table, name: str, text: str) -> Finding:
    rule: Rule = known.general[name]
    return Finding(name, text, rule.source, rule.confidence)


# --- what crosses the link ------------------------------------------------------------------------------------------


def _constants(graph: Graph, operators: tuple[Operator, ...]) -> set[int]:
    """The constants that operators read, each once."""
    used = {index for operator in operators for index in operator.inputs if index >= 0}
    return {index for index in used if graph.tensors[index].data is not None}


def _activations(graph: Graph, operators: tuple[Operator, ...]) -> list[Tensor]:
    used = {index for operator in operators for index in (*operator.inputs, *operator.outputs) if index >= 0}
    return [graph.tensors[index] for index in sorted(used) if graph.tensors[index].data is None]


def _crossing(graph: Graph, operators: tuple[Operator, ...]) -> set[int]:
    """Activations that the mapped operators take from outside, and those of theirs that are used outside."""
    made = {index for operator in operators for index in operator.outputs}
    read = {index for operator in operators for index in operator.inputs if index >= 0}
    rest = graph.operators[len(operators) :]
    wanted = {*graph.outputs, *(index for operator in rest for index in operator.inputs)}
    entering = {index for index in read - made if graph.tensors[index].data is None}
    return entering | (made & wanted)
