"""Every error a user can meet, and the exit code it ends the command line with.

An error says what was asked, what was found, what the limit is and what to type next. A check that can find several
problems reports all of them at once: it collects strings and raises one error with `problems`.
"""

from __future__ import annotations

from collections.abc import Sequence


class GsvError(Exception):
    """A failure with a cause that the user can act on.

    `what` is one sentence that names the file, target, stage or argument. `found` and `limit` are the value met and the
    value allowed, `problems` lists every single finding, `fix` is the next thing to type or change.
    """

    exit_code = 1

    def __init__(
        self,
        what: str,
        *,
        found: object = None,
        limit: object = None,
        problems: Sequence[str] = (),
        fix: str | None = None,
    ) -> None:
        self.what, self.found, self.limit = what, found, limit
        self.problems, self.fix = tuple(problems), fix
        super().__init__(str(self))

    def __str__(self) -> str:
        lines = [self.what]
        lines += [f"  - {problem}" for problem in self.problems]
        if self.found is not None:
            lines.append(f"  found: {self.found}")
        if self.limit is not None:
            lines.append(f"  limit: {self.limit}")
        if self.fix:
            lines.append(f"  fix:   {self.fix}")
        return "\n".join(lines)


class InputError(GsvError):
    """Arguments that no stage or command can take: a phone id out of range, a text too long, an existing output."""

    exit_code = 2


class VoiceError(GsvError):
    """A checkpoint, `voice.toml`, reference or source that is broken, hostile, incomplete or not supported."""

    exit_code = 3


class TargetError(GsvError):
    """A target that does not exist, or a profile that contradicts itself."""

    exit_code = 4


class GateFailed(GsvError):
    """An artifact was built and run, and a verification limit was missed."""

    exit_code = 5


class ArtifactError(GsvError):
    """An artifact that is damaged, incomplete, of an unknown schema, or made for another machine."""

    exit_code = 6


class EnvironmentProblem(GsvError):
    """The machine, not the input: a full disk, an absent package, a directory that cannot be written."""

    exit_code = 7


class PassError(GsvError):
    """A graph transformation whose precondition or result does not hold."""

    exit_code = 8


class BackendError(GsvError):
    """A backend that cannot lower, compile or run a graph."""

    exit_code = 9


def printable(text: str) -> str:
    """Text from anywhere, safe to show: what is not printable becomes its escape, but for line breaks.

    Nothing in it steers a terminal, turns the direction of writing around, or is half of a character.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(one if one.isprintable() or one == "\n" else ascii(one)[1:-1] for one in text)


def missing_package(package: str, needed_for: str, extra: str) -> EnvironmentProblem:
    """The error for an optional dependency that is absent; names the extra that brings it."""
    return EnvironmentProblem(
        f"{needed_for} needs the package '{package}', which is not installed",
        fix=f"pip install 'gsvexport[{extra}]'",
    )
