"""What an artifact's compiled stages read beside their recipe."""

from __future__ import annotations

from pathlib import Path

from gsvexport.backends.rknn.recipe import read_recipe
from gsvexport.untrusted.reading import read_json


def carried() -> dict[str, Path]:
    """An artifact needs nothing of this package."""
    return {}


def reads(folder: Path) -> set[str]:
    """The files that the recipes of this backend's stages name."""
    stages = read_json(folder / "manifest.json")["stages"].values()
    found = [read_recipe(folder / entry["file"]) for entry in stages if entry["backend"] == "rknn"]
    return {name for one in found for name in (one.model, one.graph, one.placement)}


def ports(folder: Path, graph: str) -> dict[str, dict[str, str]]:
    """Its graphs are no ONNX of ours: see `gsvexport.backends.declaration.Carriage`."""
    return {}
