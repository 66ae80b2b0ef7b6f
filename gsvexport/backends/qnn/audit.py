"""What an artifact's contexts are, read from the files: for its target's chip, and with the stage's ports."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from gsvexport.artifact.manifest import Manifest
from gsvexport.backends.qnn.chips import chip_of
from gsvexport.backends.qnn.recipe import read_recipe
from gsvexport.backends.qnn.vendor import about
from gsvexport.errors import ArtifactError, BackendError
from gsvexport.model import read_model
from gsvexport.npu.ports import wrong_ports

METRIC = "other_context"
Finding = tuple[str, str, float | None, int, str]


def audit(folder: Path, manifest: Manifest) -> Iterator[Finding]:
    """(stage, metric, value, how many, reason): `ports` that are not the stage table's, and `other_context`: how many
    things a context is not that its recipe or the target says. The value is None where `onnx` is missing to read it.
    """
    for stage, entry in manifest.stages.items():
        if entry.backend != "qnn":
            continue
        try:
            yield from _stage(folder, manifest, stage)
        except ImportError:
            yield stage, METRIC, None, 0, "the package 'onnx' is not installed: pip install 'gsvexport[compile]'"
        except (ArtifactError, BackendError) as error:
            yield stage, METRIC, float("nan"), 0, " ".join(str(error).split())


def _stage(folder: Path, manifest: Manifest, stage: str) -> Iterator[Finding]:
    import onnx

    recipe, table = read_recipe(folder / manifest.stages[stage].file), read_model(folder).stages[stage]
    words = about(folder / recipe.context)
    found = [problem] if (problem := recipe.chip.differs(words)) else []
    if recipe.chip != chip_of(manifest.target["device"]):
        found.append(f"it is for {recipe.chip.name}, which is not the target's")
    yield stage, METRIC, len(found), 1, "; ".join(found) or f"{words.split(':')[2]}, {recipe.chip.name}"
    graph = onnx.load(folder / recipe.context).graph
    yield stage, "ports", *wrong_ports(graph, recipe, table)


def described(manifest: Manifest, read_member: Callable[[str], bytes]) -> str:
    """Nothing beyond the notes of the stage."""
    return ""
