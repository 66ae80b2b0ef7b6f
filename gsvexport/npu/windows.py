"""How a stage that was compiled for one size is run: windows, their masks, and what is left to the host.

A window takes `valid` frames, beyond which its masks are zero; `window` is what was compiled. Of the frames of a
sequence that come out, `left` and `right` at the seams are looked at and thrown away.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gsvexport.errors import ArtifactError, BackendError
from gsvexport.untrusted import reading, schema

if TYPE_CHECKING:
    from gsvexport.untrusted.schema import Shape

Array = NDArray[Any]
SCHEMA = 1
TAILS = ("none", "tanh")
MASK = "mask_"  # an input's name, before the samples that it has for a frame; see `passes/fixed_window.py`
AGAIN = "get the artifact again, or build it again"
NAME = schema.text(100)
FILE = schema.text(200)
_LARGEST = 1 << 16  # bytes of a recipe
_LONGEST = 1 << 16  # frames of a window, samples of a frame
_MOST = 16
_SHAPE: Mapping[str, Shape] = {
    "schema": schema.one_of(SCHEMA),
    "input": NAME,
    "output": NAME,
    "samples": schema.flag,
    "tail": schema.one_of(*TAILS),
    **dict.fromkeys(("window", "valid", "rate"), schema.whole(1, _LONGEST)),
    **dict.fromkeys(("left", "right"), schema.whole(0, _LONGEST)),
    "masks": schema.rows(schema.whole(1, _LONGEST), _MOST),
    "baked": schema.table(schema.text(64), _MOST, NAME),
}


@dataclass(frozen=True)
class Windows:
    """See the module. `baked` has SHA-256 of the inputs that became constants; `rate` samples come out for each frame;
    `masks` are samples for a frame, too; `tail` is what the host computes last; `samples` says that the output is
    [1, N] and not [1, C, N]. A backend adds which files it runs."""

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

    @property
    def inputs(self) -> tuple[str, ...]:
        """The compiled graph's inputs, in their order."""
        return (self.input, *(f"{MASK}{rate}" for rate in self.masks))

    def to_json(self) -> dict[str, object]:
        """Plain values, for `read_values`."""
        return {"schema": SCHEMA, **asdict(self), "masks": list(self.masks)}

    def host(self, sound: Array) -> Array:
        """The operator that was left to the host."""
        return np.tanh(sound) if self.tail == "tanh" else sound

    def check(self, path: Path, *files: str) -> None:
        """Whether all this can be right, with the names of files that it has to find beside it.

        Raises:
            ArtifactError: it cannot; says why.
        """
        found = []
        if self.valid > self.window:
            found.append(f"{self.valid} frames do not go into a window of {self.window}")
        if self.valid <= self.left + self.right:
            found.append(f"a window of {self.valid} frames keeps none of them")
        if max(self.masks, default=1) > self.rate:
            found.append("a mask has more samples than the sound")
        found += [f"{name!a} is no file beside it" for name in files if "/" in name or not reading.safe_name(name)]
        if found:
            raise ArtifactError(f"{path} cannot be right", problems=found, fix=AGAIN)


def read_values(path: Path, more: Mapping[str, Shape], what: str) -> dict[str, Any]:
    """The fields of `Windows` that the recipe `path` has, and of `more`; `what` it is a recipe of is for errors.

    Raises:
        ArtifactError: not one of this schema, or with values that none may have; names them.
    """
    try:
        value = reading.read_json(path, limit=_LARGEST)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} is no recipe of {what}: it {reading.why(error)}", fix=AGAIN) from error
    if problems := schema.findings(value, schema.record({**_SHAPE, **more})):
        raise ArtifactError(f"{path} is no recipe of {what}", problems=problems, fix=AGAIN)
    del value["schema"]
    return {**value, "masks": tuple(value["masks"])}


class Span(NamedTuple):
    """Frames [start, stop) go in; of what comes out, those of frames [first, last) are kept."""

    start: int
    stop: int
    first: int
    last: int


def spans(frames: int, windows: Windows) -> Iterator[Span]:
    """Windows of at most `valid` frames that keep each of `frames` once."""
    first = 0
    while first < frames:
        start = max(0, first - windows.left)
        stop = min(frames, start + windows.valid)
        last = frames if stop == frames else stop - windows.right
        yield Span(start, stop, first, last)
        first = last


def window_feeds(frames: Array, windows: Windows) -> dict[str, Array]:
    """What a compiled window is given for frames [1, C, n] with n up to `valid`; zeros beyond."""
    count = frames.shape[2]
    given = np.zeros((1, frames.shape[1], windows.window), np.float32)
    given[:, :, :count] = frames
    feeds = {windows.input: given}
    for rate in windows.masks:
        mask = np.zeros((1, 1, windows.window * rate), np.float32)
        mask[:, :, : count * rate] = 1
        feeds[f"{MASK}{rate}"] = mask
    return feeds


def sha256(value: Array) -> str:
    """SHA-256 over an array as float32, row by row."""
    return hashlib.sha256(np.ascontiguousarray(value, np.float32).tobytes()).hexdigest()


def remembered(window: Callable[[dict[str, Array]], Array], most: int = 256) -> Callable[[dict[str, Array]], Array]:
    """`window`, asked once for equal arrays: emulations take seconds, and a verification that is near a limit says its
    sentences again. The last `most` results are kept; 256 of 41,000 samples are 42 MB."""
    known: OrderedDict[str, Array] = OrderedDict()

    def asked(feeds: dict[str, Array]) -> Array:
        key = sha256(np.concatenate([feeds[name].reshape(-1) for name in sorted(feeds)]))
        if key not in known:
            known[key] = window(feeds)
            while len(known) > most:
                known.popitem(last=False)
        return known[key]

    return asked


class WindowSession:
    """One compiled stage; see `gsvexport.backends.Session`. `window` runs one window, `end` frees what it runs on."""

    def __init__(
        self,
        path: Path,
        windows: Windows,
        window: Callable[[dict[str, Array]], Array],
        end: Callable[[], None] = lambda: None,
    ) -> None:
        self._path, self._windows, self._end = path, windows, end
        self._window: Callable[[dict[str, Array]], Array] | None = window
        self._running = threading.Lock()  # one NPU, and what stands in for it holds the arrays of a run

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Every output by name. Arrays are [1, C, F] or what is a constant in the graph: callers check them."""
        windows = self._windows
        for name, digest in windows.baked.items():
            if name in feeds and sha256(feeds[name]) != digest:
                raise BackendError(
                    f"{self._path}: '{name}' is another voice's, and this was compiled with the artifact's own",
                    fix="leave the voice as it is, or build the artifact with another reference",
                )
        given, found = np.asarray(feeds[windows.input], np.float32), []
        with self._running:
            if self._window is None:
                raise BackendError(f"{self._path} was closed", fix="load the voice again")
            for one in spans(given.shape[2], windows):
                y = self._window(window_feeds(given[:, :, one.start : one.stop], windows))
                if y.ndim != (2 if windows.samples else 3) or y.shape[-1] != windows.window * windows.rate:
                    raise ArtifactError(f"{self._path}: what it names gives {list(y.shape)}", fix=AGAIN)
                found.append(y[..., (one.first - one.start) * windows.rate : (one.last - one.start) * windows.rate])
        return {windows.output: windows.host(np.concatenate(found, axis=-1))}

    def close(self) -> None:
        """Free the memory."""
        with self._running:
            if self._window is not None:
                self._window = None
                self._end()
