"""What a backend says of itself: one frozen `Backend` in the `__init__.py` of its folder, read by everybody.

An offer names a module of the folder, which is imported when it is first used. So the declaration costs nothing, and
the device side never meets what only a compiler needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from gsvexport.artifact.proof import Proof

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gsvexport.artifact.manifest import Manifest
    from gsvexport.backends.lowered import Calibration, Lowered
    from gsvexport.model import Model

    Say = Callable[[str], None]


@dataclass(frozen=True)
class Needs:
    """Distributions that an offer imports, one of each group, programs that it runs, and what brings them."""

    packages: tuple[tuple[str, ...], ...] = ()
    fix: str = ""
    programs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Backend:
    """One backend. Offers are names of modules, None what it does not offer.

    session      runs a graph: `Sessions`
    lowering     writes the graphs of an artifact: `Lowering`
    reasons      why a precision, and what it costs: `Reasons`
    scratch      how much memory it computes in, where it plans that as a whole: `Scratch`
    verdicts     what the compiler on the device would say, before anything is lowered: `Verdicts`
    programs     versions of programs that its lowering runs and that are no Python packages: `Programs`
    compiler     asks the vendor's own compiler where artifacts are built: `Compiler`
    ahead        builds engines there that the device need not build: `Ahead`
    emulation    stands in for a device that is not here: `Emulation`
    absence      why its own runtime cannot run here; with it, `emulation` stands in only then: `Absence`
    carriage     what its artifacts hold beyond graphs: `Carriage`
    finalisation builds on the device what only the device can: `Finalisation`
    completion   adds on a host what a compiler there makes; artifacts do without: `Completion`
    audit        what only the backend can know of an artifact: `Audit`
    bounds       which devices it builds for, where that can be said beforehand: `Bounds`

    `precisions` are those that its lowering writes, by role; `calibrated` of them need to know what a stage really
    sees, `judged` keep layers in float where the sound would miss its gates. `uses` are the parts of a target that a
    lowering depends on, `tools` the distributions whose versions may change what it writes. `sentences` is how those of
    a text are written. `proof` is what it says of an artifact that it ran here; `compiled_for` what it says instead for
    devices with a part whose own program did not run. A lowering that `tells` takes `say`, which is told what it is at.
    One that `keeps_reference` makes the voice's reference a part of its graphs: another one needs another build.
    """

    title: str
    session: str
    lowering: str | None = None
    reasons: str | None = None
    scratch: str | None = None
    verdicts: str | None = None
    programs: str | None = None
    compiler: str | None = None
    ahead: str | None = None
    emulation: str | None = None
    absence: str | None = None
    carriage: str | None = None
    finalisation: str | None = None
    completion: str | None = None
    audit: str | None = None
    bounds: str | None = None
    precisions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    calibrated: tuple[str, ...] = ()
    judged: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    sentences: str = "one at a time"  # or side by side, where …
    proof: Proof = Proof.RUNTIME
    compiled_for: Mapping[str, Proof] = field(default_factory=dict)  # by part of the device
    tells: bool = False
    keeps_reference: bool = False
    portability: str = "portable"  # or "build_on_device"
    needs: Mapping[str, Needs] = field(default_factory=dict)  # by offer

    def proves(self, device: Mapping[str, Any]) -> Proof:
        """What a run on another machine says of an artifact for `device`, a target's."""
        return next((rung for part, rung in self.compiled_for.items() if device.get(part)), self.proof)


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


class Opener(Protocol):
    """How a stage's graph is opened: `gsvexport.backends.open_session`, or what stands in for it."""

    def __call__(self, backend: str, folder: Path, file: str, *, threads: int | None = None) -> Session:
        """See `gsvexport.backends.open_session`."""
        ...


class Sessions(Protocol):
    """The device side. `finished(folder)` beside it, for a backend with a `finalisation`: whether that was done; and
    `give_back()` where its runtime keeps memory for work to come, which is let go of by that."""

    def open_session(self, path: Path, *, threads: int | None = None) -> Session:
        """Load one graph."""
        ...

    def finished(self, folder: Path) -> bool:
        """Whether the unpacked artifact in `folder` can run on this device as it is."""
        ...


class Lowering(Protocol):
    """The compile side."""

    def lower(
        self,
        source: Path,
        model: Model,
        placement: Mapping[str, str],
        out: Path,
        *,
        device: Mapping[str, Any],
        calibration: Calibration | None = None,
    ) -> Lowered:
        """Write the graphs of `placement` (stage → precision) to `out`; `device` are the parts that `uses` names.

        One that `tells` takes `say`, too. `ready()` beside it, where a vendor's compiler runs: raises
        `EnvironmentProblem` if that cannot be used here, so that a build says it before it has calibrated.
        """
        ...


class Reasons(Protocol):
    """What `plan --explain` asks."""

    def why(self, role: str, precision: str, features: Iterable[str]) -> str:
        """Why a role has a precision, in words."""
        ...

    def weight_bytes(self, precision: str) -> float:
        """Bytes of a weight in a layer of that precision."""
        ...

    def head_bytes(self, precision: str) -> float:
        """Bytes of a weight that stays in floats."""
        ...


class Scratch(Protocol):
    """How a backend plans the memory that it computes in."""

    def scratch_bytes(self, tokens: int, widest: int, frames: float) -> float:
        """What a sentence of so many tokens takes, through a vocoder whose widest array has `widest` floats for each of
        `frames` frames of a token."""
        ...


class Verdicts(Protocol):
    """What the compilers on the device would say."""

    def verdicts(self, source: Path, model: Model, placement: Mapping[str, str], device: Mapping[str, Any]) -> str:
        """A page of text, a line for each release; nothing is measured."""
        ...


class Bounds(Protocol):
    """For which devices a backend can build, known before anything is read."""

    def problems(self, device: Mapping[str, Any]) -> list[str]:
        """Why it cannot build for a target's device; empty where it can."""
        ...


class Programs(Protocol):
    """Tools that pip does not know."""

    def programs(self) -> dict[str, str]:
        """Their versions by name."""
        ...


class Compiler(Protocol):
    """The vendor's compiler, on the machine that builds."""

    def name(self) -> str:
        """Which it is, and its version; empty where it is not installed."""
        ...

    def judge(
        self, folder: Path, manifest: Manifest, keep: Callable[..., Path], say: Say
    ) -> Iterator[tuple[str, str, float | None, int, str, str]]:
        """Stage, metric, value, count, reason and the form of the graph that was judged."""
        ...


class Ahead(Protocol):
    """What builds engines ahead of time, on the machine that builds the artifact."""

    TOOLS: tuple[str, ...]  # the distributions whose versions may change what it writes
    PARAMS: Mapping[str, Any]  # what else that depends on

    def missing(self) -> str:
        """Why it cannot be used on this machine, with the command that installs it; empty where it can."""
        ...

    def problems(self, device: Mapping[str, Any]) -> list[str]:
        """Why there can be no such engine for a target's device."""
        ...

    def lines(self) -> list[str]:
        """What it does, for a plan."""
        ...

    def build(self, folder: Path, out: Path, say: Say) -> dict[str, Any]:
        """Build the engines of lowered graphs in `folder` into `out`; returns the `engines` of a manifest."""
        ...


class Emulation(Protocol):
    """What stands in for a device. `UNPROVEN` beside it, where it proves nothing and may refuse: why what keeps its
    limit there counts as not run."""

    MODES: Mapping[str, str]  # what is emulated, in words
    REMAINS: str  # what that leaves open

    def opener(self, mode: str) -> Opener:
        """Opens stages in one of the modes."""
        ...


class Absence(Protocol):
    """Whether a device's own runtime is on this machine."""

    def missing(self) -> str:
        """Why it cannot run here, in words; empty where it can. Nothing heavy is imported or fetched for the answer."""
        ...


class Carriage(Protocol):
    """What artifacts hold beyond graphs."""

    def carried(self) -> dict[str, Path]:
        """Files of this package by member's name, so that a device without gsvexport can finish it."""
        ...

    def reads(self, folder: Path) -> set[str]:
        """Members that are neither a stage's graph nor carried, and are needed."""
        ...

    def ports(self, folder: Path, graph: str) -> dict[str, dict[str, str]]:
        """The numpy type of each input and output of a graph whose ports are its own; empty for the stage table's."""
        ...


class Finalisation(Protocol):
    """What is done on the device."""

    def finalize(self, folder: Path, say: Say, cache: str, *, trusted: bool) -> dict[str, Any]:
        """Build, prove and measure; returns the device report. What was compiled elsewhere is run if it is trusted."""
        ...

    def reject(self, folder: Path) -> None:
        """Mark what was built as wrong."""
        ...

    def write_report(self, report: Mapping[str, Any], path: Path, folder: Path) -> None:
        """Write the device report."""
        ...

    def summary(self, report: Mapping[str, Any]) -> str:
        """The report in words."""
        ...

    def how_to_send(self, path: Path) -> str:
        """What to do with the report."""
        ...


class Completion(Protocol):
    """What is done on a host that has the device's own compiler."""

    def complete(self, folder: Path, work: Path, compiled: Path | None, say: Say) -> dict[str, Any]:
        """Write what the compiler makes of the artifact in `folder` to `work`."""
        ...

    def summary(self, report: dict[str, Any]) -> str:
        """What came of it, in words."""
        ...

    def how_to_send(self, path: Path) -> str:
        """What to do next."""
        ...


class Audit(Protocol):
    """What only the backend can know of an artifact."""

    def audit(self, folder: Path, manifest: Manifest) -> Iterator[tuple[str, str, float | None, int, str]]:
        """Stage, metric, value, count and reason."""
        ...

    def described(self, manifest: Manifest, read_member: Callable[[str], bytes]) -> str:
        """A page of text, from members that `read_member` gives."""
        ...
