"""Reading a checkpoint's config and the shapes of its tensors, bounded and typed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from gsvexport.voice.pickle import printable


def indices(names: Mapping[str, Any], pattern: str) -> int:
    """How many different numbers stand at the group of `pattern` in the names."""
    return len({match[1] for name in names if (match := re.match(pattern, name))})


def miscount(key: str, told: int, what: str, found: int) -> list[str]:
    """The problem of a file that holds another number of something than its config tells, if it does."""
    return [] if told == found else [f"config: {key} is {told}, but the file holds {found} {what}"]


class Sizes:
    """Sizes that no config carries; the usual one where a tensor is absent, so that the absence gets reported."""

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        self._tensors = tensors

    def of(self, name: str, axis: int, usual: int) -> int:
        """The length of one axis of a tensor."""
        shape = self._tensors[name].shape if name in self._tensors else ()
        return int(shape[axis]) if axis < len(shape) else usual


class Config:
    """Typed, bounded access to a config by dotted key; what is missing or impossible goes to `problems`."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self.problems: list[str] = []

    def value(self, key: str) -> Any:
        """What stands there, of whatever type."""
        value: Any = self._config
        for part in key.split("."):
            if not isinstance(value, dict) or part not in value:
                self.problems.append(f"config: {key} is missing")
                return None
            value = value[part]
        return value

    def size(self, key: str, high: int = 1 << 16) -> int:
        """A whole number from 1 to `high`; 1 where it is not."""
        return self._checked(key, self.value(key), high)

    def sizes(self, key: str) -> tuple[int, ...]:
        """A list of whole numbers."""
        return self._list(key, self.value(key))

    def nested(self, key: str) -> tuple[tuple[int, ...], ...]:
        """A list of such lists."""
        value = self.value(key)
        if isinstance(value, list) and 0 < len(value) <= 16:
            return tuple(self._list(key, item) for item in value)
        self._wrong(key, value, "a list of lists of whole numbers")
        return ()

    def _list(self, key: str, value: Any) -> tuple[int, ...]:
        if isinstance(value, list) and 0 < len(value) <= 16:
            return tuple(self._checked(key, item, 4096) for item in value)
        self._wrong(key, value, "a list of 1 to 16 whole numbers")
        return ()

    def _checked(self, key: str, value: Any, high: int) -> int:
        if type(value) is int and 1 <= value <= high:
            return value
        self._wrong(key, value, f"a whole number from 1 to {high}")
        return 1

    def _wrong(self, key: str, value: Any, wanted: str) -> None:
        if value is not None:
            self.problems.append(f"config: {key} is {printable(repr(value), 60)}, not {wanted}")
