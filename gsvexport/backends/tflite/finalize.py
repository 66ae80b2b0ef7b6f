"""`gsvexport finalize` of an artifact for an Edge TPU: add what edgetpu_compiler makes of it.

Such an artifact runs as it is, on the processor alone. With the compiled file in it, the same artifact runs on the Edge
TPU. The compiler needs an x86-64 host, so that host, not the device, is where this is done; or its output is carried.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from gsvexport.backends.tflite import edgetpu
from gsvexport.backends.tflite.report import DONE, MEMBER, NOT_RUN, page
from gsvexport.backends.tflite.survey import BACKEND, members, read
from gsvexport.backends.tflite.table import table
from gsvexport.errors import BackendError, EnvironmentProblem
from gsvexport.untrusted.reading import read_json


def carried() -> dict[str, Path]:
    """An artifact needs nothing of this package."""
    return {}


def reads(folder: Path) -> set[str]:
    """Members that the recipes of this backend's stages name, and those of the placement."""
    stages = read_json(folder / "manifest.json")["stages"].values()
    return {name for entry in stages if entry["backend"] == BACKEND for name in members(folder, entry["file"])}


def ports(folder: Path, graph: str) -> dict[str, dict[str, str]]:
    """Its graphs are no ONNX: see `gsvexport.backends.declaration.Carriage`."""
    return {}


def complete(folder: Path, work: Path, compiled: Path | None, say: Callable[[str], None]) -> dict[str, Any]:
    """Write to the empty folder `work` the members that the unpacked artifact in `folder` gains or changes.

    They are `placement.json` and the compiled file: made here, or `compiled`, which was made elsewhere. Returns the
    placement report as plain data.

    Raises:
        EnvironmentProblem: no compiler, and no file.
        BackendError: the compiler failed, or the file was not made of this artifact.
    """
    report = read(folder)
    model = folder / report.placement.file
    if compiled is None:
        say(f"compiling {model.name}")
        done = edgetpu.compile_model(model, work, report.placement)
        if done.status == NOT_RUN:
            fix = "run it on x86-64 Linux with the compiler, or pass its output with --compiled FILE"
            raise EnvironmentProblem(f"{table().compiler.name} is not on PATH", fix=fix)
        if done.status != DONE:
            raise BackendError("the Edge TPU's compiler failed", problems=[done.reason])
    else:
        say(f"checking {compiled}")
        done = edgetpu.carried(model, compiled)
        name = table().compiler.output.format(stem=model.stem)
        shutil.copyfile(compiled, work / name)
        done = replace(done, file=name)
    for log in work.glob("*.log"):
        log.unlink()
    report = replace(report, compile=done)
    (work / MEMBER).write_bytes(report.text().encode())
    return {**report.to_json(), "page": page(report)}


def summary(report: dict[str, Any]) -> str:
    """The report as text."""
    return str(report["page"]).rstrip()


def how_to_send(path: Path) -> str:
    """What to do with the finished artifact."""
    return (
        f"{path}\nCopy it to the device: with an Edge TPU's runtime there, it runs on the TPU, else on the processor."
    )
