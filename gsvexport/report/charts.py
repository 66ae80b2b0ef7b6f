"""Charts as inline SVG and HTML: bars of shares, of errors, of sizes. Colours come from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from gsvexport.report.markup import Html, element
from gsvexport.report.terminal import number, percent

KINDS = ("fp32", "fp16", "int8", "int4", "int32", "other")  # in the order of the style sheet's colours
# In the drawing's own units, which are a pixel on a phone and more on a desk: names, numbers, a row, all of it.
_LEFT, _RIGHT, _ROW, _WIDTH = 88, 76, 24, 360


def margin_bar(share: float | None) -> Html:
    """How much of a limit is used, as a bar whose end is the limit; nothing without a share."""
    if share is None:
        return Html("")
    tone = "over" if share > 1 else "near" if share > 0.8 else "kept"
    return element(
        "span",
        element("i", style=f"width:{100 * min(share, 1.0):.1f}%", class_=tone),
        class_="margin",
        role="img",
        title=f"{percent(share)} of the limit is used",
    )


def own_bar(value: float, limit: float | None, own: float) -> Html:
    """A value on an axis that holds its limit and the voice's own variation, each with a tick."""
    span = 1.05 * max(value, limit or 0.0, own, 1e-12)
    over = limit is not None and value > limit
    ticks = [
        element("u", style=f"left:{100 * place / span:.1f}%", class_=name)
        for name, place in (("limit", limit), ("own", own))
        if place is not None
    ]
    return element(
        "span",
        element("i", style=f"width:{100 * value / span:.1f}%", class_="over" if over else "kept"),
        ticks,
        class_="margin own",
        role="img",
        title=f"{number(value)}; limit {number(limit)}; another seed of the source {number(own)}",
    )


def log_bars(rows: Sequence[tuple[str, float, float | None, str, str]], *, title: str) -> Html:
    """Horizontal bars on a logarithmic axis: (name, value ≥ 0, limit or None, class, what stands at the end).

    A tick on each row marks its limit. A value of 0 has no bar.
    """
    positive = [x for _, value, limit, _, _ in rows for x in (value, limit) if x is not None and x > 0]
    low = math.floor(math.log10(min(positive, default=0.1))) if positive else -1
    high = max(low + 1, math.ceil(math.log10(max(positive, default=1.0)) + 1e-9))
    span = _WIDTH - _LEFT - _RIGHT

    def place(value: float) -> float:
        return _LEFT + span * min(1.0, max(0.0, (math.log10(max(value, 1e-300)) - low) / (high - low)))

    height = _ROW * len(rows) + 34
    every = max(1, math.ceil((high - low) / 4))
    parts = []
    for power in range(low, high + 1, every):
        x = f"{place(10.0**power):.1f}"
        parts.append(element("line", x1=x, x2=x, y1=4, y2=height - 28, class_="grid"))
        parts.append(element("text", f"{10.0**power:g}", x=x, y=height - 10, text_anchor="middle", class_="tick"))
    for index, (name, value, limit, tone, told) in enumerate(rows):
        top = 6 + index * _ROW
        parts.append(element("text", name, x=_LEFT - 8, y=top + 14, text_anchor="end"))
        width = place(value) - _LEFT if value > 0 else 0.0
        parts.append(element("rect", x=_LEFT, y=top + 3, width=f"{width:.1f}", height=14, class_=tone))
        if limit is not None and limit > 0:
            x = f"{place(limit):.1f}"
            parts.append(element("line", x1=x, x2=x, y1=top, y2=top + 20, class_="limit"))
        parts.append(element("text", told, x=_WIDTH - _RIGHT + 8, y=top + 14))
    return _svg(parts, height, title)


def size_bars(rows: Mapping[str, Mapping[str, int]], *, title: str) -> Html:
    """Stacked horizontal bars of bytes: one row a name, one colour a kind."""
    largest = max((sum(kinds.values()) for kinds in rows.values()), default=1)
    span = _WIDTH - _LEFT - _RIGHT
    height = _ROW * len(rows) + 8
    parts = []
    for index, (name, kinds) in enumerate(rows.items()):
        top, start = 6 + index * _ROW, float(_LEFT)
        parts.append(element("text", name, x=_LEFT - 8, y=top + 14, text_anchor="end"))
        for kind in sorted(kinds, key=_order):
            width = span * kinds[kind] / max(largest, 1)
            told = element("title", f"{kind}: {megabytes(kinds[kind])}")
            shape = {"x": f"{start:.1f}", "y": top + 3, "width": f"{width:.1f}", "height": 14}
            parts.append(element("rect", told, **shape, class_=kind_class(kind)))
            start += width
        total = megabytes(sum(kinds.values()))
        parts.append(element("text", total, x=_WIDTH - _RIGHT + 8, y=top + 14))
    used = sorted({kind for kinds in rows.values() for kind in kinds}, key=_order)
    legend = [element("span", element("i", class_=kind_class(kind)), kind) for kind in used]
    return Html(_svg(parts, height, title) + element("p", legend, class_="legend"))


def scatter(points: Sequence[tuple[str, float, float]], *, across: str, up: str, title: str) -> Html:
    """Points (name, x ≥ 0, y) on axes that begin at 0; `across` and `up` name the axes."""
    height, top, left, right = 200, 22, 40, 70
    widest = max((x for _, x, _ in points), default=0.0) or 1.0
    highest = max(max(y for _, _, y in points), 0.0) or 1.0
    lowest = min(min(y for _, _, y in points), 0.0)
    floor = height - top

    def place(x: float, y: float) -> tuple[float, float]:
        share = (y - lowest) / (highest - lowest)
        return left + (_WIDTH - left - right) * x / widest, floor - (floor - top) * share

    zero = place(0, 0)[1]
    parts = [
        element("line", x1=left, x2=left, y1=top, y2=floor, class_="grid"),
        element("line", x1=left, x2=_WIDTH - right, y1=f"{zero:.1f}", y2=f"{zero:.1f}", class_="grid"),
        element("text", up, x=2, y=12, class_="tick"),
        element("text", across, x=_WIDTH - right, y=height - 4, class_="tick", text_anchor="end"),
        element("text", number(highest), x=2, y=top + 4, class_="tick"),
        element("text", number(widest), x=_WIDTH - right, y=floor + 12, class_="tick", text_anchor="end"),
    ]
    for name, x, y in points:
        right_of, above = place(x, y)
        parts.append(element("circle", cx=f"{right_of:.1f}", cy=f"{above:.1f}", r=4, fill="currentColor"))
        parts.append(element("text", name, x=f"{right_of + 7:.1f}", y=f"{above + 3:.1f}"))
    return _svg(parts, height, title)


def kind_class(kind: str) -> str:
    """The style sheet's class for a kind of weight; unknown ones share a colour."""
    return f"kind-{kind if kind in KINDS else 'other'}"


def megabytes(size: int) -> str:
    """Bytes as MB (10^6) with three digits."""
    return f"{number(float(f'{size / 1e6:.3g}'))} MB"


def _order(kind: str) -> tuple[int, str]:
    return (KINDS.index(kind) if kind in KINDS else len(KINDS), kind)


def _svg(parts: Sequence[Html], height: int, title: str) -> Html:
    return element(
        "div",
        element(
            "svg",
            element("title", title),
            list(parts),
            viewBox=f"0 0 {_WIDTH} {height}",
            role="img",
            xmlns="http://www.w3.org/2000/svg",
        ),
        class_="chart",
    )
