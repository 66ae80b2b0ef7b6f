"""A page of charts: what grows, and beside it the straight line from nothing through the first point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gsvexport.report.document import document
from gsvexport.report.markup import Html, element
from gsvexport.report.terminal import number

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _RIGHT = 360, 220, 44, 26, 12, 14

Curve = Sequence[tuple[float, float, float]]  # amount, measured, on the straight line


def growth(title: str, curves: Mapping[str, Curve], table: str) -> str:
    """The whole file: a chart for each of `curves`, whose name says what grows, and the figures as text."""
    body = [element("header", element("h1", title))]
    for name, curve in curves.items():
        body.append(element("section", element("h2", name), _chart(curve, f"seconds over {name}")))
    legend = "Points: measured seconds. Dashed: the straight line from nothing through the first point."
    body += [element("p", legend, class_="legend"), element("pre", [[line, Html("\n")] for line in table.splitlines()])]
    return document(title, body)


def _chart(curve: Curve, title: str) -> Html:
    wide, high = max(one[0] for one in curve), max(max(one[1:]) for one in curve)

    def place(amount: float, seconds: float) -> tuple[float, float]:
        x = _LEFT + (_WIDTH - _LEFT - _RIGHT) * amount / wide
        return x, _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * seconds / high

    def path(points: Sequence[tuple[float, float]]) -> str:
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)

    measured = [place(amount, seconds) for amount, seconds, _ in curve]
    line = [place(0, 0), *(place(amount, straight) for amount, _, straight in curve)]
    grey, ink = "stroke:currentColor;opacity:.5", "stroke:currentColor;stroke-width:2"
    parts = [
        element("polyline", points=path(line), fill="none", stroke_dasharray="4 4", style=grey),
        element("polyline", points=path(measured), fill="none", style=ink),
        *(element("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r="3", fill="currentColor") for x, y in measured),
    ]
    text = {"fill": "currentColor", "font_size": "11"}
    for (x, _), (amount, _, _) in zip(measured, curve, strict=True):
        parts.append(element("text", number(amount), x=f"{x:.1f}", y=str(_HEIGHT - 8), text_anchor="middle", **text))
    for seconds in (high, high / 2):
        _, y = place(0, seconds)
        label = f"{number(seconds)} s"
        parts.append(element("text", label, x=str(_LEFT - 6), y=f"{y + 4:.1f}", text_anchor="end", **text))
    return element(
        "svg",
        parts,
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_label=title,
        xmlns="http://www.w3.org/2000/svg",
    )
