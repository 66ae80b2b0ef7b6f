"""What was pulled before, so that an old artifact is not passed off as the latest.

    CONFIG/pulled.json    by repository, voice and target, and by signing key, voice and target: the greatest version

It lies with the keys and not in the cache: pruning must not forget it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gsvexport.artifact.keys import config_directory
from gsvexport.errors import ArtifactError, EnvironmentProblem
from gsvexport.files import atomic_file, canonical_json
from gsvexport.registry.index import VERSION, version_order
from gsvexport.untrusted import reading, schema

FILE = "pulled.json"
_MOST = 10_000
_SHAPE = schema.record(
    {
        "schema": schema.one_of(1),
        "greatest": schema.table(schema.text(40, re.compile(VERSION)), 2 * _MOST, schema.text()),
    }
)


@dataclass(frozen=True)
class Line:
    """What versions are in order: one voice for one target, of one repository, and of one key that signs versions
    (empty without one)."""

    place: str
    name: str
    target: str
    key: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """What it is called in the file."""
        by_place = f"{self.place} {self.name} {self.target}"
        return (by_place, f"key {self.key} {self.name} {self.target}") if self.key else (by_place,)


def refuse_older(line: Line, version: str, where: str, *, allowed: bool) -> None:
    """Raise where a greater version was pulled before, unless that is `allowed`.

    Raises:
        ArtifactError: it was.
        EnvironmentProblem: what was pulled before cannot be read.
    """
    known = _read()
    greatest = max((known[name] for name in line.names if name in known), key=version_order, default=None)
    if not allowed and greatest is not None and version_order(version) < version_order(greatest):
        raise ArtifactError(
            f"{where} is older than what was pulled before",
            found=f"version {version}",
            limit=f"version {greatest}",
            fix="if it was taken back for good reason: --allow-older",
        )


def remember(line: Line, version: str) -> None:
    """Note a pulled version, where it is the greatest so far.

    Raises:
        EnvironmentProblem: the file cannot be written.
    """
    known = _read()
    before = dict(known)
    for name in line.names:
        if name not in known or version_order(known[name]) < version_order(version):
            known.pop(name, None)
            known[name] = version
    if known != before:
        kept = dict(list(known.items())[-_MOST:])
        with atomic_file(config_directory() / FILE, force=True) as work:
            work.write_bytes(canonical_json({"schema": 1, "greatest": kept}).encode())


def _read() -> dict[str, str]:
    path = config_directory() / FILE
    try:
        value = reading.read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise EnvironmentProblem(
            f"{path} {reading.why(error)}", fix=f"remove {path}; it notes what was pulled"
        ) from error
    if problems := schema.findings(value, _SHAPE):
        raise EnvironmentProblem(f"{path} cannot be right", problems=problems, fix=f"remove {path}")
    found: dict[str, str] = value["greatest"]
    return found
