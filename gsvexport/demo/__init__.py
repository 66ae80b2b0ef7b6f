"""The demo voice: what is built where no voice is named.

Where the package of the extra "demo-voice" is installed it is a real one, put together from that package's networks and
a GPT of this project (`real`); elsewhere it is the small one that travels in the wheel (`small`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gsvexport.demo import package, real, small
from gsvexport.errors import InputError

VARIABLE = "GSVEXPORT_DEMO"  # names one of `VOICES`
VOICES: dict[str, Callable[[], Path]] = {"small": small.folder, "real": real.folder}


@dataclass(frozen=True)
class Sentence:
    """A sentence that no demo voice was trained on: its text and its phone ids [X]."""

    text: str
    phones: tuple[int, ...]


def chosen() -> str:
    """Which of `VOICES` the demo voice is here.

    Raises:
        InputError: the environment names another one.
    """
    name = os.environ.get(VARIABLE) or ("real" if package.installed() else "small")
    if name not in VOICES:
        raise InputError(f"{VARIABLE} is {name!r}", limit=", ".join(VOICES), fix=f"unset {VARIABLE}")
    return name


def demo_voice() -> Path:
    """The folder of the demo voice, with its `voice.toml` and notice.

    Raises:
        EnvironmentProblem: an archive or a package is damaged, or the cache cannot be written.
        InputError: as `chosen`.
    """
    return VOICES[chosen()]()


def remark() -> str | None:
    """What has to be told about the demo voice when it is used, or None."""
    return real.REMARK if chosen() == "real" else None


def sentences() -> list[Sentence]:
    """Sentences to try either demo voice with.

    Raises: as `demo_voice`.
    """
    entries = json.loads((small.folder() / "tests.json").read_text(encoding="utf-8"))
    return [Sentence(entry["text"], tuple(entry["phone_ids"])) for entry in entries]
