"""What an artifact's compiled files are, and what of them runs on the NPU: read from the files and held against what
the artifact says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from gsvexport.artifact.manifest import Manifest
from gsvexport.backends.rknn.about import differs
from gsvexport.backends.rknn.chips import chip_of
from gsvexport.backends.rknn.placement import parse
from gsvexport.backends.rknn.recipe import read_recipe
from gsvexport.errors import ArtifactError, BackendError
from gsvexport.model import read_model
from gsvexport.npu.ports import wrong_ports
from gsvexport.untrusted.reading import read_bytes

METRICS = ("other_context", "mapped_share", "ports")
Finding = tuple[str, str, float | None, int, str]
_LARGEST = 4 << 20


def audit(folder: Path, manifest: Manifest) -> Iterator[Finding]:
    """(stage, metric, value, how many, reason): `other_context`, how many things the file is not that its recipe or the
    target says; `mapped_share`, which share of the multiply-adds is on the NPU; `ports` that are not the stage table's.
    The value is NaN where something cannot be read, and None where `onnx` is missing to read it.
    """
    for stage, entry in manifest.stages.items():
        if entry.backend != "rknn":
            continue
        try:
            yield from _stage(folder, manifest, stage)
        except ImportError:
            yield stage, "ports", None, 0, "the package 'onnx' is not installed: pip install 'gsvexport[compile]'"
        except (OSError, ValueError, ArtifactError, BackendError) as error:
            yield stage, METRICS[0], float("nan"), 0, " ".join(str(error).split())


def described(manifest: Manifest, read_member: Callable[[str], bytes]) -> str:
    """What runs where, as text.

    Raises:
        ArtifactError: it cannot be read.
    """
    names = [f"{stage}-placement.json" for stage, entry in manifest.stages.items() if entry.backend == "rknn"]
    return "".join(parse(read_member(name), name).page() for name in names if name in manifest.members)


def _stage(folder: Path, manifest: Manifest, stage: str) -> Iterator[Finding]:
    import onnx

    recipe, table = read_recipe(folder / manifest.stages[stage].file), read_model(folder).stages[stage]
    placed = parse(read_bytes(folder / recipe.placement, _LARGEST), recipe.placement)
    found = [problem] if (problem := differs(folder / recipe.model, recipe.chip)) else []
    if recipe.chip != chip_of(manifest.target["device"]):
        found.append(f"it is for {recipe.chip}, which is not the target's")
    if placed.chip != recipe.chip:
        found.append(f"{recipe.placement} is of the {placed.chip}")
    yield stage, METRICS[0], len(found), 1, "; ".join(found) or f"{recipe.toolkit}, {recipe.chip}"
    words = f"{placed.words}, as {placed.toolkit} says"
    yield stage, METRICS[1], placed.mapped_share, len(placed.operators), words
    try:
        graph = onnx.load(folder / recipe.graph, load_external_data=False).graph
    except Exception as error:  # protobuf's exceptions
        raise ArtifactError(f"{recipe.graph} cannot be read as ONNX") from error
    yield stage, METRICS[2], *wrong_ports(graph, recipe, table)
