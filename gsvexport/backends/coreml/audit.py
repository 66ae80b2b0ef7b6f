"""What an artifact's packages are, read from the files and held against what the artifact says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from gsvexport.artifact.manifest import Manifest
from gsvexport.backends.coreml.session import read_stage
from gsvexport.backends.coreml.systems import SYSTEMS
from gsvexport.errors import ArtifactError
from gsvexport.model import read_model
from gsvexport.npu.ports import wrong

METRICS = ("ports", "declared_precision")
Finding = tuple[str, str, float | None, int, str]


def audit(folder: Path, manifest: Manifest) -> Iterator[Finding]:
    """(stage, metric, value, how many, reason): `ports` that are not the stage table's, and `declared_precision`, the
    share of weights that are stored as FP16. NaN where a file cannot be read."""
    for stage, entry in manifest.stages.items():
        if entry.backend != "coreml":
            continue
        try:
            recipe, _, program = read_stage(folder / entry.file)
        except ArtifactError as error:
            yield stage, METRICS[0], float("nan"), 0, " ".join(str(error).split())
            continue
        shapes = {name: list(kind.shape) for name, kind in program.inputs.items()}
        yield stage, METRICS[0], *wrong(shapes, [program.output], recipe, read_model(folder).stages[stage])
        total = sum(program.stored.values())
        words = ", ".join(f"{count} {kind}" for kind, count in sorted(program.stored.items()))
        yield stage, METRICS[1], program.stored.get("float16", 0) / total if total else 1.0, total, words


def described(manifest: Manifest, read_member: Callable[[str], bytes]) -> str:
    """What it is, and how far it is proven, as text."""
    stages = [stage for stage, entry in manifest.stages.items() if entry.backend == "coreml"]
    needs = " or ".join(SYSTEMS.values())
    return "".join(f"{stage}: an ML program in FP16 for {needs} and newer; built, not run\n" for stage in stages)
