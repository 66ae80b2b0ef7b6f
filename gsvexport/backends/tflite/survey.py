"""The placement report of a stage from the files that a lowering wrote: its first part is for the Edge TPU."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gsvexport.backends.tflite import vela
from gsvexport.backends.tflite.edgetpu import compile_model, not_run
from gsvexport.backends.tflite.flatbuffer import load
from gsvexport.backends.tflite.graph import Graph
from gsvexport.backends.tflite.placement import macs, oldest_runtime, place
from gsvexport.backends.tflite.report import LARGEST, MEMBER, Report, Share
from gsvexport.backends.tflite.session import Part, read_recipe
from gsvexport.backends.tflite.table import table
from gsvexport.errors import ArtifactError
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
    graphs = [load(folder / part.file) for part in parts]
    tpu = device["tpu"]
    if lacks := [name for name in _NEEDED if tpu.get(name) is None]:
        raise ArtifactError(f"the target's TPU has no {', '.join(lacks)}", fix="build the artifact again")
    runtime = oldest_runtime(device.get("runtimes", {}).get("edgetpu", ""))
    placement = place(graphs[0], parts[0].file, tpu, runtime)
    rest = host_work(zip(parts, graphs, strict=True))
    return Report(stage, placement, rest, spoken(parts, rate), tpu["link"], not_run())


def host_work(parts: Iterable[tuple[Part, Graph]]) -> tuple[Share, ...]:
    """What the parts after the first compute, on the processor, for one window of the first.

    What windows share is left out: it is computed twice in every part.
    """
    (first, _), *after = parts
    found, frames = [], float(first.window * first.rate)  # of a part's input
    for part, graph in after:
        size = sum(tensor.bytes for tensor in graph.tensors if tensor.data is not None)
        work = frames / part.window * sum(macs(graph, one) for one in graph.operators)
        found.append(Share(part.file, round(work), size))
        frames *= part.rate
    return tuple(found)


def spoken(parts: Sequence[Part], rate: int) -> float:
    """Seconds of sound at `rate` Hz that are kept of what the first part's window gives."""
    first = parts[0]
    samples = math.prod(part.rate for part in parts)
    return round((first.window - first.left - first.right) * samples / rate, 6)


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
    if (folder / vela.MEMBER).is_file():
        found |= {vela.MEMBER, vela.read(folder).compiled}
    return found
