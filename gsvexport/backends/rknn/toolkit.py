"""Asks Rockchip's toolkit, with a time limit, and believes nothing that is not there afterwards."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsvexport.backends.rknn import place
from gsvexport.backends.rknn.about import differs
from gsvexport.backends.rknn.placement import Placement, read_log
from gsvexport.errors import BackendError, EnvironmentProblem
from gsvexport.system.vendor import Running, Say, Tool

Array = NDArray[Any]
TOOL = Tool(
    "Rockchip's toolkit",
    "GSVEXPORT_RKNN_SECONDS",
    1800.0,  # a full-size vocoder took 60 s on a quiet machine
    "choose a target without rknn",
    r"it/s\]|^\s*$",
)
_UNSET = 4096
_SCRIPT = Path(__file__).with_name("child.py")


def command() -> tuple[str, ...]:
    """What starts it: Python alone, with nothing of the folder that the script is in."""
    return (str(place.python()), "-I", str(_SCRIPT))


def same(one: Path, other: Path) -> bool:
    """Whether two files are what one graph gives. The compiler writes structures of which it does not set every byte,
    so what its heap held is left there: 949 bytes of 9.2 MB were seen to differ for an RK3588, 14212 of 3.9 MB for an
    RK3576, where every convolution has such a structure, and 1231 of 10 kB."""
    a, b = (np.fromfile(path, np.uint8) for path in (one, other))
    return a.size == b.size and int((a != b).sum()) <= _UNSET + a.size // 100


def programs() -> dict[str, str]:
    """See `gsvexport.backends.declaration.Programs`."""
    return {place.PACKAGE: place.version(place.python()) or "absent"}


class Toolkit:
    """The toolkit in a process, with a folder of its own; it ends with the block, with `end`, and with Python.

    Raises:
        EnvironmentProblem: it is not installed, or in another release.
    """

    def __init__(self, say: Say = lambda _: None) -> None:
        if problem := place.missing():
            raise EnvironmentProblem(problem, fix=place.BUILDING)
        self._say = say
        self._folder = tempfile.TemporaryDirectory(prefix="gsvexport-rknn-", ignore_cleanup_errors=True)
        self._work = Path(self._folder.name)
        self._running = Running(TOOL, command(), asks=True, cwd=self._work)
        self._about = ""

    def build(self, graph: Path, out: Path, chip: str) -> Placement:
        """Compile `graph` for `chip` into `out`, and have the simulator ready for it.

        Raises:
            BackendError: it failed, crashed, took too long, wrote nothing, or wrote what is no such file.
        """
        # Names in the folder that it works in: it writes those that it is given into the file.
        shutil.copyfile(graph, self._work / "graph.onnx")
        made, log = self._work / "graph.rknn", self._work / "log"
        self._about = f"{graph.stem} for {chip}"
        told = {"do": "build", "graph": "graph.onnx", "chip": chip, "file": made.name, "log": log.name}
        answer = self._running.ask(told, f"compiling {self._about}", self._say)
        if answer.get("toolkit") != place.KNOWN:
            raise BackendError(f"{place.PACKAGE} says that it is {answer.get('toolkit')!s:.40}, and not {place.KNOWN}")
        if not made.is_file() or not made.stat().st_size:
            raise BackendError(f"{graph.stem}: {TOOL.name} ended without an error and wrote no file")
        if problem := differs(made, chip):
            raise BackendError(f"{graph.stem}: what {TOOL.name} wrote is not what it was asked for: {problem}")
        placement = read_log(log, graph.stem, chip)
        shutil.move(made, out)
        return placement

    def run(self, feeds: Sequence[Mapping[str, Array]]) -> list[Array]:
        """What the simulator computes: the only output of the graph for each of `feeds`.

        Raises:
            BackendError: it failed, crashed, took too long or gave no result.
        """
        given, result = self._work / "feeds.npz", self._work / "result.npz"
        result.unlink(missing_ok=True)
        np.savez(given, **{f"{name}@{at}": array for at, feed in enumerate(feeds) for name, array in feed.items()})  # type: ignore[arg-type]
        told = {"do": "run", "feeds": given.name, "result": result.name}
        self._running.ask(told, f"simulating {self._about}", self._say)
        try:
            with np.load(result) as found:
                return [found[str(at)] for at in range(len(feeds))]
        except (OSError, ValueError, KeyError) as error:
            raise BackendError(f"{self._about}: the simulator ended without an error and gave no result") from error

    def end(self) -> None:
        """Stop it, and take its folder away."""
        self._running.end()
        self._folder.cleanup()

    def __enter__(self) -> Toolkit:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
