"""Pages of text for a terminal, readable at `WIDTH` columns: a report's checks, and two artifacts side by side."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterable, Sequence
from typing import IO

from gsvexport.report.margins import MOST, mos_basis, used
from gsvexport.report.markup import plain
from gsvexport.report.rule import Comparison, Row
from gsvexport.verify.report import Check, Report

WIDTH = 100
LEVELS = {
    0: "package",
    1: "tensors, stage by stage",
    2: "sound of fixed codes and noise",
    3: "free speech",
    4: "on the device",
}
SIGNS = {"max": "≤", "min": "≥"}
WORDS = {"pass": "pass", "fail": "FAIL", "not_run": "NOT RUN", "info": "no limit"}
_COLOURS = {"pass": "32", "fail": "1;31", "not_run": "33", "info": "2", "head": "1"}


def wants_colour(stream: IO[str]) -> bool:
    """Whether a stream is a terminal that shows colours, and nobody asked for none (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def report_page(report: Report, *, colour: bool = False) -> str:
    """Every check by level, then what failed and what did not run with the reasons, then the verdict.

    What failed also stands first in its level, for it is what a reader came for.
    """
    lines: list[str] = []
    for level in sorted({check.level for check in report.checks}):
        mine = [check for check in report.checks if check.level == level]
        mine.sort(key=lambda check: check.status != "fail")
        lines.append(paint(f"L{level}  {LEVELS.get(level, '')}", "head", colour))
        lines += [f"  {line}" for line in _checks(mine, colour)] + [""]
    lines += verdict_lines(report, colour=colour)
    lines += [line for name, text in report.environment.items() for line in wrapped(f"{name}: {text}", indent="")]
    return "\n".join(lines) + "\n"


def verdict_lines(report: Report, *, colour: bool = False) -> list[str]:
    """What failed and what did not run, with the reasons, then the verdict and where it was found."""
    lines: list[str] = []
    if report.failures:
        lines.append(paint("FAILED", "fail", colour))
        for check in report.failures:
            lines += wrapped(f"{check.stage}.{check.metric} against {plain(check.against)}: {failure(check)}")
        lines.append("")
    if idle := not_run(report):
        lines.append(paint("NOT RUN", "not_run", colour))
        for reason, names in idle.items():
            lines += wrapped(f"{len(names)} because {reason}: {', '.join(names)}")
        lines.append("")
    if basis := mos_basis(report):
        lines += wrapped(basis, indent="")
    lines.append(paint(report.summary(), verdict(report), colour))
    return lines + (wrapped(place(report), indent="") if place(report) else [])


def verdict(report: Report) -> str:
    """ "pass", "fail" or "not_run" for a report as a whole."""
    return "pass" if report.passed else "fail" if report.failures else "not_run"


def failure(check: Check) -> str:
    """A failed check's value, limit and reason in words."""
    limit = "no limit" if check.limit is None else f"limit {SIGNS[check.direction]} {number(check.limit)}"
    share = used(check)
    times = f", {percent(share)} of it" if share is not None and 1 < share < MOST else ""
    return f"{interval(check)}, {limit}{times}" + (f" ({plain(check.reason)})" if check.reason else "")


def not_run(report: Report) -> dict[str, list[str]]:
    """The names of the checks that did not run, by the reason."""
    found: dict[str, list[str]] = {}
    for check in report.checks:
        if check.status == "not_run":
            found.setdefault(plain(check.reason), []).append(f"{check.stage}.{check.metric}")
    return found


def place(report: Report) -> str:
    """What ran in the place of what an artifact was made for, in sentences; empty where it ran on that itself."""
    proven = f" Proof: {plain(report.proof)}." if report.proof else ""
    return (_place(report) + proven).strip()


def _place(report: Report) -> str:
    judged = f" Its graphs were compiled by {plain(report.compiled)}." if report.compiled else ""
    if report.emulated:
        return f"Ran on an emulated {plain(report.emulated)}.{judged}"
    return f"Ran on {plain(report.elsewhere)}, not on what it was made for." if report.elsewhere else ""


def number(value: float | None) -> str:
    """Up to four digits; a dash for none."""
    return "-" if value is None else f"{value:.4g}"


def interval(check: Check) -> str:
    """A check's value, and its interval where it has one."""
    return number(check.value) + ("" if check.low is None else f" [{number(check.low)}, {number(check.high)}]")


def percent(share: float | None) -> str:
    """A share of a limit; a dash for none."""
    if share is None:
        return "-"
    return f"{share:.0%}" if share < MOST else "all"


def columns(rows: Iterable[Sequence[str]], right: Iterable[int] = ()) -> list[str]:
    """Lines of columns as wide as their widest cell, two spaces apart; `right` names those that end together."""
    rows, right = [list(row) for row in rows], set(right)
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def wrapped(text: str, indent: str = "  ") -> list[str]:
    """Lines of at most `WIDTH` columns; all but the first stand further in."""
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent + "    ", break_on_hyphens=False)


def paint(text: str, tone: str, colour: bool) -> str:
    """Text in the colour of a status, or of a heading; unchanged without `colour`."""
    return f"\x1b[{_COLOURS[tone]}m{text}\x1b[0m" if colour else text


def comparison_page(found: Comparison, *, colour: bool = False, everything: bool = False) -> str:
    """Two artifacts side by side: what they are, sizes, checks, then the verdict with its reasons.

    Without `everything` checks that came out the same are only counted.
    """
    lines = columns([("", "BASELINE", "CANDIDATE"), *((what, a, b) for what, a, b in found.about)])
    sizes = [(one.name, _bytes(one.before), _bytes(one.after), _change(one.before, one.after)) for one in found.sizes]
    lines += ["", *columns([("BYTES", "BASELINE", "CANDIDATE", "CHANGE"), *sizes], right=(1, 2, 3)), ""]
    shown = [row for row in found.rows if everything or row.outcome not in ("same", "not_run")]
    shown.sort(key=lambda row: row.outcome != "regressed")
    head = ("CHECK", "BASELINE", "CANDIDATE", "LIMIT", "USED", "", "OUTCOME")
    cells = [head, *(_row(row) for row in shown)]
    if shown:
        told = columns(cells, right=(1, 2, 3, 4, 5))
        lines.append(told[0])
        lines += [paint(line, _tone(row), colour) for line, row in zip(told[1:], shown, strict=True)]
    hidden = len(found.rows) - len(shown)
    if hidden:
        lines.append(f"{hidden} checks came out the same or ran in neither (--all shows them)")
    lines += ["", *(line for note in found.notes for line in wrapped(f"note: {note}", indent=""))]
    if found.passed:
        lines.append(paint("NO WORSE: the candidate keeps what the baseline reached", "pass", colour))
    else:
        lines.append(paint(f"WORSE ({len(found.reasons)}):", "fail", colour))
        lines += [line for reason in found.reasons for line in wrapped(plain(reason))]
    rule = found.tolerance
    lines += wrapped(
        f"the rule: no check uses more than {rule.margin:.0%} of its limit beyond the baseline, none is lost, "
        f"the whole grows by {rule.size:.0%} at most",
        indent="",
    )
    return "\n".join(lines) + "\n"


def _checks(checks: Sequence[Check], colour: bool) -> list[str]:
    head = ("STAGE", "METRIC", "VALUE", "LIMIT", "USED", "BASELINE", "N", "AGAINST", "STATUS")
    rows = [
        (
            check.stage,
            check.metric,
            interval(check),
            "-" if check.limit is None else f"{SIGNS[check.direction]} {number(check.limit)}",
            percent(used(check)),
            number(check.baseline),
            str(check.n),
            plain(check.against),
            WORDS[check.status],
        )
        for check in checks
    ]
    told = columns([head, *rows], right=(2, 3, 4, 5, 6))
    return [told[0], *(paint(line, check.status, colour) for line, check in zip(told[1:], checks, strict=True))]


def _row(row: Row) -> tuple[str, ...]:
    before, after = row.before, row.after
    limit = next((check for check in (before, after) if check and check.limit is not None), None)
    return (
        plain(row.name),
        interval(before) if before else "-",
        interval(after) if after else "-",
        f"{SIGNS[limit.direction]} {number(limit.limit)}" if limit else "-",
        percent(row.used_before),
        f"→ {percent(row.used_after)}",
        row.outcome.replace("_", " ").upper() if row.outcome == "regressed" else row.outcome,
    )


def _tone(row: Row) -> str:
    return {"regressed": "fail", "better": "pass", "worse": "not_run"}.get(row.outcome, "info")


def _bytes(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _change(before: int | None, after: int | None) -> str:
    if not before or not after:
        return "-"
    if before == after:
        return ""
    return f"{after / before - 1:+.1%}" if after < 10 * before else f"× {after / before:.0f}"
