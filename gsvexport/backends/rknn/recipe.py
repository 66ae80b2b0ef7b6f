"""Which files a compiled stage has, and for which chip; how it is run, see `gsvexport.npu.windows`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gsvexport.backends.rknn.chips import CHIPS
from gsvexport.npu.windows import FILE, NAME, Windows, read_values
from gsvexport.untrusted import schema

_MORE = {**dict.fromkeys(("model", "graph", "placement"), FILE), "chip": schema.one_of(*CHIPS), "toolkit": NAME}


@dataclass(frozen=True)
class Recipe(Windows):
    """`model` is the compiled file that the chip runs, `graph` what `toolkit` (a version) made it of and its simulator
    runs, `placement` what it says of where operators run."""

    model: str
    graph: str
    placement: str
    chip: str
    toolkit: str


def read_recipe(path: Path) -> Recipe:
    """The recipe in `path`.

    Raises:
        ArtifactError: not one of this schema, or with values that none may have; names them.
    """
    found = Recipe(**read_values(path, _MORE, "an RKNN model"))
    found.check(path, found.model, found.graph, found.placement)
    return found
