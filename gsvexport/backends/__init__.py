"""What runs a stage's graph, one folder a backend, found by the folder's name.

A folder is a backend by what its `__init__.py` declares: `BACKEND`, a `Backend`. Everybody reads that, and whatever a
backend offers is had from here. A new backend is a new folder and nothing else.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import pkgutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from gsvexport.backends.declaration import Backend, Needs, Opener, Session
from gsvexport.errors import ArtifactError, BackendError, missing_package
from gsvexport.untrusted.reading import Refused, inside

if TYPE_CHECKING:
    from gsvexport.backends.declaration import (
        Absence,
        Ahead,
        Audit,
        Bounds,
        Carriage,
        Compiler,
        Completion,
        Emulation,
        Finalisation,
        Lowering,
        Programs,
        Reasons,
        Scratch,
        Sessions,
        Verdicts,
    )

__all__ = ["Backend", "Needs", "Opener", "Session"]


def names() -> tuple[str, ...]:
    """The backends of this release, sorted. A name out of an artifact is looked for among them: it is no path."""
    return _names(tuple(__path__))


@functools.cache
def _names(folders: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(one.name for one in pkgutil.iter_modules(folders) if one.ispkg))


def declared(name: str) -> Backend:
    """What a backend says of itself.

    Raises:
        BackendError: no such backend.
    """
    known = names()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        raise BackendError(
            f"no backend is called '{name}'",
            limit=", ".join(known),
            fix=f"did you mean '{near[0]}'?" if near else "name one of those",
        )
    found: Backend = importlib.import_module(f"{__name__}.{name}").BACKEND
    return found


def folder_of(name: str) -> Path:
    """Where the code of a backend is."""
    return Path(next(iter(importlib.import_module(f"{__name__}.{name}").__path__)))


def sessions(name: str) -> Sessions:
    """What opens graphs of a backend.

    Raises:
        BackendError: no such backend.
    """
    return cast("Sessions", importlib.import_module(f"{__name__}.{name}.{declared(name).session}"))


def lowering(name: str) -> Lowering:
    """The compile side of a backend.

    Raises:
        EnvironmentProblem: a package that it imports is not installed.
        BackendError: it has none.
    """
    module = declared(name).lowering
    if module is None:
        raise BackendError(f"backend {name} builds nothing")
    try:
        found = _offer(name, "lowering")
    except ModuleNotFoundError as error:
        raise missing_package(error.name or name, "building an artifact", "compile") from error
    return cast("Lowering", found)


def refuse_unready(name: str) -> None:
    """Refuse a backend that cannot build here, before anything is computed for it.

    Raises: as `lowering`, and EnvironmentProblem: the vendor's compiler cannot be used here.
    """
    getattr(lowering(name), "ready", lambda: None)()


def reasons(name: str) -> Reasons:
    """Why a backend would have a precision."""
    return cast("Reasons", _offer(name, "reasons"))


def scratch(name: str) -> Scratch | None:
    """How a backend plans its memory."""
    return cast("Scratch | None", _offer(name, "scratch"))


def verdicts(name: str) -> Verdicts | None:
    """What the compiler on a backend's device would say."""
    return cast("Verdicts | None", _offer(name, "verdicts"))


def bounds(name: str) -> Bounds | None:
    """Which devices a backend builds for."""
    return cast("Bounds | None", _offer(name, "bounds"))


def programs(name: str) -> Programs | None:
    """Programs that a backend's lowering runs."""
    return cast("Programs | None", _offer(name, "programs"))


def compiler(name: str) -> Compiler | None:
    """The vendor's compiler, where artifacts are built."""
    return cast("Compiler | None", _offer(name, "compiler"))


def ahead(name: str) -> Ahead | None:
    """What builds a backend's engines where artifacts are built."""
    return cast("Ahead | None", _offer(name, "ahead"))


def emulation(name: str) -> Emulation | None:
    """What stands in for a backend's device on this machine; None where nothing has to."""
    return cast("Emulation", _offer(name, "emulation")) if emulated(name) else None


def emulated(name: str) -> bool:
    """Whether something stands in for a backend's device on this machine; nothing of it is imported."""
    if name not in names() or declared(name).emulation is None:
        return False
    runtime = cast("Absence | None", _offer(name, "absence"))
    return runtime is None or bool(runtime.missing())


def carriage(name: str) -> Carriage | None:
    """What a backend's artifacts hold beyond graphs."""
    return cast("Carriage | None", _offer(name, "carriage"))


def audit(name: str) -> Audit | None:
    """What only a backend can know of an artifact."""
    return cast("Audit | None", _offer(name, "audit"))


def finalisation(backends: Iterable[str]) -> Finalisation | None:
    """What builds on the device, of the first of these backends that has it."""
    return cast("Finalisation | None", _first(backends, "finalisation"))


def completion(backends: Iterable[str]) -> Completion | None:
    """What completes an artifact on a host, of the first of these backends that has it."""
    return cast("Completion | None", _first(backends, "completion"))


def finished(name: str, folder: Path) -> bool:
    """Whether the artifact in `folder` can run on this device as it is; false where `finalisation` has work to do, or
    something has to stand in."""
    if _offer(name, "finalisation") is None:
        return not emulated(name)
    return sessions(name).finished(folder)


def open_session(backend: str, folder: Path, file: str, *, threads: int | None = None) -> Session:
    """Load the graph `file` of a source or an unpacked artifact.

    `threads` limits the cores one operator may use; None leaves the choice to the backend.

    Raises:
        ArtifactError: the file's name leads out of the folder, or the file is a link or no graph.
        BackendError: no such backend, or it cannot load the file.
        EnvironmentProblem: the backend's own runtime is not installed.
    """
    opens = sessions(backend).open_session
    try:
        path = inside(folder, file)
    except Refused as error:
        raise ArtifactError(f"{folder} {error}", fix="get it again, or build it again") from error
    return opens(path, threads=threads)


def give_back() -> None:
    """Have the runtimes that are in use let go of memory that they keep for work to come."""
    for name in names():
        module = sys.modules.get(f"{__name__}.{name}.{declared(name).session}")
        if let_go := getattr(module, "give_back", None):
            let_go()


def _offer(name: str, what: str) -> Any:
    """A module of a backend; None where it offers none. A backend of a later release, which an artifact may name,
    offers nothing here: such an artifact can be read, and what has to run it says so."""
    module = getattr(declared(name), what) if name in names() else None
    return None if module is None else importlib.import_module(f"{__name__}.{name}.{module}")


def _first(backends: Iterable[str], what: str) -> Any:
    return next((found for name in sorted(set(backends)) if (found := _offer(name, what)) is not None), None)
