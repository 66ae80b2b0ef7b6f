"""What is wrong with a voice, and what is worth telling of it, gathered from all of its files."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from gsvexport.errors import GsvError, VoiceError

_T = TypeVar("_T")


class Findings:
    """Problems and notes of one voice, and the advice that came with the first problem."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.fix: str | None = None

    def add(self, error: GsvError) -> None:
        """Keep an error as problems that each name the file."""
        found = [] if error.found is None else [f"found {error.found}"]
        limit = [] if error.limit is None else [f"limit {error.limit}"]
        detail = f" ({', '.join(found + limit)})" if found or limit else ""
        self.problems += [f"{error.what}: {problem}" for problem in error.problems] or [error.what + detail]
        self.fix = self.fix or error.fix

    def collect(self, read: Callable[[], _T]) -> _T | None:
        """What `read` gives; None after noting what is wrong."""
        try:
            return read()
        except VoiceError as error:
            self.add(error)
            return None
