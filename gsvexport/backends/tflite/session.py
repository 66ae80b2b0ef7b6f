"""Runs a stage with LiteRT: its parts one after another, each in windows of one length.

A recipe, `<stage>.json`, names the parts. A part takes [1, C, T] as [1, 1, T, C], in integers or in float. Windows have
the length for which a part was compiled; the first begins where the sequence does and the last ends where it ends, so
the zeros that convolutions see beyond an end are the ones that belong there. A sequence that is shorter than a window
has none to put there. It runs at its own length, which the processor's kernels take, and an Edge TPU does not: there
that sequence is computed by the processor. A processor takes longer windows, too; the result is the same.
"""

from __future__ import annotations

import ctypes
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gsvexport.errors import ArtifactError, BackendError, EnvironmentProblem
from gsvexport.untrusted import reading, schema

Array = NDArray[Any]
SCHEMA = 1
_LARGEST_RECIPE = 1 << 16  # bytes
_MOST_PARTS = 8
_LONGEST = 1 << 16  # frames of a window, of a context, or of a rate
_AGAIN = "get the artifact again, or build it again"
_SHAPE = schema.record(
    {
        "schema": schema.one_of(SCHEMA),
        "output": schema.text(200),
        "samples": schema.flag,
        "parts": schema.rows(
            schema.record(
                {
                    "file": schema.text(200),
                    **dict.fromkeys(("window", "left", "right"), schema.whole(0, _LONGEST)),
                    "rate": schema.whole(1, _LONGEST),
                }
            ),
            _MOST_PARTS,
            least=1,
        ),
    }
)
_TIME = 2
_LONGER = 4  # windows of a part on a processor, times that of an accelerator: less is computed twice
# What a part's file is called when a compiler has made it for an accelerator, and the libraries that run it there.
_DELEGATES = {
    "_edgetpu": ("libedgetpu.so.1", "libedgetpu.so.1.0"),
    "_vela": ("libethosu_delegate.so", "/usr/lib/libethosu_delegate.so"),  # NXP's; it ran nothing of ours
}


@dataclass(frozen=True)
class Part:
    """One `.tflite` file of a stage. `window` frames go in; `left` and `right` of them are looked at around those that
    are kept; `rate` frames come out for each."""

    file: str
    window: int
    left: int
    right: int
    rate: int


class Window(NamedTuple):
    """Frames [start, stop) go in; of what comes out, those of frames [first, last) are kept."""

    start: int
    stop: int
    first: int
    last: int


def windows(frames: int, part: Part) -> Iterator[Window]:
    """Windows of `part.window` frames that keep each of `frames` once; a single, shorter one where there are fewer."""
    size = min(part.window, frames)
    first = 0
    while first < frames:
        start = min(max(0, first - part.left), frames - size)
        last = frames if start + size == frames else start + size - part.right
        yield Window(start, start + size, first, last)
        first = last


class LiteRtSession:
    """A stage made of parts; see `gsvexport.backends.Session`."""

    def __init__(self, path: Path, output: str, samples: bool, parts: list[_Opened]) -> None:
        self._path, self._output, self._samples, self._parts = path, output, samples, parts
        self._running = threading.Lock()  # an interpreter holds the arrays of one run

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Every output by name. Arrays are [1, C, T] or, of sound, [1, N]: callers check them."""
        arrays = {name: np.asarray(one, np.float32).transpose(0, 2, 1)[:, None] for name, one in feeds.items()}
        with self._running:
            if not self._parts:
                raise BackendError(f"{self._path} was closed", fix="load the voice again")
            for part in self._parts:
                arrays = {"": part.run(arrays)}
        result = arrays[""][:, 0].transpose(0, 2, 1)
        return {self._output: np.ascontiguousarray(result[:, 0] if self._samples else result)}

    def close(self) -> None:
        """Free the memory of every part."""
        with self._running:
            self._parts = []


class Runner:
    """One `.tflite` graph in an interpreter, resized when it is given another length."""

    def __init__(self, name: str, interpreter: Any) -> None:
        self._name, self._interpreter = name, interpreter
        self.inputs = [
            (one["name"], one["index"], (one["quantization"], one["dtype"])) for one in interpreter.get_input_details()
        ]
        self._shapes = {one["index"]: tuple(one["shape"]) for one in interpreter.get_input_details()}
        self._output = interpreter.get_output_details()[0]

    def run(self, arrays: Mapping[str, Array]) -> Array:
        """float32 [1, 1, T, C] in, by name (one for a single input may have any name), and out."""
        try:
            resized = False
            found = [(index, q, arrays[name if name in arrays else ""]) for name, index, q in self.inputs]
            for index, _, array in found:
                if self._shapes[index] != array.shape:
                    self._interpreter.resize_tensor_input(index, array.shape)
                    self._shapes[index], resized = array.shape, True
            if resized:
                self._interpreter.allocate_tensors()
            for index, q, array in found:
                self._interpreter.set_tensor(index, np.ascontiguousarray(_to_integers(array, *q)))
            self._interpreter.invoke()
            return _to_float(self._interpreter.get_tensor(self._output["index"]), self._output["quantization"])
        except (RuntimeError, ValueError, KeyError) as error:  # what the interpreter raises
            shapes = "; ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())
            raise BackendError(
                f"LiteRT cannot run {self._name}", problems=[str(error).strip()], found=shapes
            ) from error

    def tensor(self, index: int) -> Array:
        """A tensor of the last run, by its place in the graph, of an interpreter that keeps them."""
        found: Array = self._interpreter.get_tensor(index)
        return found


def open_session(path: Path, *, threads: int | None = None) -> LiteRtSession:
    """Open the parts that the recipe `path` names; see `gsvexport.backends.open_session`.

    A part whose compiled form lies beside it runs on an Edge TPU where the runtime of one is installed.
    """
    output, samples, parts = read_recipe(path)
    return LiteRtSession(path, output, samples, [_Opened(part, path.parent / part.file, threads) for part in parts])


def read_recipe(path: Path) -> tuple[str, bool, list[Part]]:
    """The name of the stage's output, whether it is sound, and the parts.

    Raises:
        ArtifactError: not a recipe of this schema, or with values that none may have; names them.
    """
    try:
        value = reading.read_json(path, limit=_LARGEST_RECIPE)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} is no recipe of TFLite parts: it {reading.why(error)}", fix=_AGAIN) from error
    if problems := schema.findings(value, _SHAPE):
        raise ArtifactError(f"{path} is no recipe of TFLite parts", problems=problems, fix=_AGAIN)
    parts = [Part(**one) for one in value["parts"]]
    for part in parts:
        if part.window <= part.left + part.right:
            problems.append(f"{part.file}: a window of {part.window} frames keeps none of them")
        if not safe_part(path.parent, part.file):
            problems.append(f"{part.file!a} is no .tflite file beside it")
    if problems:
        raise ArtifactError(f"{path} cannot be right", problems=problems, fix=_AGAIN)
    return value["output"], value["samples"], parts


def safe_part(folder: Path, name: str) -> bool:
    """Whether a part's name is that of a `.tflite` file in the folder."""
    try:
        return "/" not in name and name.endswith(".tflite") and reading.inside(folder, name) is not None
    except reading.Refused:
        return False


def interpreter(
    model: bytes | Path, threads: int | None, delegates: list[Any] | None = None, *, keep: bool = False
) -> Any:
    """LiteRT's interpreter of a model, allocated. One thread where nothing is asked: more of them wait by spinning.

    With `keep` every tensor can be read after a run.

    Raises:
        BackendError: LiteRT refuses the model.
        EnvironmentProblem: neither ai-edge-litert nor tflite-runtime is installed.
    """
    make = _litert().Interpreter
    given = {"model_path": str(model)} if isinstance(model, Path) else {"model_content": model}
    try:
        options: dict[str, Any] = {"experimental_delegates": delegates} if delegates else {}
        options |= {"experimental_preserve_all_tensors": True} if keep else {}
        with warnings.catch_warnings():  # it warns of the memory that `keep` takes
            warnings.simplefilter("ignore", UserWarning)
            found = make(**given, num_threads=threads or 1, **options)
        found.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        name = model.name if isinstance(model, Path) else "a graph"
        raise BackendError(f"LiteRT cannot load {name}", problems=[str(error).strip()]) from error
    return found


class _Opened:
    """A part in its interpreters: that of an accelerator where there is one, and the processor's when it is needed."""

    def __init__(self, part: Part, path: Path, threads: int | None) -> None:
        self._part, self._path, self._threads = part, path, threads
        self._accelerator: Runner | None = None
        for suffix, libraries in _DELEGATES.items():
            compiled = path.with_name(f"{path.stem}{suffix}{path.suffix}")
            if compiled.is_file() and (delegate := _delegate(libraries)):
                self._accelerator = Runner(compiled.name, interpreter(compiled, threads, [delegate]))
        self._processor = None if self._accelerator else self._open()

    def run(self, arrays: Mapping[str, Array]) -> Array:
        """What the part makes of whole sequences [1, 1, T, C]; an array of one frame goes into every window."""
        frames = max(array.shape[_TIME] for array in arrays.values())
        if self._accelerator is not None and frames >= self._part.window:
            return in_windows(self._part, self._accelerator, arrays)
        self._processor = self._processor or self._open()
        return in_windows(replace(self._part, window=_LONGER * self._part.window), self._processor, arrays)

    def _open(self) -> Runner:
        return Runner(self._path.name, interpreter(self._path, self._threads))


def in_windows(part: Part, runner: Runner, arrays: Mapping[str, Array]) -> Array:
    """What a part makes of sequences [1, 1, T, C], in its windows; an array of one frame goes into every window."""
    frames = max(array.shape[_TIME] for array in arrays.values())
    found = []
    for one in windows(frames, part):
        cut = {
            name: array if array.shape[_TIME] == 1 else array[:, :, one.start : one.stop]
            for name, array in arrays.items()
        }
        y = runner.run(cut)
        end = None if one.last == frames else (one.last - one.start) * part.rate
        found.append(y[:, :, (one.first - one.start) * part.rate : end])
    return found[0] if len(found) == 1 else np.concatenate(found, axis=_TIME)


def _delegate(libraries: Sequence[str]) -> Any:
    """The delegate of an accelerator; None where its runtime or the device is absent."""
    for name in libraries:
        try:
            ctypes.CDLL(name)  # LiteRT complains on its own way out of a library that is not there
            return _litert().load_delegate(name)
        except (OSError, ValueError):
            continue
    return None


def _litert() -> Any:
    try:
        from ai_edge_litert import interpreter as found
    except ImportError:
        try:
            from tflite_runtime import interpreter as found
        except ImportError as error:
            raise EnvironmentProblem(
                f"LiteRT, which runs .tflite files, cannot be imported: {error}", fix="pip install 'gsvexport[tflite]'"
            ) from error
    return found


def _to_integers(array: Array, quantisation: tuple[float, int], dtype: type) -> Array:
    scale, zero = quantisation
    if not scale:
        return array
    limits = np.iinfo(dtype)
    return np.clip(np.rint(array / np.float32(scale)) + zero, limits.min, limits.max).astype(dtype)


def _to_float(array: Array, quantisation: tuple[float, int]) -> Array:
    scale, zero = quantisation
    return (array.astype(np.float32) - zero) * np.float32(scale) if scale else array
