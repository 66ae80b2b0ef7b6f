"""Lowering for ONNX Runtime. FP32 so far: each stage's graph as the source has it, with just the weights it needs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsvexport.errors import BackendError, missing_package
from gsvexport.model import Model

if TYPE_CHECKING:
    import onnx

PRECISIONS = ("fp32",)
PORTABILITY = "portable"  # one artifact for every device that its runtime supports
TOOLS = ("onnx",)  # distributions whose version may change what is written

_COPY = 1 << 22


def lower(source: Path, model: Model, placement: Mapping[str, str], out: Path) -> dict[str, tuple[str, ...]]:
    """Write the stages of `placement` (stage -> precision) from the folder of a source to `out`.

    Weights that several stages share stay in one file, once; tensors that no placed stage uses are left behind and the
    graphs' offsets follow.

    Returns:
        What was done, by stage.

    Raises:
        BackendError: a precision that is not in `PRECISIONS`, or a graph whose weights are not where it says.
    """
    if wrong := {stage: precision for stage, precision in placement.items() if precision not in PRECISIONS}:
        raise BackendError("backend onnxruntime cannot lower these stages", found=wrong, limit=", ".join(PRECISIONS))
    try:
        import onnx
    except ImportError:
        raise missing_package("onnx", "building an artifact", "compile") from None
    graphs = {stage: onnx.load(source / model.files[stage], load_external_data=False) for stage in placement}
    used: dict[str, set[tuple[int, int]]] = {}
    for stage, graph in graphs.items():
        for tensor in external_tensors(graph):
            file, offset, length = _location(tensor, stage)
            used.setdefault(file, set()).add((offset, length))
    moved = {file: _subset(source / file, spans, out / file) for file, spans in used.items()}
    notes: dict[str, tuple[str, ...]] = {}
    for stage, graph in graphs.items():
        tensors = list(external_tensors(graph))
        for tensor in tensors:
            file, offset, _ = _location(tensor, stage)
            _set(tensor, "offset", str(moved[file][offset]))
        size = sum(_location(tensor, stage)[2] for tensor in tensors)
        (out / model.files[stage]).write_bytes(graph.SerializeToString(deterministic=True))
        notes[stage] = (f"fp32: the source's graph, unchanged; {len(tensors)} weights, {size} bytes, by offset",)
    return notes


def external_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of a model, its subgraphs included, whose data lies in another file."""
    pending = [model.graph]
    while pending:
        graph = pending.pop()
        tensors = list(graph.initializer)
        for node in graph.node:
            for attribute in node.attribute:
                tensors += [*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors]
                pending += [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]
        yield from (tensor for tensor in tensors if tensor.data_location == tensor.EXTERNAL)


def _location(tensor: onnx.TensorProto, stage: str) -> tuple[str, int, int]:
    """File, offset and length in bytes of an external tensor."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    try:
        return entries["location"], int(entries["offset"]), int(entries["length"])
    except (KeyError, ValueError) as error:
        raise BackendError(f"stage {stage}: weight {tensor.name} does not say where its data lies: {error}") from error


def _set(tensor: onnx.TensorProto, key: str, value: str) -> None:
    for entry in tensor.external_data:
        if entry.key == key:
            entry.value = value


def _subset(source: Path, spans: set[tuple[int, int]], out: Path) -> dict[int, int]:
    """Copy the tensors of a safetensors file that lie at `spans` (offset, bytes); returns old offset -> new offset."""
    with open(source, "rb") as stream:
        header_size = int.from_bytes(stream.read(8), "little")
        header: dict[str, Any] = json.loads(stream.read(header_size))
    start = 8 + header_size
    entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
    places = {name: (start + entry["data_offsets"][0], _size(entry)) for name, entry in entries.items()}
    if strays := spans - set(places.values()):
        raise BackendError(f"{source} holds no tensors where the graphs look for them", found=sorted(strays)[:5])
    if spans == set(places.values()):
        shutil.copyfile(source, out)
        return {offset: offset for offset, _ in spans}
    kept = sorted((place, name) for name, place in places.items() if place in spans)
    new_header, position = {}, 0
    for (_, size), name in kept:
        new_header[name] = {**entries[name], "data_offsets": [position, position + size]}
        position += size
    text = json.dumps(new_header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # as safetensors writes it: data is aligned to 8 bytes
    moved = {}
    with open(source, "rb") as stream, open(out, "wb") as target:
        target.write(len(text).to_bytes(8, "little") + text)
        for (offset, size), _ in kept:
            moved[offset] = target.tell()
            stream.seek(offset)
            while size:
                chunk = stream.read(min(_COPY, size))
                if not chunk:
                    raise BackendError(f"{source} ends within a tensor")
                size -= target.write(chunk)
    return moved


def _size(entry: Mapping[str, Any]) -> int:
    begin, end = entry["data_offsets"]
    return int(end - begin)
