"""What a smaller voice costs and gains: teacher and students of a release, as a table and charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from gsvexport.release.index import TAUGHT
from gsvexport.report.charts import scatter
from gsvexport.report.markup import Html, element
from gsvexport.report.terminal import number

if TYPE_CHECKING:
    from gsvexport.release.index import Row

Measured = Mapping[str, Mapping[str, float | str]]


def trades(rows: Sequence[Row], measured: Measured, families: Mapping[str, str]) -> list[Html]:
    """A section for each teacher and target; nothing where the release holds no student beside its teacher."""
    by_file = {row.file: row for row in rows}
    found: dict[str, list[Row]] = {}
    for student, teacher in families.items():
        found.setdefault(teacher, []).append(by_file[student])
    return [part for teacher, students in found.items() for part in _section(by_file[teacher], students, measured)]


def _section(teacher: Row, students: Sequence[Row], measured: Measured) -> list[Html]:
    family = [teacher, *students]
    names = [name for name in TAUGHT if any(name in row.taught for row in students)]
    head = ["Voice", "Size", "RTF here", *(TAUGHT[name] for name in names)]
    body = []
    for row in family:
        rtf = _rtf(row, measured)
        cells = [row.voice, f"{row.bytes / 1e6:.1f} MB", "not run here" if rtf is None else number(rtf)]
        cells += ["teacher" if row is teacher else _value(row, name) for name in names]
        body.append(
            element("tr", [element("td", text, data_label=name) for name, text in zip(head, cells, strict=True)])
        )
    parts = [
        element("h2", f"{teacher.voice} and its students for {teacher.target}"),
        element(
            "table",
            element("thead", element("tr", [element("th", name) for name in head])),
            element("tbody", body),
            class_="checks",
        ),
    ]
    shown = next((name for name in names if all(name in row.taught for row in students)), None)
    if shown is None:
        return parts
    lost = [0.0, *(row.taught[shown] for row in students)]
    sizes = [row.bytes / 1e6 for row in family]
    speeds = [_rtf(row, measured) for row in family]
    for words, values in (("MB", sizes), ("RTF here", speeds)):
        known = [value for value in values if value is not None]
        if len(known) == len(family):
            points = [(row.voice, x, y) for row, x, y in zip(family, known, lost, strict=True)]
            parts.append(scatter(points, across=words, up=TAUGHT[shown], title=f"{TAUGHT[shown]} against {words}"))
    return parts


def _rtf(row: Row, measured: Measured) -> float | None:
    value = measured.get(row.file, {}).get("rtf")
    return value if isinstance(value, float) else None


def _value(row: Row, name: str) -> str:
    return number(row.taught[name]) if name in row.taught else "not run"
