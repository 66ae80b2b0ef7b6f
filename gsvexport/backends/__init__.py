"""What runs a stage's graph, one folder a backend, found by the folder's name.

A backend that can run here has a `session.py` with `open_session(path, *, threads=None) -> Session`. It is the device
side: it imports nothing that only a compiler needs. One whose artifacts are finished on the device has an `emulate.py`
for the compile side: MODES (what is emulated, in words), `opener(mode) -> Opener`, and REMAINS, what that leaves open.
For the device it has a `finalize.py`: `carried()`, the files that its artifacts hold of this package, and what finishes
an artifact there; `finished(folder)` in its `session.py` says whether that was done. A `finalize.py` with `complete`
has a compiler of its own, whose output artifacts can do without: they are always finished. `audit.py` says what only
the backend can know of an artifact: `audit(folder, manifest)` yields (stage, metric, value, count, reason), and
`described(manifest, read)` is a page of text, from members that `read` gives. `compiled.py` asks the vendor's own
compiler where artifacts are built: `name()` says which, `judge(folder, manifest, keep, say)` yields (stage, metric,
value, count, reason, form).
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from gsvexport.errors import ArtifactError, BackendError
from gsvexport.untrusted.reading import Refused, inside

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Opener(Protocol):
    """How a stage's graph is opened: `open_session`, or what stands in for it."""

    def __call__(self, backend: str, folder: Path, file: str, *, threads: int | None = None) -> Session:
        """See `open_session`."""
        ...


class Session(Protocol):
    """One loaded graph."""

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Every output by name, for one array for each input.

        Raises:
            BackendError: the runtime refused the arrays or failed while computing; names the file.
        """
        ...

    def close(self) -> None:
        """Free the graph; the session cannot run afterwards. Closing twice is allowed."""
        ...


def runnable() -> tuple[str, ...]:
    """Names of the backends that can run a graph, sorted. Nothing is imported to find out."""
    return _folders("session.py")


def _folders(file: str) -> tuple[str, ...]:
    """The backends that have a file. A name out of an artifact is looked for among them: it is no path."""
    return tuple(sorted(path.parent.name for path in Path(__file__).parent.glob(f"*/{file}")))


def emulation(backend: str) -> ModuleType | None:
    """The `emulate.py` of a backend; None for one whose artifacts run as they are."""
    if backend not in _folders("emulate.py"):
        return None
    return importlib.import_module(f"{__name__}.{backend}.emulate")


def finaliser(backend: str) -> ModuleType | None:
    """The `finalize.py` of a backend; None for one whose artifacts run as they are."""
    if backend not in _folders("finalize.py"):
        return None
    return importlib.import_module(f"{__name__}.{backend}.finalize")


def carrying(backend: str) -> dict[str, Path]:
    """The code that artifacts of a backend hold, by member's name, and the file of this package that each is."""
    module = finaliser(backend)
    return dict(module.carried()) if module is not None else {}


def auditor(backend: str) -> ModuleType | None:
    """The `audit.py` of a backend; None for one that measures nothing of its artifacts."""
    if backend not in _folders("audit.py"):
        return None
    return importlib.import_module(f"{__name__}.{backend}.audit")


def compiler(backend: str) -> ModuleType | None:
    """The `compiled.py` of a backend; None for one whose vendor has no compiler for where artifacts are built."""
    if not (Path(__file__).parent / backend / "compiled.py").is_file():
        return None
    return importlib.import_module(f"{__name__}.{backend}.compiled")


def finishing(backends: Iterable[str], how: str) -> ModuleType | None:
    """The first `finalize.py` of `backends` that offers `how`: "finalize" on the device, or "complete" on a host."""
    found = (finaliser(name) for name in sorted(set(backends)))
    return next((module for module in found if module is not None and hasattr(module, how)), None)


def finished(backend: str, folder: Path) -> bool:
    """Whether the artifact in `folder` can run on this device as it is; false where `finaliser` has work to do."""
    finishing = finaliser(backend)
    if finishing is None or hasattr(finishing, "complete"):
        return True
    return bool(importlib.import_module(f"{__name__}.{backend}.session").finished(folder))


def open_session(backend: str, folder: Path, file: str, *, threads: int | None = None) -> Session:
    """Load the graph `file` of a source or an unpacked artifact.

    `threads` limits the cores one operator may use; None leaves the choice to the backend.

    Raises:
        ArtifactError: the file's name leads out of the folder, or the file is a link or no graph.
        BackendError: no such backend, or it cannot load the file.
        EnvironmentProblem: the backend's own runtime is not installed.
    """
    known = runnable()
    if backend not in known:
        near = difflib.get_close_matches(backend, known, n=1)
        raise BackendError(
            f"no backend is called '{backend}'",
            limit=", ".join(known),
            fix=f"did you mean '{near[0]}'?" if near else "name one of those",
        )
    module = importlib.import_module(f"{__name__}.{backend}.session")
    try:
        path = inside(folder, file)
    except Refused as error:
        raise ArtifactError(f"{folder} {error}", fix="get it again, or build it again") from error
    session: Session = module.open_session(path, threads=threads)
    return session
