"""Writes what must not stand twice into the pages: figures of figures.toml, and the table of targets.

Run `python docs/fill.py` after a change of either; a test compares.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DOCS = Path(__file__).resolve().parent
KEYS = {"value", "what", "command", "machine", "n", "date"}
_FIGURE = re.compile(r"<!--fig ([^>]*?)-->.*?<!--/-->")


def read_figures() -> dict[str, dict[str, Any]]:
    """Every figure by its dotted name; one that lacks a key, or has another one, is an error."""
    data = tomllib.loads((DOCS / "figures.toml").read_text(encoding="utf-8"))
    machines = data.pop("machines")
    figures = dict(_flat(data))
    for name, figure in figures.items():
        if set(figure) != KEYS:
            raise ValueError(f"figures.toml: {name} has the keys {', '.join(figure)}, not {', '.join(sorted(KEYS))}")
        machine, *rest = figure["machine"].split(", ")
        figure["machine"] = ", ".join([machines.get(machine, machine), *rest])
    return figures


def pages() -> list[Path]:
    """The README and every page."""
    return [DOCS.parent / "README.md", *sorted(DOCS.rglob("*.md"))]


def filled(text: str, figures: Mapping[str, Mapping[str, Any]], targets: str) -> str:
    """`text` with every figure, the table of figures and the table of targets as they are now.

    Raises:
        KeyError: a figure that figures.toml does not have.
    """
    text = _FIGURE.sub(lambda found: f"<!--fig {found[1]}-->{figures[found[1]]['value']}<!--/-->", text)
    if "<!--figures-->" in text:
        text = _between(text, "figures", _table(figures))
    return _between(text, "targets", targets)


def target_table() -> str:
    """The registry as a table."""
    from gsvexport.cli.targets import markdown_table

    return markdown_table()


def _between(text: str, name: str, table: str) -> str:
    return re.sub(rf"(<!--{name}-->\n).*?(<!--/{name}-->)", lambda found: found[1] + table + found[2], text, flags=re.S)


def _table(figures: Mapping[str, Mapping[str, Any]]) -> str:
    lines = ["| figure | of what | command | machine | n | date |", "|---|---|---|---|---|---|"]
    for figure in figures.values():
        cells = (figure[key] for key in ("value", "what", "command", "machine", "n", "date"))
        value, what, command, *rest = map(str, cells)
        lines.append(f"| {' | '.join((value, what, f'`{command}`', *rest))} |")
    return "\n".join(lines) + "\n"


def _flat(data: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for key, item in data.items():
        name = f"{above}.{key}".lstrip(".")
        if not isinstance(item, dict):
            raise ValueError(f"figures.toml: {name} stands in no figure")
        if any(not isinstance(one, dict) for one in item.values()):
            yield name, dict(item)
        else:
            yield from _flat(item, name)


def main() -> None:
    """Fill every page, and say which changed."""
    figures, targets = read_figures(), target_table()
    for page in pages():
        before = page.read_text(encoding="utf-8")
        if (after := filled(before, figures, targets)) != before:
            page.write_text(after, encoding="utf-8")
            sys.stdout.write(f"{page.relative_to(DOCS.parent)}\n")


if __name__ == "__main__":
    main()
