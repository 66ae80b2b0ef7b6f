"""Cost as work grows: time and memory over codes, phones and sentences, beside the straight line.

Each point is a process of its own. The line goes from nothing through the first point of its row: a factor of 1 says
that twice the work takes twice the time, more says that it takes longer than that.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gsvexport.bench.child import call
from gsvexport.progress import Progress, counted

CODES = (50, 100, 200, 500, 1000)
PHONES = (20, 50, 100, 200, 400)
SENTENCES = (1, 2, 4, 8)
USUAL = {"tokens": 100, "phones": 70}  # and one sentence
AXES = {"tokens": ("codes", CODES), "phones": ("phones", PHONES), "sentences": ("sentences", SENTENCES)}


@dataclass(frozen=True)
class Point:
    """One measurement: `value` of what grows, seconds and MB (None where the system does not say)."""

    value: int
    sentence_s: float
    first_audio_s: float | None
    peak_mb: float | None
    straight: float  # times as long as the line


@dataclass(frozen=True)
class Sweep:
    """The points of each axis, by its name, and the command that measures them again."""

    command: str
    axes: dict[str, tuple[Point, ...]]

    def to_json(self) -> dict[str, Any]:
        """Plain values; names end with their unit."""
        points = {name: [asdict(point) for point in row] for name, row in self.axes.items()}
        return {"schema": 1, "command": self.command, "usual": USUAL, "axes": points}

    def table(self) -> str:
        """A page of text."""
        lines = [f"$ {self.command}", ", ".join(f"{name} {value}" for name, value in USUAL.items()) + " but for"]
        for name, points in self.axes.items():
            lines += ["", f"{AXES[name][0]:>10}{'seconds':>10}{'line':>8}{'first audio':>13}{'peak MB':>9}"]
            for one in points:
                first = "" if one.first_audio_s is None else f"{one.first_audio_s:.3f}"
                peak = "" if one.peak_mb is None else f"{one.peak_mb:.0f}"
                lines.append(f"{one.value:>10}{one.sentence_s:>10.3f}{one.straight:>8.2f}{first:>13}{peak:>9}")
        return "\n".join(lines) + "\n"


def sweep(
    folder: Path, command: str, threads: int, *, prompt: int, most: int, progress: Progress | None = None
) -> Sweep:
    """Measure the voice in `folder`; what does not fit into `most` positions is left out.

    Raises:
        BackendError: it could not be measured.
    """
    say = progress or (lambda _: None)
    axes: dict[str, tuple[Point, ...]] = {}
    wanted = [
        (name, value) for name, (_, values) in AXES.items() for value in values if _fits(name, value, prompt, most)
    ]
    for number, (name, value) in enumerate(wanted, 1):
        say(counted(f"{value} {AXES[name][0]}", "measuring", number, len(wanted)))
        what = "measure_sentences" if name == "sentences" else "measure"
        work = {"folder": str(folder.resolve()), "prompt": prompt, **USUAL, name: value}
        found = call(f"gsvexport.bench.subject:{what}", threads=threads, **work)
        row = axes.get(name, ())
        first = row[0] if row else None
        line = found["sentence_s"] if first is None else first.sentence_s * value / first.value
        seconds, peak = found["sentence_s"], found["memory"]["peak_mb"]
        axes[name] = (*row, Point(value, seconds, found.get("first_audio_s"), peak, seconds / line))
    return Sweep(command, axes)


def _fits(name: str, value: int, prompt: int, most: int) -> bool:
    return (prompt + value if name == "tokens" else value) <= most
