"""How long work tells what it is doing: in words, which may also know how far it is.

Whoever works calls `say(text)`. A plain text begins a phase of that name. A `Step` tells how far its phase is, a `note`
is worth reading although no phase begins. Whoever listens may take all of them for plain texts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

Progress = Callable[[str], None]

_LONGEST = 10_000  # characters of a line of another process
_COUNTED = re.compile(r"(.*): (\d{1,9}) of (\d{1,9})")
_FOR_SECONDS = re.compile(r"(.*) for \d+ s")
_OF_MANY = re.compile(r"(golden vector) .* of .*")


class Step(str):
    """Words, and what they are about: the `phase` it belongs to, of which `done` parts of `total` are finished.

    `done` and `total` are None where nobody counts, and bytes where `unit` is "B"; with "done", several run at once.
    Without words it says no more than that it is further along. Work that is done at the same time runs in lanes of its
    own names; in each, a new phase ends the one before. Without a phase it is a note, and the end of its lane.
    """

    phase: str
    done: float | None
    total: float | None
    unit: str
    lane: str

    def __new__(
        cls,
        text: str,
        phase: str,
        done: float | None = None,
        total: float | None = None,
        *,
        unit: str = "",
        lane: str = "",
    ) -> Step:
        """See the class."""
        self = super().__new__(cls, text)
        self.phase, self.done, self.total, self.unit, self.lane = phase, done, total, unit, lane
        return self

    def within(self, name: str, mark: str = ": ", *, lane: str | None = None) -> Step:
        """The same with `name` before its words and its phase; in another lane where one is named, but for a note."""
        text, phase = (f"{name}{mark}{words}" if words else "" for words in (str(self), self.phase))
        where = self.lane if lane is None or not phase else lane
        return Step(text, phase, self.done, self.total, unit=self.unit, lane=where)


def note(text: str, *, lane: str = "") -> Step:
    """Words to be read that begin no phase; in a lane of its own, its last ones."""
    return Step(text, "", lane=lane)


def counted(text: str, phase: str, number: int, total: int | None) -> Step:
    """Words with which part `number` of `total` begins, counted from 1."""
    return Step(text, phase, number - 1, total)


def step(text: str) -> Step:
    """What was said, as a step: a plain text begins a phase."""
    return text if isinstance(text, Step) else Step(text, text)


def within(name: str, say: Progress) -> Progress:
    """`say` for a part of the work: its words begin with its name."""
    return lambda text: say(step(text).within(name))


def recognised(say: Progress) -> Progress:
    """`say` for code that a device runs without this package, and that tells plain texts: what they count is seen.

    "E: building for 20 s" is of the phase "E: building"; "E: P: 3 of 9" of "E: P"; "golden vector a of s" of all such.
    """

    def tell(text: str) -> None:
        if isinstance(text, Step):
            say(text)
        elif found := _COUNTED.fullmatch(text):
            say(counted(text, found[1], int(found[2]), int(found[3])))
        elif found := _FOR_SECONDS.fullmatch(text) or _OF_MANY.fullmatch(text):
            say(Step(text, found[1]))
        else:
            say(text)

    return tell


def line(text: str, seconds: float) -> str:
    """One line of JSON for another program, in ASCII: phase, done, total, seconds since the start, message."""
    one = step(text)
    value = {"phase": one.phase or None, "done": one.done, "total": one.total, "seconds": round(seconds, 3)}
    return json.dumps({**value, "message": str(one)})


def heard(text: str) -> Step | None:
    """What a `line` of another process says; None for anything else."""
    if not text.startswith('{"phase": ') or len(text) > _LONGEST:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or set(value) != {"phase", "done", "total", "seconds", "message"}:
        return None
    phase, message = value["phase"] or "", value["message"]
    if not isinstance(phase, str) or not isinstance(message, str):
        return None
    return Step(message, phase, _number(value["done"]), _number(value["total"]))


def _number(value: Any) -> float | None:
    return value if type(value) in (int, float) and 0 <= value < 1e18 else None
