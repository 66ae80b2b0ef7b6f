"""Whether a TensorRT of some version takes a graph, as far as that can be told without TensorRT.

    check(model, "10.3", stage="step")  →  every finding, each with its node, rule, versions and source

The rules are data (`operators.toml`), what each kind of rule means is in `rules.py`. It is for releases whose parser
nobody can run here, 8.5 to 10.13; where it differs from the one of TensorRT for RTX, which `compiled.py` asks, the
table says so. No finding is no proof, and the device decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gsvexport.backends.tensorrt.table import Rule, Table, operators, release
from gsvexport.errors import BackendError, missing_package

if TYPE_CHECKING:
    import onnx_ir as ir

    from gsvexport.backends.tensorrt.scope import Hits, Scope, Site


@dataclass(frozen=True)
class Finding:
    """One rule that one node, or a whole graph (`node` and `op` empty), breaks.

    `since` and `until` (exclusive) bound the TensorRT versions that have the rule; None is open. `advice` says what to
    do about an operator that is not there.
    """

    stage: str
    node: str
    op: str
    kind: str
    severity: str
    message: str
    since: str | None
    until: str | None
    source: str
    advice: str = ""


def check(model: ir.Model, version: str, *, stage: str) -> tuple[Finding, ...]:
    """Everything that keeps TensorRT `version` from taking the graph, or is worth knowing. The graph is not changed.

    Raises:
        BackendError: a version that is none, or older than the table.
        EnvironmentProblem: the extra `compile` is not installed.
    """
    return check_all({stage: model}, [version])[version]


def check_all(models: Mapping[str, ir.Model], versions: Iterable[str]) -> dict[str, tuple[Finding, ...]]:
    """`check` for all stages (name → graph) and versions: findings by version, in the order of stages and nodes.

    Raises: as `check`.
    """
    try:
        table = operators()
        versions = _accepted(versions, table)
        prepared = {stage: (annotated(model), _function_names(model)) for stage, model in models.items()}
    except ImportError as error:
        raise missing_package(error.name or "onnx-ir", "checking a graph for TensorRT", "compile") from error
    return {
        version: tuple(
            finding
            for stage, (model, functions) in prepared.items()
            for finding in _findings(table, model, functions, version, stage)
        )
        for version in versions
    }


def annotated(model: ir.Model) -> ir.Model:
    """The model with a type and shape for every value, and its own functions inlined.

    It is `model` itself where nothing is missing, else a copy. Dimensions may be symbolic. What cannot be inferred, as
    after an unknown operator, stays unknown.
    """
    from onnx_ir.passes import common
    from onnx_ir.traversal import RecursiveGraphIterator

    values = [value for node in RecursiveGraphIterator(model.graph) for value in node.outputs if value.name != ""]
    if not model.functions and all(value.dtype is not None and value.shape is not None for value in values):
        return model
    model = model.clone()
    common.InlinePass()(model)
    common.ShapeInferencePass(check_type=False, strict_mode=False)(model)
    return model


def summary(findings: Mapping[str, Sequence[Finding]], *, reasons: int = 2) -> str:
    """One line a version: clean or how many errors, with the first reasons; and how many warnings."""
    return "\n".join(f"TensorRT {version:<7} {_verdict(found, reasons)}" for version, found in findings.items())


def _verdict(findings: Sequence[Finding], reasons: int) -> str:
    warnings = sum(finding.severity == "warn" for finding in findings)
    errors: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        if finding.severity == "error":
            errors.setdefault((finding.op, finding.kind), []).append(finding)
    total = _count(sum(map(len, errors.values())), "error") if errors else "clean"
    verdict = f"{total}, {_count(warnings, 'warning')}" if warnings else total
    shown = [
        f"{op or 'graph'}: {group[0].message} (×{len(group)}: {', '.join(dict.fromkeys(one.stage for one in group))})"
        for (op, _), group in list(errors.items())[:reasons]
    ]
    more = [f"and {_count(len(errors) - reasons, 'more reason')}"] if len(errors) > reasons else []
    return ": ".join(filter(None, (verdict, "; ".join(shown + more))))


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'s' * (number != 1)}"


# --- applying the rules ---------------------------------------------------------------------------------------------


def _accepted(versions: Iterable[str], table: Table) -> tuple[str, ...]:
    versions, problems = tuple(versions), []
    for version in versions:
        try:
            if release(version) < release(table.oldest):
                problems.append(f"{version} is older than {table.oldest}")
        except BackendError:
            problems.append(f"'{version}' is not a version")
    if problems:
        raise BackendError(
            "TensorRT versions that no lowering is for",
            problems=problems,
            limit=f"numbers with dots, >= {table.oldest}; {table.oldest_reason}",
            fix="update JetPack, or use an onnxruntime target such as generic-arm64",
        )
    return versions


def _function_names(model: ir.Model) -> tuple[str, ...]:
    return tuple(sorted(f"{domain}.{name}" for domain, name, _ in model.functions))


def _findings(table: Table, model: ir.Model, functions: tuple[str, ...], version: str, stage: str) -> Iterator[Finding]:
    from gsvexport.backends.tensorrt.rules import GRAPH_KINDS, NODE_KINDS
    from gsvexport.backends.tensorrt.scope import Scope, Site

    at = release(version)
    scope = Scope(model, functions, native_int64=at >= release(table.native_int64))
    for rule in table.graph:
        if rule.holds_for(at):
            yield from _broken(rule, GRAPH_KINDS[rule.kind], scope, stage)
    for node in scope.nodes():
        site, operator = Site(node, scope), table.operators.get(node.op_type)
        standard = node.domain in ("", "ai.onnx")
        if operator is None or operator.custom == standard:
            where = "" if standard else f" of domain {node.domain}"
            rule = Rule("unknown_op", table.severities["unknown_op"], source="operators.md of every surveyed version")
            yield _finding(rule, site, stage, f"no importer is known for {node.op_type}{where}")
        elif operator.since is None or at < release(operator.since):
            since = operator.since
            rule = Rule("unsupported_op", table.severities["unsupported_op"], until=since, source=operator.source)
            text = f"no importer before {since}" if since else f"no importer up to {table.absent_up_to}"
            yield _finding(rule, site, stage, text, advice=operator.advice)
        else:
            for rule in operator.rules:
                if rule.holds_for(at):
                    yield from _broken(rule, NODE_KINDS[rule.kind], site, stage)


def _broken(rule: Rule, kind: Callable[..., Hits], subject: Site | Scope, stage: str) -> Iterator[Finding]:
    for hit in kind(subject, **rule.arguments):
        text = f"{hit.text} ({rule.note})" if rule.note else hit.text
        yield _finding(rule, subject, stage, text, unsure=hit.unsure)


def _finding(
    rule: Rule, subject: Site | Scope, stage: str, text: str, *, unsure: bool = False, advice: str = ""
) -> Finding:
    node = getattr(subject, "node", None)
    name = "" if node is None else node.name or next((value.name for value in node.outputs if value.name), "?")
    return Finding(
        stage=stage,
        node=name,
        op="" if node is None else node.op_type,
        kind=rule.kind,
        severity="warn" if unsure and rule.severity == "error" else rule.severity,
        message=text,
        since=rule.since,
        until=rule.until,
        source=rule.source,
        advice=advice,
    )
