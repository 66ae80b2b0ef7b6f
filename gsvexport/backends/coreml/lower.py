"""Lowering for Core ML: a vocoder as a window of one size, written as an ML program, and read back.

vocoder.json             how it is run: windows, masks, what the host does
vocoder.mlpackage/       what an app loads
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from gsvexport.artifact.tools import tool_version
from gsvexport.backends.coreml import BACKEND, compute, package
from gsvexport.backends.coreml.operators import translated
from gsvexport.backends.coreml.recipe import Recipe
from gsvexport.backends.coreml.runtime import PACKAGE, absent
from gsvexport.backends.coreml.systems import SYSTEMS
from gsvexport.backends.lowered import Calibration, Lowered
from gsvexport.errors import BackendError, EnvironmentProblem, missing_package
from gsvexport.model import Model
from gsvexport.npu.lowering import Compiled, Maker, lower_stages
from gsvexport.system.vendor import Running, Tool
from gsvexport.untrusted.reading import Refused

if TYPE_CHECKING:
    from gsvexport.npu.forms import Window

Array = NDArray[Any]
Say = Callable[[str], None]
COMMAND: tuple[str, ...] = (sys.executable, "-m", "gsvexport.backends.coreml.writer")
TOOL = Tool(PACKAGE, "GSVEXPORT_COREML_SECONDS", 900.0, "choose a target without coreml", r"it/s\]|passes/s\]|ops/s\]")
_SIZES = {"shortest": 64, "guard": 0, "step": 8}
_NOT_RUN = "Core ML has not run it: what is compared is our own reading of the file, in numpy, with FP16 results"


def lower(
    source: Path,
    model: Model,
    placement: Mapping[str, str],
    out: Path,
    *,
    device: Mapping[str, Any],
    calibration: Calibration | None = None,
    say: Say = lambda _: None,
) -> Lowered:
    """Write the stages of `placement` (stage -> precision) from the folder of a source to `out`.

    Raises:
        BackendError: a precision that a stage cannot have, a voice without a baked reference, no calibration, an
            operator without a lowering; coremltools failed, or what it wrote computes something else.
        EnvironmentProblem: coremltools is absent or of another release.
    """
    try:
        maker = _maker(say)
    except ImportError as error:
        raise missing_package(error.name or "onnx-ir", "building an artifact", "compile") from error
    return Lowered.windows(lower_stages(maker, source, model, placement, out, feeds=calibration, ready=ready))


def ready() -> None:
    """Refuse where coremltools cannot be used."""
    if problem := absent():
        raise EnvironmentProblem(problem, fix=BACKEND.needs["lowering"].fix)


def _maker(say: Say) -> Maker:
    import onnx

    from gsvexport.npu.forms import WIDE

    @contextmanager
    def compiled(made: Window, stage: str, work: Path, baked: dict[str, str]) -> Iterator[Compiled]:
        translated(onnx.load_from_string(made.graph).graph)  # what is not known is told before anything is started
        graph, folder = work / f"{stage}.onnx", work / f"{stage}.mlpackage"
        graph.write_bytes(made.graph)
        Running(TOOL, [*COMMAND, str(graph), str(folder)]).wait(f"writing {stage} for Core ML", say)
        try:
            program = package.read(folder)
        except (OSError, Refused) as error:
            raise BackendError(f"stage {stage}: what {PACKAGE} wrote cannot be read: {error}") from error
        version = tool_version(PACKAGE)
        recipe = Recipe(package=folder.name, coremltools=version, baked=baked, **made.sizes)
        needs = " or ".join(SYSTEMS.values())
        how = f"{len(program.operations)} operators, written with {PACKAGE} {version} for {needs} and newer"
        files = tuple(folder / name for name in package.FILES)

        def read(given: list[dict[str, Array]]) -> list[Array]:
            try:
                return [compute.run(program, one) for one in given]
            except Refused as error:
                raise BackendError(f"stage {stage}: what {PACKAGE} wrote {error}") from error

        yield Compiled(recipe, files, (how, _NOT_RUN), read)

    instead = "place the vocoder on onnxruntime in your target"
    return Maker("coreml", BACKEND.precisions, "is written for Core ML", instead, (WIDE,), **_SIZES, compiled=compiled)
