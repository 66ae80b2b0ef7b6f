"""The page about a release: a row for each voice and target, in one file that needs no network and no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from gsvexport.release.trade import Measured, trades
from gsvexport.report.document import document
from gsvexport.report.markup import Html, element
from gsvexport.report.page import VERDICTS
from gsvexport.report.terminal import percent

if TYPE_CHECKING:
    from gsvexport.release.index import Row

OVERVIEW = "overview.html"
_COLUMNS = ("Voice", "Target", "Size", "Precision", "Proof", "Nearest limit", "RTF here", "First audio here", "Status")
_NUMBERS = ("Size", "RTF here", "First audio here")
_NOT_RUN = "not run here"


def overview(
    rows: Sequence[Row],
    failed: Sequence[tuple[str, int, str]],
    measured: Measured,
    families: Mapping[str, str] | None = None,
) -> str:
    """The whole file. `failed` has label, exit code and message of what was not built; `measured` is by file name.

    `families` are the files of students with those of their teachers.
    """
    passed = sum(row.verdict == "pass" for row in rows)
    state = "fail" if failed else "pass" if passed == len(rows) else "not_run"
    counted = f"{passed} of {len(rows) + len(failed)} artifacts passed"
    told = [element("strong", VERDICTS[state]), element("p", f"{counted}.")]
    if failed:
        told.append(element("p", "No release was written: the artifacts beside this page are those of the one before."))
    body = [
        element("header", element("h1", "Release")),
        element("div", *told, class_=f"verdict {state}"),
        [_problem(*one) for one in failed],
        element(
            "table",
            element("thead", element("tr", [element("th", name, class_=_kind(name)) for name in _COLUMNS])),
            element("tbody", [_row(row, measured.get(row.file, {})) for row in rows]),
            class_="checks",
        ),
        element(
            "p",
            "Proof counts the checks; not run is never a pass. The nearest limit is the check that uses up most of "
            "what it may. RTF is the time to compute a second of sound.",
            class_="soft",
        ),
        trades(rows, measured, families or {}),
    ]
    return document(f"{VERDICTS[state]}: {counted}", body)


def _problem(label: str, code: int, message: str) -> Html:
    lines = [element("div", line) for line in message.splitlines()]
    return element("div", element("b", f"{label}: exit code {code}"), element("code", lines), class_="card")


def _row(row: Row, measured: Mapping[str, float | str]) -> Html:
    count = row.checks
    proof = f"{count.get('pass', 0)} pass, {count.get('fail', 0)} fail, {count.get('not_run', 0)} not run"
    cells = {
        "Voice": f"{row.voice} ({row.version})",
        "Target": [element("b", row.target), element("span", row.title, class_="reason")],
        "Size": f"{row.bytes / 1e6:.1f} MB",
        "Precision": _precisions(row.precisions),
        "Proof": [proof, element("span", row.place, class_="reason") if row.place else None],
        "Nearest limit": f"{row.nearest[0]}: {percent(row.nearest[1])}" if row.nearest else "",
        "RTF here": _figure(measured, "rtf"),
        "First audio here": _figure(measured, "first_audio_s", " s"),
        "Status": [
            element("span", VERDICTS[row.verdict], class_=f"{row.verdict}-text"),
            element("span", element("a", row.file, href=row.file), class_="reason"),
            element("span", element("code", row.sha256[:16]), class_="reason"),
        ],
    }
    classes = row.verdict if row.verdict != "pass" else None
    return element(
        "tr",
        [element("td", cells[name], class_=_kind(name), data_label=name) for name in _COLUMNS],
        class_=classes,
    )


def _precisions(by_stage: Mapping[str, str]) -> list[Html]:
    stages: dict[str, list[str]] = {}
    for stage, kind in by_stage.items():
        stages.setdefault(kind, []).append(stage)
    return [element("div", f"{kind}: {', '.join(those)}") for kind, those in stages.items()]


def _figure(measured: Mapping[str, float | str], name: str, unit: str = "") -> str:
    value = measured.get(name)
    return f"{value:.3g}{unit}" if isinstance(value, float) else _NOT_RUN


def _kind(name: str) -> str | None:
    return "number" if name in _NUMBERS else None
