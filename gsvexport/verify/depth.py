"""How far a verification goes, and what of it has to run."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from gsvexport.errors import InputError
from gsvexport.target.tables import nearest
from gsvexport.verify.gates import METRICS
from gsvexport.verify.recogniser import unusable
from gsvexport.verify.report import Check, Report

LEVELS = (2, 3)
_LEVEL = re.compile(r"L([0-4])")


@dataclass(frozen=True)
class Depth:
    """Levels of proof up to `level`, 2 or 3; level 3 says the `sentences` of a file, or the voice's own, `seeds` times.

    `recogniser` is the folder of a Whisper model in CTranslate2's format to hear words with, in place of the one of the
    extra `quality` (or of the one that the variable GSVEXPORT_RECOGNISER names).
    `required` are metrics ("pesq") and levels ("L3"): what of them does not run fails.

    Raises:
        InputError: values out of range or unknown names, all of them listed.
    """

    level: int = 2
    seeds: int = 1
    sentences: Path | None = None
    required: tuple[str, ...] = ()
    recogniser: Path | None = None

    def __post_init__(self) -> None:
        problems = [] if self.level in LEVELS else [f"level {self.level}; there are {LEVELS[0]} and {LEVELS[1]}"]
        problems += [] if self.seeds >= 1 else [f"{self.seeds} seeds; at least 1 is needed"]
        if self.recogniser is not None:
            problems += [f"--recogniser {self.recogniser}: {problem}" for problem in unusable(self.recogniser)]
        for name in self.required:
            if name not in METRICS and not _LEVEL.fullmatch(name):
                close = nearest(name, METRICS) or f"; there are {', '.join(METRICS)}"
                problems.append(f"--require {name}: neither a level (L0 to L4) nor a metric{close}")
        if problems:
            raise InputError("this verification cannot be made", problems=problems)

    @property
    def deep(self) -> bool:
        """Whether level 3 is made: asked for, or required."""
        return self.level >= 3 or any(level(name) == 3 for name in self.required)


def level(name: str) -> int:
    """The level of proof that the name of a level or of a metric stands for."""
    found = _LEVEL.fullmatch(name)
    return int(found[1]) if found else METRICS[name].level


def insist(report: Report, required: tuple[str, ...]) -> Report:
    """The report, with everything required that did not run as a failure."""
    checks = []
    for check in report.checks:
        wanted = check.metric in required or f"L{check.level}" in required
        if wanted and check.status == "not_run":
            check = replace(check, status="fail", reason=f"required, but not run: {check.reason}")
        checks.append(check)
    for name in required:
        if not any(name in (check.metric, f"L{check.level}") for check in checks):
            metric = name if name in METRICS else "valid"
            reason = f"required, but there is no check of {name} here"
            kind = METRICS[metric].direction
            checks.append(Check(level(name), "required", metric, "-", None, None, kind, 0, "fail", reason=reason))
    return replace(report, checks=tuple(checks))
