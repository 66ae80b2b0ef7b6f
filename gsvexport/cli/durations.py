"""How long the phases of a command took the last time it was given, and how long the rest will take by that."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from gsvexport.errors import GsvError
from gsvexport.files import atomic_file, cache_directory, canonical_json, sha256_bytes
from gsvexport.untrusted.reading import parse_json, read_bytes

_MOST, _LARGEST = 64, 1 << 20  # commands that are remembered; bytes of all of them
_MOST_PHASES = 200
_LONGEST = 7 * 86_400.0  # s


class Durations:
    """Seconds by phase of one command, in the order of its phases; `recorded` is empty the first time.

    What comes from the cache takes no time and is not recorded, so the rest is what it takes at most.
    """

    def __init__(self, command: Iterable[str]) -> None:
        self._key = sha256_bytes(canonical_json(list(command)).encode())[:32]
        self.recorded: dict[str, float] = _read().get(self._key, {})

    def left(self, phase: str, spent: float, share: float | None) -> float | None:
        """About how many seconds are left, when `spent` went into the phase that runs; None where nobody knows.

        `share` is how much of the phase is done, where it is counted.
        """
        if phase not in self.recorded:
            return None
        names = list(self.recorded)
        rest = rest_of(spent, share)
        if rest is None:
            rest = max(self.recorded[phase] - spent, 0.0)
        return rest + sum(self.recorded[name] for name in names[names.index(phase) + 1 :])

    def keep(self, found: Mapping[str, float]) -> None:
        """Remember a run that came to its end. That it cannot be kept is no reason to fail."""
        known = _read()
        known.pop(self._key, None)
        merged = dict(list(merge(self.recorded, found).items())[:_MOST_PHASES])
        kept = [*known.items(), (self._key, merged)][-_MOST:]
        text = json.dumps({"commands": [[key, list(one.items())] for key, one in kept]})
        with contextlib.suppress(GsvError, OSError), atomic_file(_path(), force=True) as work:
            work.write_bytes((text if len(text) <= _LARGEST else "{}").encode("ascii"))


def rest_of(spent: float, share: float | None) -> float | None:
    """Seconds left of something of which `share` took `spent`; None while too little is done to tell."""
    return spent * (1 - share) / share if share and spent >= 1 else None


def merge(old: Mapping[str, float], new: Mapping[str, float]) -> dict[str, float]:
    """The phases of both with the newer seconds; a phase that is new follows the one that it followed."""
    names, at = list(old), 0
    for name in new:
        if name in names:
            at = names.index(name) + 1
        else:
            names.insert(at, name)
            at += 1
    return {name: new.get(name, old.get(name, 0.0)) for name in names}


def _path() -> Path:
    return cache_directory() / "durations.json"


def _read() -> dict[str, dict[str, float]]:
    """What is remembered; nothing where it cannot be read."""
    try:
        value = parse_json(read_bytes(_path(), _LARGEST))
        found = {str(key): {str(name): float(seconds) for name, seconds in phases} for key, phases in value["commands"]}
    except (OSError, ValueError, TypeError, KeyError, GsvError):
        return {}
    sound = all(0 <= seconds <= _LONGEST for phases in found.values() for seconds in phases.values())
    return found if sound else {}
