"""The outcome of a verification: every check as metric, value, limit, baseline, n and status.

Values are rounded to four significant digits when a check is made and judged after that, so that a stored report agrees
with itself and equal inputs give equal bytes on one kind of machine. Nothing machine-local is in the stored form.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from gsvexport.errors import ArtifactError

SCHEMA = 2
Status = Literal["pass", "fail", "not_run", "info"]
Direction = Literal["max", "min"]

_PLACES = {"emulated": "a core", "elsewhere": "a machine", "compiled": "a compiler", "proof": "a rung of proof"}
_COLUMNS: tuple[str, ...] = (
    *("level", "stage", "metric", "value", "95 %", "limit", "baseline", "n", "against", "status", "reason"),
)
_SIGNS = {"max": "≤", "min": "≥"}
_WORDS = {"pass": "pass", "fail": "FAIL", "not_run": "NOT RUN", "info": "-"}


@dataclass(frozen=True)
class Check:
    """One measured number and what was asked of it.

    `level` is the level of proof: 0 package, 1 tensors, 2 audio of fixed tokens and noise, 3 free run, 4 on the device.
    `against` names what the value was compared with. With direction "max" the value must not exceed the limit, with
    "min" not fall below it. `baseline` is the reference's own value where that means something, `n` how many items
    (rows, samples, cases) were looked at. `value` is None when there is no finite number; `reason` then says why.
    Status "info" is a measurement without a limit: it neither passes nor fails. `low` and `high` are the bounds of a
    95 % interval around a value that was estimated; the worse of the two is then what must keep the limit.
    """

    level: int
    stage: str
    metric: str
    against: str
    value: float | None
    limit: float | None
    direction: Direction
    n: int
    status: Status
    baseline: float | None = None
    reason: str = ""
    low: float | None = None
    high: float | None = None

    @property
    def worst(self) -> float | None:
        """The number that the limit is for: the value, or the worse bound of its interval."""
        bound = self.high if self.direction == "max" else self.low
        return self.value if bound is None else bound

    def __post_init__(self) -> None:
        if problem := _contradiction(self):
            raise ArtifactError(f"check {self.stage}.{self.metric} contradicts itself: {problem}")


@dataclass(frozen=True)
class Report:
    """All checks of one artifact. `environment` describes the machine; it is shown, but kept out of the stored form.

    `emulated` is the core that was emulated, as compilers name it; None means that the artifact ran natively.
    `elsewhere` names the machine it ran on where that is not what the artifact was made for: "x86-64", say. `compiled`
    names the vendor's compiler that judged its graphs, and what it lacked. `proof` says how strongly that proves each
    stage, in the words of `gsvexport.artifact.proof`.
    """

    checks: tuple[Check, ...]
    environment: dict[str, str] = field(default_factory=dict, compare=False)
    emulated: str | None = None
    elsewhere: str | None = None
    compiled: str | None = None
    proof: str | None = None

    @property
    def passed(self) -> bool:
        """No check failed and at least one comparison passed.

        A check that did not run is never a pass; that a package is in order (level 0) and that a stage ran ("valid")
        say nothing about what it computes.
        """
        compared = any(c.status == "pass" and c.level > 0 and c.metric != "valid" for c in self.checks)
        return compared and not self.failures

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.status == "fail")

    def to_json(self) -> dict[str, Any]:
        """Plain values without anything machine-local, ready for `canonical_json`."""
        ran = {name: text for name in _PLACES if (text := getattr(self, name))}
        return {"schema": SCHEMA, "passed": self.passed, **ran, "checks": [asdict(check) for check in self.checks]}

    @classmethod
    def from_json(cls, value: Any, where: str = "the report") -> Report:
        """Rebuild from `to_json`'s value; `where` names the file in errors.

        Raises:
            ArtifactError: unknown schema, missing or unknown keys, a status that its own numbers contradict.
        """
        if not isinstance(value, dict) or value.get("schema") != SCHEMA:
            found = value.get("schema") if isinstance(value, dict) else type(value).__name__
            raise ArtifactError(
                f"{where} is not a report that this release reads",
                found=f"schema {found}",
                limit=f"schema {SCHEMA}",
                fix="run gsvexport verify again, or install the gsvexport that wrote it",
            )
        checks, problems = [], []
        rows = value.get("checks")
        for index, row in enumerate(rows if isinstance(rows, list) else ()):
            try:
                checks.append(Check(**row))
            except (TypeError, ArtifactError) as error:
                problems.append(f"check {index}: {error}")
        ran: dict[str, Any] = {name: value.get(name) for name in _PLACES}
        for name, text in ran.items():
            if text is not None and not (text and isinstance(text, str)):
                problems.append(f"'{name}' is not the name of {_PLACES[name]}")
        report = cls(tuple(checks), **ran)
        if not isinstance(rows, list):
            problems.append("'checks' is not a list")
        elif not problems and value.get("passed") is not report.passed:
            problems.append(f"'passed' is {value.get('passed')}, its checks say {report.passed}")
        if problems:
            raise ArtifactError(f"{where} is damaged", problems=problems, fix="run gsvexport verify again")
        return report

    def table(self) -> str:
        """Fixed-width text for a terminal: one line a check, then the totals and the machine."""
        header: tuple[str, ...] = (
            "level",
            "stage",
            "metric",
            "value",
            "95 %",
            "limit",
            "baseline",
            "n",
            "against",
            "status",
            "reason",
        )
        rows: list[tuple[str, ...]] = [
            (
                f"L{check.level}",
                check.stage,
                check.metric,
                _number(check.value),
                "" if check.low is None else f"{_number(check.low)} to {_number(check.high)}",
                "-" if check.limit is None else f"{_SIGNS[check.direction]} {_number(check.limit)}",
                _number(check.baseline),
                str(check.n),
                check.against,
                _WORDS[check.status],
                check.reason,
            )
            for check in self.checks
        ]
        if not any(check.low is not None for check in self.checks):
            header, rows = _without(header, 4), [_without(row, 4) for row in rows]
        widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
        numeric = {header.index(name) for name in ("value", "limit", "baseline", "n")}
        lines = [
            "  ".join(
                cell.rjust(width) if column in numeric else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in (header, *rows)
        ]
        lines.append(self.summary())
        lines += [f"emulated: {self.emulated}"] if self.emulated else []
        lines += [f"compiled: {self.compiled}"] if self.compiled else []
        lines += [f"ran on {self.elsewhere}, not on what it was made for"] if self.elsewhere else []
        lines += [f"{name}: {text}" for name, text in self.environment.items()]
        return "\n".join(lines)

    def summary(self) -> str:
        """One line: the verdict and the count of each status."""
        count = Counter(check.status for check in self.checks)
        verdict = "passed" if self.passed else "FAILED" if count["fail"] else "NOT VERIFIED"
        return (
            f"{verdict}: {count['pass']} pass, {count['fail']} fail, {count['not_run']} not run, "
            f"{count['info']} measured without a limit"
        )


def _without(row: tuple[str, ...], column: int) -> tuple[str, ...]:
    return row[:column] + row[column + 1 :]


def rounded(value: float) -> float:
    """The value with four significant digits."""
    return float(f"{value:.4g}")


def meets(value: float, limit: float, direction: Direction) -> bool:
    """Whether a value keeps its limit."""
    return value <= limit if direction == "max" else value >= limit


def _contradiction(check: Check) -> str | None:
    """Why the fields of a check cannot all be true, or None."""
    strings = (check.stage, check.metric, check.against, check.reason)
    bounds = {"low": check.low, "high": check.high}
    numbers = {"value": check.value, "limit": check.limit, "baseline": check.baseline, **bounds}
    if check.status not in get_args(Status) or check.direction not in get_args(Direction):
        return f"status {check.status!r} or direction {check.direction!r} is unknown"
    if not all(isinstance(text, str) for text in strings) or not all(_whole(n) for n in (check.level, check.n)):
        return "a field has the wrong type"
    for name, number in numbers.items():
        real = isinstance(number, (int, float)) and not isinstance(number, bool)
        if number is not None and not (real and math.isfinite(number)):
            return f"{name} is {number!r}, not a finite number"
    if check.status == "pass" and (check.value is None or check.limit is None):
        return "a pass needs a value and a limit"
    if check.status == "info" and (check.value is None or check.limit is not None):
        return "a measurement without a limit needs a value, and no limit"
    if check.status in ("fail", "not_run") and check.value is None and not check.reason:
        return f"{check.status} without a value needs a reason"
    if check.status == "not_run" and check.value is not None:
        return "a check that did not run has no value"
    if (check.low is None) != (check.high is None) or (check.low is not None and check.value is None):
        return "an interval needs both bounds, and a value"
    if check.low is not None and check.high is not None and check.low > check.high:
        return f"its interval goes from {check.low} to {check.high}"
    if check.status in ("pass", "fail") and check.worst is not None and check.limit is not None:
        kept = meets(check.worst, check.limit, check.direction)
        if kept != (check.status == "pass"):
            return f"{check.status}, with value {check.worst} and limit {check.direction} {check.limit}"
    return None


def _whole(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number >= 0


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"
