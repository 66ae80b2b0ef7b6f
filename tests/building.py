"""A small voice and the command line in processes of their own, for tests that build."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def command(cache: Path, *arguments: object) -> tuple[list[str], dict[str, str]]:
    """Arguments and environment of one `gsvexport` process."""
    environment = {**os.environ, "GSVEXPORT_CACHE": str(cache), "PYTHONPATH": str(ROOT)}
    environment.pop("GSVEXPORT_DEBUG", None)
    return [sys.executable, "-m", "gsvexport", *map(str, arguments)], environment


def gsvexport(cache: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    line, environment = command(cache, *arguments)
    return subprocess.run(line, env=environment, capture_output=True, text=True, check=False, timeout=300)


def start(cache: Path, *arguments: object) -> subprocess.Popen[str]:
    """Start the command line; its progress is on `stderr`."""
    line, environment = command(cache, *arguments)
    return subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def left(folder: Path) -> list[str]:
    """Everything in a folder, hidden files included; empty when it does not exist."""
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []
