"""What a panel heard, as text."""

from __future__ import annotations

from gsvexport.report.markup import plain
from gsvexport.report.panel.scores import ENOUGH_PAIRS, ENOUGH_RATERS, Heard, Row
from gsvexport.report.terminal import SIGNS, WORDS, columns, interval, number, wrapped
from gsvexport.verify.paired import Estimate


def scores_page(heard: Heard) -> str:
    """A table of conditions, the raters that were left out, and the verdict on each artifact."""
    head = ("CONDITION", "MOS", "FALL", "MUSHRA", "ABX FOUND", "VERDICT")
    lines = columns([head, *map(_row, heard.rows)])
    lines += [
        "",
        f"{heard.raters} raters count, {len(heard.dropped)} were left out; 95 % intervals over raters and sentences",
    ]
    lines += [line for reason in heard.dropped for line in wrapped(plain(reason))]
    for row in heard.rows:
        if row.check is None:
            continue
        if row.check.status == "not_run":
            why = f"not judged by people: {row.check.reason}. Objective scores decide, at level 3 of verify."
        else:
            limit = f"{SIGNS[row.check.direction]} {number(row.check.limit)}"
            why = f"the MOS fell by {interval(row.check)}, limit {limit}: {WORDS[row.check.status]}"
        lines += wrapped(f"{plain(row.name)}: {why}", indent="")
    enough = f"People judge from {ENOUGH_RATERS} raters and {ENOUGH_PAIRS} pairs on, where their interval tells."
    return "\n".join([*lines, enough]) + "\n"


def _row(row: Row) -> tuple[str, ...]:
    verdict = WORDS[row.check.status] if row.check else "-"
    return (plain(row.name), _told(row.mos), _told(row.fall), _told(row.mushra), _told(row.found), verdict)


def _told(value: Estimate | None) -> str:
    return "-" if value is None else f"{value.value:.2f} [{value.low:.2f}, {value.high:.2f}]"
