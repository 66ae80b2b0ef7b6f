"""Which context a compiled stage runs, for which chip; how, see `gsvexport.npu.windows`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gsvexport.backends.qnn.chips import Chip
from gsvexport.npu.windows import FILE, NAME, Windows, read_values
from gsvexport.untrusted import schema

_CHIP = schema.record({"name": NAME, "htp_arch": schema.whole(1, 1000), "soc_model": schema.whole(1, 1 << 20)})
_MORE = {"context": FILE, "chip": _CHIP, "qairt": NAME, "package": NAME}


@dataclass(frozen=True)
class Recipe(Windows):
    """`context` is the compiled file, made by `package` (a version) with `qairt`."""

    context: str
    chip: Chip
    qairt: str
    package: str


def read_recipe(path: Path) -> Recipe:
    """The recipe in `path`.

    Raises:
        ArtifactError: not one of this schema, or with values that none may have; names them.
    """
    value = read_values(path, _MORE, "a QNN context")
    found = Recipe(**{**value, "chip": Chip(**value["chip"])})
    found.check(path, found.context)
    return found
