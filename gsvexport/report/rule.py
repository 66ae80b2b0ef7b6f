"""Is one artifact worse than another? Checks by the share of their limits, sizes by bytes; every reason is told.

The rule, for checks of the same level, stage, metric and reference: the candidate is worse when it uses up more than
`Tolerance.margin` of the limit beyond what the baseline uses (see `margins.used`). A check that fails, is gone, does
not run any more or has no limit any more is worse whatever its value. Both are measured on the baseline's limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from gsvexport.report.margins import used
from gsvexport.verify.report import Check, Report

SCHEMA = 1
Outcome = Literal["same", "better", "worse", "regressed", "new", "not_run"]


@dataclass(frozen=True)
class Tolerance:
    """`margin` is a share of a limit, `size` the share by which an artifact may grow."""

    margin: float = 0.10
    size: float = 0.05


@dataclass(frozen=True)
class Row:
    """One check in both: `before` in the baseline, `after` in the candidate, and the shares of the limit they use.

    "worse" is within the margin, "regressed" beyond it; `reason` says why.
    """

    before: Check | None
    after: Check | None
    used_before: float | None
    used_after: float | None
    outcome: Outcome
    reason: str = ""

    @property
    def name(self) -> str:
        """Stage, metric and reference."""
        check = self.after or self.before
        assert check is not None
        return f"{check.stage}.{check.metric} ({check.against})"


@dataclass(frozen=True)
class Amount:
    """Bytes of one thing in both; None where it is not there."""

    name: str
    before: int | None
    after: int | None


@dataclass(frozen=True)
class Comparison:
    """Two artifacts side by side: (what, baseline, candidate) in words, then every check and size.

    `worse` holds reasons that belong to no single check, `notes` what to keep in mind.
    """

    about: tuple[tuple[str, str, str], ...]
    rows: tuple[Row, ...]
    sizes: tuple[Amount, ...]
    tolerance: Tolerance
    worse: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the candidate is worse; empty when it is not."""
        return (*(row.reason for row in self.rows if row.outcome == "regressed"), *self.worse)

    @property
    def passed(self) -> bool:
        """The candidate is no worse."""
        return not self.reasons

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `canonical_json`."""
        return {
            "schema": SCHEMA,
            "passed": self.passed,
            "reasons": list(self.reasons),
            "notes": list(self.notes),
            "tolerance": asdict(self.tolerance),
            "about": [{"what": what, "before": before, "after": after} for what, before, after in self.about],
            "checks": [{"name": row.name, **asdict(row)} for row in self.rows],
            "sizes": [asdict(one) for one in self.sizes],
        }


def compare_checks(before: Report, after: Report, tolerance: Tolerance) -> tuple[Row, ...]:
    """Every check of both reports, in the order of the candidate's; what it lacks comes last."""
    old, new = _by_key(before.checks), _by_key(after.checks)
    rows = [_row(old.get(key), check, tolerance.margin) for key, check in new.items()]
    rows += [_row(check, None, tolerance.margin) for key, check in old.items() if key not in new]
    return tuple(rows)


def unproven(rows: Sequence[Row]) -> tuple[str, ...]:
    """A reason where no check with a limit ran in both, for then nothing shows that the candidate is no worse."""
    if any(row.used_before is not None and row.used_after is not None for row in rows):
        return ()
    return ("no check with a limit ran in both: nothing shows that it is no worse",)


def grown(whole: Amount, tolerance: Tolerance) -> tuple[str, ...]:
    """A reason where the size of the whole has grown by more than it may."""
    if not whole.before or not whole.after or whole.after <= whole.before * (1 + tolerance.size):
        return ()
    rise = whole.after / whole.before - 1
    return (f"{whole.name}: {whole.before} → {whole.after} bytes, {rise:+.1%}; allowed {tolerance.size:+.1%}",)


def _row(before: Check | None, after: Check | None, margin: float) -> Row:
    limit = next((check.limit for check in (before, after) if check and check.limit is not None), None)
    first, second = (used(check, limit) if check else None for check in (before, after))

    def row(outcome: Outcome, reason: str = "") -> Row:
        named = Row(before, after, first, second, outcome)
        return Row(before, after, first, second, outcome, f"{named.name}: {reason}" if reason else "")

    if after is None:
        return row("regressed", "it was checked before and is not any more")
    if after.status == "fail":
        was = "new" if before is None else _told(before)
        return row("regressed", f"fails: {was} → {_told(after)}, {_limit(after, after.limit)}{_why(after)}")
    if before is None:
        return row("new")
    if after.status == "not_run":
        if before.status == "not_run":
            return row("not_run")
        return row("regressed", f"{_told(before)} → did not run{_why(after)}")
    if before.status == "not_run":
        return row("new")
    if after.limit is None and before.limit is not None:
        return row("regressed", f"{_told(before)} → {_told(after)}; it had a limit, {before.limit:g}, and has none")
    if first is None or second is None:  # measured without a limit: shown, not judged
        return row("same" if before.value == after.value else _moved(before, after))
    if second > first + margin:
        return row(
            "regressed",
            f"{_told(before)} → {_told(after)}, {_limit(before, limit)}: "
            f"{second - first:+.1%} of the limit, allowed {margin:+.1%}",
        )
    if first == second and before.value == after.value:
        return row("same")
    return row(_moved(before, after))


def _moved(before: Check, after: Check) -> Outcome:
    rise = (after.value or 0.0) - (before.value or 0.0)
    if not rise:
        return "same"
    return "better" if (rise > 0) == (after.direction == "min") else "worse"


def _told(check: Check) -> str:
    return "not run" if check.value is None else f"{check.value:g}"


def _limit(check: Check, limit: float | None) -> str:
    return "no limit" if limit is None else f"limit {'≤' if check.direction == 'max' else '≥'} {limit:g}"


def _why(check: Check) -> str:
    return f" ({check.reason})" if check.reason else ""


def _by_key(checks: Sequence[Check]) -> dict[tuple[Any, ...], Check]:
    """Checks by what they are; equal ones, should there be any, by their order."""
    found: dict[tuple[Any, ...], Check] = {}
    for check in checks:
        key: tuple[Any, ...] = (check.level, check.stage, check.metric, check.against, 0)
        while key in found:
            key = (*key[:-1], key[-1] + 1)
        found[key] = check
    return found
