"""`gsvexport doctor`: what is installed here, and what can be done with it."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import click

from gsvexport.cli.echo import echo
from gsvexport.cli.show import table

if TYPE_CHECKING:
    from gsvexport.compiler.doctor import Findings, Part, Prospect

_STEPS = ("build", "verify", "emulate", "finish")


@click.command()
@click.option("-t", "--target", "targets", multiple=True, metavar="NAME", help="Ask for this device: can it be built?")
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
def doctor(targets: tuple[str, ...], as_json: bool) -> int:
    """Show what is installed here, what can be done with it, and the command for what is missing.

    For every device it says whether its artifacts can be built on this machine, how they can be verified, whether its
    processor can be emulated, and whether what only the device or its own compiler makes can be made here. Packages are
    looked for and not imported; nothing is downloaded, installed or run.

    \b
    Examples:
      gsvexport doctor
      gsvexport doctor --target jetson-orin          for one device, with the reasons
      gsvexport doctor --json                        for a program, or for a question to us

    Exit code 0; with --target 7 when it cannot be built here, and 4 when there is no such target.
    """
    from gsvexport.compiler.doctor import NO, examine
    from gsvexport.emulate.install import find
    from gsvexport.errors import EnvironmentProblem
    from gsvexport.files import canonical_json

    found = examine(targets, emulator=find)
    echo(canonical_json(found.to_json()) if as_json else _page(found, one=bool(targets)), nl=False)
    stopped = bool(targets) and any(one.build.status == NO for one in found.targets)
    return EnvironmentProblem.exit_code if stopped else 0


def _page(found: Findings, *, one: bool) -> str:
    machine = found.machine
    memory = f"{machine['memory_mb'] / 1000:.1f} GB" if machine["memory_mb"] else "unknown"
    head = [
        ("gsvexport", f"{found.version}, {found.python}"),
        ("machine", f"{machine['system']} on {machine['arch']}, {' '.join(machine['features']) or 'features unknown'}"),
        ("memory", memory),
        ("GPUs", ", ".join(machine["gpus"]) or "no NVIDIA GPU"),
        ("Edge TPUs", ", ".join(machine["edge_tpus"]) or "none"),
    ]
    if one:
        return "\n".join([_rows("this machine", head), *map(_alone, found.targets)])
    sections = (
        ("packages, by extra", found.extras),
        ("metrics", found.metrics),
        ("languages of text", found.languages),
    )
    parts = (_rows(title, [(part.name, *_told(part)) for part in listed]) for title, listed in sections)
    return "\n".join([_rows("this machine", head), *parts, _targets(found.targets)])


def _rows(title: str, rows: Iterable[Sequence[str]]) -> str:
    """A name and lines beside it, each wrapped."""
    rows = list(rows)
    name = max(len(row[0]) for row in rows) + 2
    wide = max(60, min(120, shutil.get_terminal_size((100, 24)).columns)) - name - 2
    lines = [title]
    for first, *told in rows:
        wrapped = [line for text in told for line in textwrap.wrap(text, wide, break_on_hyphens=False) or [""]]
        lines += [
            f"  {label:<{name}}{line}".rstrip()
            for label, line in zip([first] + [""] * len(wrapped), wrapped, strict=False)
        ]
    return "\n".join(lines) + "\n"


def _told(part: Part) -> Iterator[str]:
    if part.what:
        yield part.what
    if part.there:
        yield ", ".join(part.there)
    if part.missing:
        yield f"missing: {', '.join(part.missing)}"
        yield f"fix: {part.fix}" if part.fix else ""
    if not part.there and not part.missing:
        yield "needs nothing more"


def _targets(prospects: Iterable[Prospect]) -> str:
    rows = [("target", *_STEPS)]
    helps: dict[tuple[str, str, str], list[str]] = {}
    for one in prospects:
        steps = [getattr(one, name) for name in _STEPS]
        rows.append(
            (f"  {one.target}", *(step.brief or {"not needed": "-"}.get(step.status, step.status) for step in steps))
        )
        for name, step in zip(_STEPS, steps, strict=True):
            if step.fix or (name == "build" and step.status == "no"):
                helps.setdefault((name, step.how, step.fix or ""), []).append(one.target)
    if not helps:
        return table(rows)
    told = [
        (name, f"{_several(targets)}: {how}", f"fix: {fix}" if fix else "")
        for (name, how, fix), targets in helps.items()
    ]
    return f"{table(rows)}\n{_rows('what is missing', told)}"


def _several(targets: list[str]) -> str:
    return ", ".join(targets[:3]) + (f" and {len(targets) - 3} more" if len(targets) > 3 else "")


def _alone(one: Prospect) -> str:
    steps = ((name, getattr(one, name)) for name in _STEPS)
    rows = [(name, f"{step.status}: {step.how}", *([f"fix: {step.fix}"] if step.fix else [])) for name, step in steps]
    return _rows(f"{one.target}: {one.title}", rows)
