"""What a server is told: by a TOML file, then by the environment, then by the command line, each over the one before.

The API key comes from a file or from the environment. On a command line every user of the machine could read it.
"""

from __future__ import annotations

import ipaddress
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from gsvexport.errors import InputError
from gsvexport.registry.index import check_name
from gsvexport.untrusted.reading import read_text, why

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PREFIX = "GSVEXPORT_SERVE_"  # GSVEXPORT_SERVE_PORT is `port`
_LARGEST_FILE = 1 << 20
_SHORTEST_KEY, _LONGEST_KEY = 16, 4096  # characters
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_SIZE = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)\s*([KMGT]?)B?", re.IGNORECASE)


@dataclass(frozen=True)
class Settings:
    """All that can be chosen. Sizes are in bytes (written as 2G, 500M), times in seconds."""

    voices: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 8000
    api_key_file: str = ""
    memory: int = 2 * 10**9
    pin: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    allow_unsigned: bool = False
    allow_unverified: bool = False
    any_machine: bool = False
    allow_older: bool = False  # a version that is older than one that was pulled before
    watch: float = 10.0  # seconds between two looks at what there is to serve; 0 looks once
    threads: int = 0  # processor cores a graph may use; 0 means all
    rows: int = 8  # sentences of a voice in one step, and callers of it who are spoken to at once
    queue: int = 32  # callers of a voice who wait beyond those
    deadline: float = 120.0  # from the request to its last sound
    longest_text: int = 4096  # characters
    largest_body: int = 65_536
    largest_headers: int = 16_384
    idle: float = 15.0  # that a connection may be silent
    connections: int = 2000
    grace: float = 30.0  # for what is being spoken when the server is told to stop
    log_text: bool = False
    replicas: int = 1  # on Ray: the fewest
    most_replicas: int = 4
    fronts: int = 1  # on Ray: what callers reach
    key: str = field(default="", repr=False)

    @property
    def loopback(self) -> bool:
        """Whether nobody but this machine can connect."""
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


_BOUNDS: dict[str, tuple[float, float]] = {
    "port": (0, 65535),
    "memory": (1, 10**15),
    "watch": (0, 86_400),
    "threads": (0, 256),
    "rows": (1, 64),
    "queue": (0, 100_000),
    "deadline": (0.01, 86_400),
    "longest_text": (1, 200_000),
    "largest_body": (256, 10**8),
    "largest_headers": (1024, 10**6),
    "idle": (0.05, 3600),
    "connections": (1, 10**6),
    "grace": (0, 86_400),
    "replicas": (1, 10_000),
    "most_replicas": (1, 10_000),
    "fronts": (1, 1000),
}


def read_settings(
    given: Mapping[str, Any], file: Path | None = None, environment: Mapping[str, str] | None = None
) -> Settings:
    """The settings; `given` are those of the command line, where None was not given.

    Raises:
        InputError: unknown or impossible values, with all of them named, or a host beyond this machine without a key.
    """
    environment = environment or {}
    problems: list[str] = []
    values: dict[str, Any] = {}
    if file is not None:
        values |= _checked(_table(file), f"{file}: ", problems)
    values |= _checked(_of_environment(environment), PREFIX, problems)
    values |= _checked({name: value for name, value in given.items() if value is not None}, "--", problems)
    if problems:
        raise InputError("no server can be like this", problems=problems, fix="gsvexport serve --help")
    settings = replace(Settings(**values), key=environment.get(f"{PREFIX}API_KEY", ""))
    for alias in settings.aliases:
        check_name(alias, "voice")
    if settings.api_key_file:
        settings = replace(settings, key=_key(Path(settings.api_key_file)))
    if settings.key and not _SHORTEST_KEY <= len(settings.key) <= _LONGEST_KEY:
        found, limit = f"{len(settings.key)} characters", f"{_SHORTEST_KEY} to {_LONGEST_KEY}"
        raise InputError("the API key has no sensible length", found=found, limit=limit, fix="openssl rand -hex 32")
    if not settings.loopback and not settings.key:
        raise InputError(
            f"whoever reaches {settings.host} could use this server, and no API key is set",
            fix=f"--api-key-file FILE or {PREFIX}API_KEY, or leave --host out to serve this machine alone",
        )
    return settings


def size(text: object) -> int:
    """Bytes of "2G", "500M" or a whole number; units are powers of 1000.

    Raises:
        ValueError: it is none.
    """
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    found = _SIZE.fullmatch(str(text).strip())
    if not found:
        raise ValueError("is no size such as 500M or 2G")
    return round(float(found[1]) * _UNITS[found[2].upper()])


def _texts(value: object) -> tuple[str, ...]:
    """A list of words, or in the environment words between commas."""
    many = value.split(",") if isinstance(value, str) else value
    if not isinstance(many, (list, tuple)) or not all(isinstance(one, (str, Path)) for one in many):
        raise ValueError("is no list of words")
    return tuple(str(one) for one in many if str(one))


def _aliases(value: object) -> dict[str, str]:
    """A table of names, or in the environment NAME=VOICE between commas."""
    if isinstance(value, str):
        value = dict(one.split("=", 1) for one in value.split(",") if "=" in one)
    if not isinstance(value, dict) or not all(isinstance(one, str) for pair in value.items() for one in pair):
        raise ValueError("is no table of names to voices")
    return dict(value)


def _flag(value: object) -> bool:
    known = {"1": True, "true": True, "0": False, "false": False, "": False}
    if isinstance(value, bool):
        return value
    if not isinstance(value, str) or value.lower() not in known:
        raise ValueError("is neither true nor false")
    return known[value.lower()]


def _number(value: object, kind: type) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError("is no number")
    if kind is int and isinstance(value, float):
        raise ValueError("is no whole number")
    return kind(value)


def _word(value: object) -> str:
    if not isinstance(value, (str, Path)):
        raise ValueError("is no text")
    return str(value)


_READERS: dict[str, Callable[[Any], Any]] = {
    "bool": _flag,
    "int": lambda value: _number(value, int),
    "float": lambda value: _number(value, float),
    "str": _word,
    "tuple[str, ...]": _texts,
    "Mapping[str, str]": _aliases,
}
_NAMES = {one.name: _READERS[str(one.type)] for one in fields(Settings) if one.name != "key"}
_NAMES["memory"] = size


def _checked(values: Mapping[str, Any], where: str, problems: list[str]) -> dict[str, Any]:
    """Each value as what it has to be; what is wrong goes into `problems`."""
    found = {}
    for name, value in values.items():
        if name not in _NAMES:
            problems.append(f"{where}{name} is not known")
            continue
        try:
            found[name] = one = _NAMES[name](value)
        except (ValueError, OverflowError) as error:
            said = str(error) if str(error).startswith("is ") else "is no number"
            problems.append(f"{where}{name} {said}: {str(value)[:80]!a}")
            continue
        low, high = _BOUNDS.get(name, (None, None))
        if low is not None and high is not None and not low <= one <= high:
            problems.append(f"{where}{name} is {one}; {low:g} to {high:g} is possible")
    return found


def _of_environment(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name.removeprefix(PREFIX).lower(): value
        for name, value in sorted(environment.items())
        if name.startswith(PREFIX) and name not in (f"{PREFIX}API_KEY", f"{PREFIX}CONFIG")
    }


def _table(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_text(file, _LARGEST_FILE))
    except (OSError, ValueError) as error:
        raise InputError(f"{file} {why(error)}", fix="give a TOML file of settings") from error


def _key(file: Path) -> str:
    try:
        return read_text(file, _LARGEST_FILE).strip()
    except (OSError, ValueError) as error:
        raise InputError(f"the file of the API key, {file}, {why(error)}", fix="write the key into it") from error
