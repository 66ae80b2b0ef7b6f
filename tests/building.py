"""A small voice and the command line in processes of their own, for tests that build."""

from __future__ import annotations

import os
import shutil
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


def runnable(folder):
    """The files of a tiny voice as ONNX Runtime runs them, in `folder`/files, with its source in `folder`/source:
    (files, source)."""
    from gsvexport.backends.onnxruntime.lower import lower
    from gsvexport.compiler.source import write_source
    from gsvexport.synthetic import write_voice
    from gsvexport.voice.voice import read_voice

    source = write_source(read_voice(write_voice(folder / "voice", seed=3)), folder / "source")
    model, files = source.model, folder / "files"
    files.mkdir()
    lower(source.path, model, dict.fromkeys(model.stages, "fp32"), files, device={"features": []})
    for name in ("model.json", *model.baked.values()):
        (files / name).parent.mkdir(exist_ok=True)
        shutil.copy(source.path / name, files / name)
    return files, source
