"""A small artifact that speaks, and others made of it that are not what they should be.

`python tests/hostile/artifacts.py FOLDER` writes the corpus of strange artifacts that `test_strange.py` feeds to every
command; `make fuzz` does, too.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gsvexport.artifact import container
from gsvexport.artifact.manifest import MANIFEST, Manifest
from gsvexport.compiler.build import build
from gsvexport.compiler.source import _digest, open_source, write_source
from gsvexport.files import canonical_json
from gsvexport.synthetic import write_voice
from gsvexport.voice.voice import read_voice


@dataclass(frozen=True)
class Subject:
    """A voice, its source, its artifact for x86-64, and the files in that."""

    voice: Path
    source: Path
    artifact: Path
    files: Path


def prepare(folder: Path) -> Subject:
    """Make them; the cache in use keeps what the build made."""
    voice = write_voice(folder / "voice")
    source = write_source(read_voice(voice), folder / "source").path
    [artifact] = build(voice, ["x86-64"], folder / "dist", compress="none")
    container.unpack(artifact, folder / "files")
    return Subject(voice, source, artifact, folder / "files")


def copied(folder: Path, out: Path) -> Path:
    """A copy whose files may be changed."""
    return Path(shutil.copytree(folder, out))


def repacked(files: Path, out: Path, **changes: Any) -> Path:
    """An artifact of changed files, whose manifest lists them as they are now; `changes` go into the manifest."""
    manifest = Manifest.from_bytes((files / MANIFEST).read_bytes(), "")
    manifest = replace(container.with_members(manifest, files), **changes)
    container.write(manifest, files, out, force=True)
    (files / MANIFEST).write_text(canonical_json(manifest.to_json()))
    return out


def resealed(source: Path, how: Callable[[dict[str, Any]], object]) -> Path:
    """A source whose `source.json` was changed, with the digest that it then has."""
    meta = json.loads((source / "source.json").read_text())
    how(meta)
    meta["digest"] = _digest(meta)
    (source / "source.json").write_text(canonical_json(meta))
    return source


def entry(path: Path) -> dict[str, Any]:
    """How `source.json` lists a file."""
    from gsvexport.files import sha256_file

    return {"size": path.stat().st_size, "sha256": sha256_file(path)}


__all__ = ["Subject", "copied", "entry", "open_source", "prepare", "repacked", "resealed"]
