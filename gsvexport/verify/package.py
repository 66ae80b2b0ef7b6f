"""Level 0: is the package in order, before anything runs? Reads an unpacked artifact and the graphs' descriptions."""

from __future__ import annotations

import re
import socket
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from gsvexport.artifact import container
from gsvexport.artifact.manifest import MANIFEST, Decisions, Manifest, StageEntry
from gsvexport.backends import audit as audit_of
from gsvexport.backends import carriage
from gsvexport.model import Model, read_model
from gsvexport.stages import Port, Stage
from gsvexport.verify.cases import Case
from gsvexport.verify.gates import Gates, judge, not_run
from gsvexport.verify.golden import FOLDER, INDEX, index, lacking
from gsvexport.verify.report import Check

STAGE, ITSELF = "package", "itself"
# What nothing in a graph names, but the runtime, a person or the next build reads.
_KNOWN = ("model.json", "report.json", "calibration.json", "NOTICE", f"{FOLDER}/{INDEX}")
# Folders of a builder's machine. Names of nodes look like paths, too, but do not start like these.
_PATHS = re.compile(rb"(?:/(?:home|root|tmp|Users|mnt|var/folders)/|[A-Z]:\\\\?Users\\)[\w.\\/-]+|file://[\w./-]+")
_SHORTEST_HOST = 5  # letters; shorter names of machines are words, too
_SCANNED = 8 << 20  # bytes of a member that are searched: graphs and texts are smaller, weights are not searched
# ONNX element types, by how a weight is stored; integers of indices and zero points are no weights.
_KINDS = {1: "fp32", 10: "fp16", 16: "bf16", 2: "int8", 3: "int8", 21: "int4", 22: "int4"}
_STORED = {"fp32": ("fp32",), "fp16": ("fp16",), "int4-weights": ("int4",)}  # every other precision: int8
_CACHE = re.compile(r"(?:new_)?(?:keys|values)(?:_\d+)?|cached")  # a lowering may lay the cache out in its own way
_COMMON = {"cfm": ("known", "moment", "new_known", "new_moment")}  # what a lowering lets the steps of a sentence share
_MANY = 5  # findings that a reason lists
_SOME = 1e-4  # of the weights: the least that one group of layers is


def audit(folder: Path, gates: Gates) -> list[Check]:
    """Every check of level 0 of an unpacked artifact; empty for a source, which has no manifest.

    Raises:
        ArtifactError: the manifest or the model description cannot be read.
    """
    if not (folder / MANIFEST).is_file():
        return []
    manifest = container.read_manifest(folder)
    count = len(manifest.files)
    checks = [_faults(gates, STAGE, "members", container.differences(folder, manifest, hashes=True), count)]
    names = [name for name in (MANIFEST, *manifest.files) if not name.endswith((".npy", ".safetensors"))]
    known = {manifest.name, str(manifest.target.get("name")), str(manifest.target.get("title"))}
    found = [finding for name in names for finding in _local(folder / name, name, known)]
    checks.append(_faults(gates, STAGE, "machine_local", found, len(names)))
    for backend in sorted({entry.backend for entry in manifest.stages.values()}):
        if auditing := audit_of(backend):
            for stage, metric, value, number, why in auditing.audit(folder, manifest):
                judged = None if value is None else judge(gates, stage, metric, ITSELF, value, number, reason=why)
                checks.append(judged or not_run(gates, stage, metric, ITSELF, why))
    graphs, reason = _graphs(folder, manifest)
    stages = read_model(folder).stages
    if reason:
        checks.append(not_run(gates, STAGE, "unreferenced", ITSELF, reason))
        for stage in manifest.stages:
            for metric in ("ports", "external_data", "declared_precision"):
                checks.append(not_run(gates, stage, metric, ITSELF, reason))
        return checks
    checks.append(_faults(gates, STAGE, "unreferenced", _unreferenced(folder, manifest, graphs), count))
    for stage, graph in graphs.items():
        tensors, ports = list(_weights(graph)), (*graph.graph.input, *graph.graph.output)
        checks += [
            _faults(gates, stage, "ports", _wrong_ports(folder, manifest, graph, stages[stage]), len(ports)),
            _faults(gates, stage, "external_data", _external(folder, manifest, tensors), len(tensors)),
            _precision(gates, stage, graph, manifest.stages[stage]),
        ]
    return checks


def vectors(model: Model, cases: Sequence[Case], gates: Gates) -> list[Check]:
    """Whether every stage of an artifact has the golden vectors that it has to have."""
    missing = lacking(model, model.stages, cases)
    return [_faults(gates, stage, "golden_cases", found, len(cases)) for stage, found in missing.items()]


def _faults(gates: Gates, stage: str, metric: str, found: list[str], n: int) -> Check:
    shown = "; ".join(found[:_MANY]) + (f"; and {len(found) - _MANY} more" if len(found) > _MANY else "")
    return judge(gates, stage, metric, ITSELF, len(found), n, reason=shown)


def _graphs(folder: Path, manifest: Manifest) -> tuple[dict[str, Any], str]:
    """The graphs without their weights, by stage; or why they cannot be read."""
    try:
        import onnx
    except ImportError:
        return {}, "the package 'onnx' is not installed: pip install 'gsvexport[compile]'"
    files = {stage: folder / entry.file for stage, entry in manifest.stages.items() if entry.file.endswith(".onnx")}
    return {stage: onnx.load(path, load_external_data=False) for stage, path in files.items()}, ""


def _weights(graph: Any) -> Iterator[Any]:
    """Every stored tensor of a graph, of its subgraphs and of its functions' constants."""
    pending = [graph.graph]
    while pending:
        one = pending.pop()
        yield from one.initializer
        for node in one.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                pending += [attribute.g] if attribute.HasField("g") else []


def _wrong_ports(folder: Path, manifest: Manifest, graph: Any, stage: Stage) -> list[str]:
    """As `_ports`, or as the device was told where a backend gives its graphs ports of their own."""
    entry = manifest.stages[stage.name]
    offered = carriage(entry.backend)
    told = offered.ports(folder, entry.file) if offered else {}
    if not told:
        return _ports(graph, stage)
    import onnx

    found = {}
    for side, actual in (("inputs", graph.graph.input), ("outputs", graph.graph.output)):
        for port in actual:
            kind = onnx.helper.tensor_dtype_to_np_dtype(port.type.tensor_type.elem_type).name
            found[f"{side} {port.name}"] = kind
    wanted = {f"{side} {name}": kind for side, ports in told.items() for name, kind in ports.items()}
    names = sorted(found.keys() | wanted.keys())
    pairs = ((name, found.get(name), wanted.get(name)) for name in names)
    return [f"{name}: {have} instead of {want}" for name, have, want in pairs if have != want]


def _ports(graph: Any, stage: Stage) -> list[str]:
    """Inputs and outputs that differ from the stage table in name, type or fixed sizes."""
    found = []
    sides = (("input", graph.graph.input, stage.inputs), ("output", graph.graph.output, stage.outputs))
    for side, actual, wanted in sides:
        have = {port.name: port.type.tensor_type for port in actual}
        for port in wanted:
            if port.name in have:
                found += _differs(f"{side} {port.name}", port, have[port.name])
            elif not _laid_out(port, have):
                found.append(f"no {side} {port.name}")
        known = {port.name for port in wanted}
        known |= set(_COMMON.get(stage.name, ()))
        found += [f"{side} {name} is unknown" for name in have if name not in known and not _CACHE.fullmatch(name)]
    return found


def _laid_out(port: Port, have: Mapping[str, Any]) -> bool:
    """Whether a port is a part of the cache that is there in another layout."""
    kind = port.name.removeprefix("new_")
    return _CACHE.fullmatch(port.name) is not None and any(kind in name for name in have)


def _differs(what: str, port: Port, tensor: Any) -> list[str]:
    import onnx

    kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    sizes = [axis.dim_value if axis.HasField("dim_value") else None for axis in tensor.shape.dim]
    found = [] if kind == port.dtype else [f"{what} is {kind} instead of {port.dtype}"]
    fixed = [size if isinstance(size, int) else None for size in port.shape]
    fits = len(sizes) == len(fixed) and all(
        None in (size, wish) or size == wish for size, wish in zip(sizes, fixed, strict=True)
    )
    return found if fits else [*found, f"{what} has shape {sizes} instead of {list(port.shape)}"]


def _external(folder: Path, manifest: Manifest, tensors: list[Any]) -> list[str]:
    """Tensors whose bytes are not inside a member."""
    found = []
    for tensor in tensors:
        if not (place := _place(tensor)):
            continue
        name, start, length = place.get("location", ""), int(place.get("offset", 0)), int(place.get("length", 0))
        if name not in manifest.members:
            found.append(f"{tensor.name}: {name!r} is no member")
        elif length < 1 or start < 0 or start + length > (folder / name).stat().st_size:
            found.append(f"{tensor.name}: bytes {start} to {start + length} are not in {name}")
    return found


def _place(tensor: Any) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def _precision(gates: Gates, stage: str, graph: Any, entry: StageEntry) -> Check:
    """How many of the weights, by count, are stored as the stage's precision says.

    Where measurement decided which layers keep to it, that is told, and no more asked for than that some do, if it said
    so.
    """
    packed = {
        name: "int4" if attribute.i == 4 else "int8"
        for node in graph.graph.node
        if node.op_type == "MatMulNBits"
        for attribute in node.attribute
        if attribute.name == "bits"
        for name in node.input[1:2]
    }
    counted: Counter[str] = Counter()
    for tensor in _weights(graph):
        kind = packed.get(tensor.name, _KINDS.get(tensor.data_type))
        if kind is not None:
            size = 1
            for axis in tensor.dims:
                size *= axis
            counted[kind] += size * (2 if packed.get(tensor.name) == "int4" else 1)  # two to a byte
    total = sum(counted.values())
    stored = sum(counted[kind] for kind in _STORED.get(entry.precision, ("int8",)))
    text = f"{entry.precision}: " + ", ".join(f"{count} {kind}" for kind, count in sorted(counted.items()))
    if entry.decisions is not None:
        some = any(group.precision != "float" for group in entry.decisions.groups)
        gates = Gates({(stage, "declared_precision"): _SOME} if some else {})
        text = f"{text}; measured: {_decided(entry.decisions)}"
    return judge(gates, stage, "declared_precision", ITSELF, stored / total if total else 1.0, total, reason=text)


def _decided(decisions: Decisions) -> str:
    """Which groups of layers ended in which precision."""
    kinds = dict.fromkeys(group.precision for group in decisions.groups)
    return "; ".join(
        f"{', '.join(group.name for group in decisions.groups if group.precision == kind)} {kind}" for kind in kinds
    )


def _unreferenced(folder: Path, manifest: Manifest, graphs: Mapping[str, Any]) -> list[str]:
    model = read_model(folder)
    used = {*_KNOWN, *(entry.file for entry in manifest.stages.values()), *model.baked.values()}
    used |= {model.vocabulary} if model.vocabulary else set()
    used |= {_place(tensor).get("location", "") for graph in graphs.values() for tensor in _weights(graph)}
    for backend in {entry.backend for entry in manifest.stages.values()}:
        if offered := carriage(backend):
            used |= {*offered.carried(), *offered.reads(folder)}
    if (folder / FOLDER / INDEX).is_file():
        used |= {f"{FOLDER}/{name}" for name in index(folder / FOLDER)["files"]}
    return [name for name in manifest.files if name not in used]


def _local(path: Path, name: str, known: set[str]) -> list[str]:
    """What in a member names the machine that built it."""
    if not path.is_file():
        return []
    with open(path, "rb") as stream:
        data = stream.read(_SCANNED)
    found = [f"{name}: {match.group().decode(errors='replace')[:80]}" for match in _PATHS.finditer(data)]
    host = _host()
    if host and not any(host in text for text in known) and re.search(rb"\b" + re.escape(host.encode()) + rb"\b", data):
        found.append(f"{name}: the name of this machine, {host}")
    return found


@cache
def _host() -> str:
    name = socket.gethostname().partition(".")[0]
    return name if len(name) >= _SHORTEST_HOST and name != "localhost" else ""
