"""The live display: what is being done, how far it is and how long it will take; with rich, or one line without it."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from gsvexport.cli.display import Shown, plain
from gsvexport.cli.durations import Durations, rest_of
from gsvexport.progress import Step

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

_MOST_LANES = 8  # of those that work at once, shown
_OFTEN = 0.1  # s between two pictures where nothing draws by itself
_LONGEST_NAME = 200
_WHEEL = {True: "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", False: "|/-\\"}


@dataclass
class _Phase:
    """What one lane is doing."""

    step: Step
    began: float = field(default_factory=time.monotonic)

    @property
    def share(self) -> float | None:
        """How much of it is done, 0 to 1."""
        return min(self.step.done / self.step.total, 1) if self.step.total and self.step.done is not None else None

    @property
    def name(self) -> str:
        """What it is called, on one line."""
        return plain(self.step.phase)

    @property
    def count(self) -> str:
        """How far it is: "3 of 36", or "1.2 of 3.4 MB"."""
        done, total = self.step.done, self.step.total
        if done is None or total is None:
            return ""
        if self.step.unit == "B":
            return f"{done / 1e6:.1f} of {total / 1e6:.1f} MB"
        if self.step.unit == "done":  # several at once
            return f"{done:g} of {total:g} done"
        if total > 9999:
            return f"{done / total:.0%}"
        return f"{min(done + 1, total):g} of {total:g}"  # the part that runs


class State:
    """What was told so far. Phases of the main lane are timed, for the next time."""

    def __init__(self, durations: Durations) -> None:
        self.lanes: dict[str, _Phase] = {}
        self.began = time.monotonic()
        self._durations = durations
        self._took: dict[str, float] = {}

    def take(self, one: Step) -> None:
        """Something was said."""
        if not one.phase:
            if one.lane:
                self.lanes.pop(one.lane, None)
            return
        known = self.lanes.get(one.lane)
        if known is not None and known.step.phase == one.phase:
            known.step = one
        else:
            self._over(one.lane)
            self.lanes[one.lane] = _Phase(one)

    def end(self, *, well: bool) -> None:
        """The command is over; how long it took is kept where it ended well."""
        self._over("")
        if well and self._took:
            self._durations.keep(self._took)

    def _over(self, lane: str) -> None:
        if lane == "" and (phase := self.lanes.pop(lane, None)) is not None and len(phase.name) <= _LONGEST_NAME:
            self._took[phase.name] = self._took.get(phase.name, 0) + time.monotonic() - phase.began

    def times(self) -> tuple[float | None, float, str]:
        """The share of the bar, seconds so far, and words for the rest: of all of it where the last run tells, else of
        the step that runs."""
        now = time.monotonic()
        spent, main = now - self.began, self.lanes.get("")
        if main is None:
            return None, spent, ""
        inside = now - main.began
        left = self._durations.left(main.name, inside, main.share)
        if left is not None:
            return spent / (spent + left) if spent + left else None, spent, f"about {clock(left)} left"
        rest = rest_of(inside, main.share)
        return main.share, spent, "" if rest is None else f"step: {clock(rest)} left"


def clock(seconds: float) -> str:
    """0:07, 12:30, 1:02:03."""
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def shown(stream: IO[str], durations: Durations) -> Shown:
    """What this machine can show."""
    try:
        import rich  # noqa: F401
    except ImportError:
        return OneLine(stream, State(durations))
    return Rich(stream, State(durations))


class Rich:
    """A line for what is done and a bar below it; with more that runs at once, a line for each."""

    def __init__(self, stream: IO[str], state: State) -> None:
        from rich.console import Console

        self._state = state
        self._console: Console = Console(file=stream, highlight=False, markup=False, emoji=False)
        self._live: Live | None = None

    def tell(self, one: Step) -> None:
        """See `Shown`."""
        from rich.live import Live
        from rich.text import Text

        self._state.take(one)
        if not one.phase:
            with contextlib.suppress(OSError, ValueError):  # nobody watches any more, and the work goes on
                if one:
                    self._console.print(Text(plain(one)), soft_wrap=True)
        elif self._live is None:
            picture = _Picture(self._state)
            self._live = Live(
                picture, console=self._console, transient=True, redirect_stdout=False, refresh_per_second=8
            )
            with contextlib.suppress(OSError, ValueError):
                self._live.start()

    def close(self) -> None:
        """See `Shown`."""
        live, self._live = self._live, None
        if live is not None:
            with contextlib.suppress(OSError, ValueError):  # the terminal is gone
                live.stop()

    def end(self, *, well: bool) -> None:
        """See `Shown`."""
        self.close()
        self._state.end(well=well)


class _Picture:
    """The state as rich draws it, anew for each frame, in the width that the terminal has then."""

    def __init__(self, state: State) -> None:
        self._state = state

    def __rich_console__(self, console: Console, options: Any) -> Iterator[RenderableType]:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        wheel = _WHEEL[not options.ascii_only]
        turning = wheel[int(time.monotonic() / _OFTEN) % len(wheel)]
        lanes = list(self._state.lanes.values())
        for number, phase in enumerate(lanes[:_MOST_LANES]):
            name, count = Text(phase.name), f"  {phase.count}" if phase.count else ""
            name.truncate(max(options.max_width - 2 - len(count), 8), overflow="ellipsis")
            mark = turning if number == 0 else " "
            yield Text.assemble(mark, " ", name, (count, "cyan"), no_wrap=True, overflow="crop")
        if len(lanes) > _MOST_LANES:
            yield Text(f"  and {len(lanes) - _MOST_LANES} more")
        share, spent, rest = self._state.times()
        bar = Table.grid(padding=(0, 1), expand=True)
        bar.add_column(ratio=1)
        bar.add_column(no_wrap=True)
        bar.add_column(no_wrap=True)
        picture = ProgressBar(total=1, completed=share or 0, pulse=share is None, animation_time=time.monotonic())
        bar.add_row(picture, Text(clock(spent), style="cyan"), Text(rest, style="dim"))
        yield bar


class OneLine:
    """Where rich is not: one line that is written over."""

    def __init__(self, stream: IO[str], state: State) -> None:
        self._stream, self._state = stream, state
        self._drawn, self._width = 0.0, 0

    def tell(self, one: Step) -> None:
        """See `Shown`."""
        phase = self._state.lanes.get(one.lane)
        new = phase is None or phase.step.phase != one.phase
        self._state.take(one)
        if not one.phase:
            if one:
                self.close()
                self._write(f"{plain(one)}\n")
        elif new or time.monotonic() - self._drawn >= _OFTEN:
            self._draw(self._state.lanes[one.lane])

    def _draw(self, phase: _Phase) -> None:
        share, spent, rest = self._state.times()
        percent = "" if share is None else f" {share:4.0%}"
        head, tail = f"{clock(spent)}{percent}  ", "".join(f"  {one}" for one in (phase.count, rest) if one)
        columns = _columns_of(self._stream) - 1  # the last column would begin a new line
        name = fitted(phase.name, max(columns - len(head) - len(tail), 8))
        words = fitted(head + name + tail, columns)
        self.close()
        self._write(words)
        self._drawn, self._width = time.monotonic(), width(words)

    def close(self) -> None:
        """See `Shown`. Blanks and not an escape: a terminal that knows none shows it, too."""
        if self._width:
            self._write("\r" + " " * self._width + "\r")
            self._width = 0

    def end(self, *, well: bool) -> None:
        """See `Shown`."""
        self.close()
        self._state.end(well=well)

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
            self._stream.flush()


def _columns_of(stream: IO[str]) -> int:
    """How wide the terminal is that a stream goes to; standard output may go elsewhere."""
    with contextlib.suppress(OSError, ValueError):
        if columns := os.get_terminal_size(stream.fileno()).columns:
            return columns
    return shutil.get_terminal_size().columns


def width(text: str) -> int:
    """Columns that a text takes in a terminal."""
    return sum(_columns(one) for one in text)


def fitted(text: str, columns: int) -> str:
    """A text cut to so many columns, with dots where something is missing."""
    if width(text) <= columns:
        return text
    kept, left = "", columns - 3
    for one in text:
        left -= _columns(one)
        if left < 0:
            break
        kept += one
    return f"{kept}..."[: max(columns, 0)]


def _columns(one: str) -> int:
    return 0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1
