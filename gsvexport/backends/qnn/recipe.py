"""How a compiled stage is run: windows of one size, their masks, and what is left to the host.

A window takes `valid` frames, beyond which its masks are zero; `window` is what was compiled. Of the frames of a
sequence that come out, `left` and `right` at the seams are looked at and thrown away.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from gsvexport.backends.qnn.chips import Chip
from gsvexport.errors import ArtifactError
from gsvexport.untrusted import reading, schema

SCHEMA = 1
TAILS = ("none", "tanh")
MASK = "mask_"  # an input's name, before the samples that it has for a frame; see `passes/fixed_window.py`
_LARGEST = 1 << 16  # bytes of a recipe
_LONGEST = 1 << 16  # frames of a window, samples of a frame
_MOST = 16
_AGAIN = "get the artifact again, or build it again"
_NAME = schema.text(100)
_SHAPE = schema.record(
    {
        "schema": schema.one_of(SCHEMA),
        "context": schema.text(200),
        "chip": schema.record(
            {"name": _NAME, "htp_arch": schema.whole(1, 1000), "soc_model": schema.whole(1, 1 << 20)}
        ),
        "qairt": _NAME,
        "package": _NAME,
        "input": _NAME,
        "output": _NAME,
        "samples": schema.flag,
        "tail": schema.one_of(*TAILS),
        **dict.fromkeys(("window", "valid", "rate"), schema.whole(1, _LONGEST)),
        **dict.fromkeys(("left", "right"), schema.whole(0, _LONGEST)),
        "masks": schema.rows(schema.whole(1, _LONGEST), _MOST),
        "baked": schema.table(schema.text(64), _MOST, _NAME),
    }
)


@dataclass(frozen=True)
class Recipe:
    """See the module. `context` is the compiled file, made by `package` (a version) with `qairt`; `baked` has SHA-256
    of the inputs that became constants; `rate` samples come out for each frame; `masks` are samples for a frame, too;
    `tail` is what the host computes last; `samples` says that the output is [1, N] and not [1, C, N]."""

    context: str
    chip: Chip
    qairt: str
    package: str
    input: str
    output: str
    samples: bool
    tail: str
    window: int
    valid: int
    left: int
    right: int
    rate: int
    masks: tuple[int, ...]
    baked: dict[str, str]

    def to_json(self) -> dict[str, object]:
        """Plain values, for `read_recipe`."""
        return {"schema": SCHEMA, **asdict(self), "masks": list(self.masks)}


class Span(NamedTuple):
    """Frames [start, stop) go in; of what comes out, those of frames [first, last) are kept."""

    start: int
    stop: int
    first: int
    last: int


def spans(frames: int, recipe: Recipe) -> Iterator[Span]:
    """Windows of at most `valid` frames that keep each of `frames` once."""
    first = 0
    while first < frames:
        start = max(0, first - recipe.left)
        stop = min(frames, start + recipe.valid)
        last = frames if stop == frames else stop - recipe.right
        yield Span(start, stop, first, last)
        first = last


def read_recipe(path: Path) -> Recipe:
    """The recipe in `path`.

    Raises:
        ArtifactError: not one of this schema, or with values that none may have; names them.
    """
    try:
        value = reading.read_json(path, limit=_LARGEST)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} is no recipe of a QNN context: it {reading.why(error)}", fix=_AGAIN) from error
    if problems := schema.findings(value, _SHAPE):
        raise ArtifactError(f"{path} is no recipe of a QNN context", problems=problems, fix=_AGAIN)
    del value["schema"]
    found = Recipe(**{**value, "chip": Chip(**value["chip"]), "masks": tuple(value["masks"])})
    if found.valid > found.window:
        problems.append(f"{found.valid} frames do not go into a window of {found.window}")
    if found.valid <= found.left + found.right:
        problems.append(f"a window of {found.valid} frames keeps none of them")
    if max(found.masks, default=1) > found.rate:
        problems.append("a mask has more samples than the sound")
    if "/" in found.context or not reading.safe_name(found.context):
        problems.append(f"{found.context!a} is no file beside it")
    if problems:
        raise ArtifactError(f"{path} cannot be right", problems=problems, fix=_AGAIN)
    return found
