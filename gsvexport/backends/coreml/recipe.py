"""Which package a stage is; how it is run, see `gsvexport.npu.windows`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gsvexport.npu.windows import FILE, NAME, Windows, read_values

_MORE = {"package": FILE, "coremltools": NAME}


@dataclass(frozen=True)
class Recipe(Windows):
    """`package` is the folder that Core ML loads, written by a release of `coremltools`."""

    package: str
    coremltools: str


def read_recipe(path: Path) -> Recipe:
    """The recipe in `path`.

    Raises:
        ArtifactError: not one of this schema, or with values that none may have; names them.
    """
    found = Recipe(**read_values(path, _MORE, "a Core ML package"))
    found.check(path, found.package)
    return found
