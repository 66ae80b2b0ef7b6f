"""What an artifact's stages for Core ML read beside their recipe: all files of the package."""

from __future__ import annotations

from pathlib import Path

from gsvexport.backends.coreml.package import FILES
from gsvexport.backends.coreml.recipe import read_recipe
from gsvexport.untrusted.reading import read_json


def carried() -> dict[str, Path]:
    """An artifact needs nothing of this package."""
    return {}


def reads(folder: Path) -> set[str]:
    """The files of the packages that the recipes of this backend's stages name."""
    stages = read_json(folder / "manifest.json")["stages"].values()
    found = [read_recipe(folder / entry["file"]).package for entry in stages if entry["backend"] == "coreml"]
    return {f"{name}/{file}" for name in found for file in FILES}


def ports(folder: Path, graph: str) -> dict[str, dict[str, str]]:
    """Its graphs are no ONNX of ours: see `gsvexport.backends.declaration.Carriage`."""
    return {}
