"""The placement report of a stage from the files that a lowering wrote: its first part is for the Edge TPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gsvexport.backends.tflite.edgetpu import compile_model, not_run
from gsvexport.backends.tflite.flatbuffer import LARGEST_FILE, parse
from gsvexport.backends.tflite.graph import Graph
from gsvexport.backends.tflite.placement import macs, oldest_runtime, place
from gsvexport.backends.tflite.report import LARGEST, MEMBER, Report, Share
from gsvexport.backends.tflite.session import read_recipe
from gsvexport.backends.tflite.table import table
from gsvexport.errors import ArtifactError, BackendError
from gsvexport.untrusted import reading

BACKEND = "tflite"
_NEEDED = ("sram_mb", "tops_int8", "link", "link_gbs")


def survey(folder: Path, stage: str, recipe: str, device: Mapping[str, Any], rate: int) -> Report:
    """What an Edge TPU would run of the stage whose parts `recipe`, a file of `folder`, names; nothing is compiled.

    `device` has the target's `tpu` and `runtimes`; `rate` is that of the sound in Hz.

    Raises:
        BackendError: a part that cannot be read, or a runtime that nobody knows.
    """
    parts = read_recipe(folder / recipe)[2]
    graphs = [read_graph(folder / part.file) for part in parts]
    tpu = device["tpu"]
    if lacks := [name for name in _NEEDED if tpu.get(name) is None]:
        raise ArtifactError(f"the target's TPU has no {', '.join(lacks)}", fix="build the artifact again")
    runtime = oldest_runtime(device.get("runtimes", {}).get("edgetpu", ""))
    placement = place(graphs[0], parts[0].file, tpu, runtime)
    rest, frames = [], float(parts[0].window)  # frames of a part's input that the first part's window makes
    for index, (part, graph) in enumerate(zip(parts, graphs, strict=True)):
        if index:
            runs = frames / part.window  # what windows share is left out: it is computed twice in every part
            size = sum(tensor.bytes for tensor in graph.tensors if tensor.data is not None)
            rest.append(Share(part.file, round(runs * sum(macs(graph, one) for one in graph.operators)), size))
        frames *= part.rate
    kept = 1 - (parts[0].left + parts[0].right) / parts[0].window
    return Report(stage, placement, tuple(rest), round(kept * frames / rate, 6), tpu["link"], not_run())


def write(folder: Path, stage: str, recipe: str, device: Mapping[str, Any], rate: int) -> Report | None:
    """Survey a stage, compile it where the compiler is, and write both results to `folder`; None without a TPU."""
    if not device.get("tpu"):
        return None
    report = survey(folder, stage, recipe, device, rate)
    model = folder / report.placement.file
    report = replace(report, compile=compile_model(model, folder, report.placement))
    (folder / table().compiler.log.format(stem=model.stem)).unlink(missing_ok=True)
    (folder / MEMBER).write_bytes(report.text().encode())
    return report


def read(folder: Path) -> Report:
    """The report in an unpacked artifact.

    Raises:
        ArtifactError: there is none, or it cannot be read.
    """
    path = folder / MEMBER
    if not path.is_file():
        raise ArtifactError(f"{folder} holds no {MEMBER}", fix="build the artifact again")
    try:
        data = reading.read_bytes(path, LARGEST)
    except (OSError, reading.Refused) as error:
        raise ArtifactError(f"{path} {reading.why(error)}", fix="build the artifact again") from error
    return Report.from_bytes(data, str(path))


def members(folder: Path, recipe: str) -> set[str]:
    """Members of an unpacked artifact that a stage's recipe needs, and those of its placement."""
    found = {part.file for part in read_recipe(folder / recipe)[2]}
    if (folder / MEMBER).is_file():
        found |= {MEMBER, read(folder).compile.file} - {""}
    return found


def read_graph(path: Path) -> Graph:
    """The graph of a part.

    Raises:
        BackendError: it is missing, too large or damaged.
    """
    if not path.is_file() or path.stat().st_size > LARGEST_FILE:
        raise BackendError(f"{path} is missing or too large", limit=f"{LARGEST_FILE} bytes")
    return parse(path.read_bytes(), path.name)
