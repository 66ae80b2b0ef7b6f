"""What NVIDIA's builder makes of the graphs of a voice, as a table; no GPU is needed, and nothing is verified.

    python -m gsvexport.bench.nvidia PATH [--target NAME]

PATH is an unpacked artifact, or a voice, which is lowered for the target as if no value came near FP16's end. Exit code
1: a graph was refused.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gsvexport.backends.tensorrt import compiled, plans, rtx
from gsvexport.errors import EnvironmentProblem, GsvError
from gsvexport.files import sha256_file

_COLUMNS = (
    "{graph:18}{layers:7}{kernels:8}{step:>6}{half:6.2f}{scratch:9.1f}{weights:9.1f}{plan:8.1f}{cpu:7.1f}{peak:8.0f}"
    "  {said}"
)
_HEADER = "graph              layers kernels  step  fp16  scratch  weights    plan  cpu s peak MB"


class _Unmeasured:
    """A calibration that heard nothing."""

    def feeds(self, stage: str) -> Sequence[Mapping[str, Any]]:
        return ()

    def peaks(self, model: Any, feeds: Any) -> dict[str, float]:
        return {}


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--target", default="jetson-orin", help="a device; default: jetson-orin")
    options = parser.parse_args()
    try:
        if problem := rtx.installed()[1]:
            raise EnvironmentProblem("NVIDIA's builder cannot be asked", problems=[problem])
        if (options.path / plans.RECIPE).is_file():
            return _table(options.path)
        with tempfile.TemporaryDirectory() as folder:
            _lower(options.path, options.target, Path(folder))
            return _table(Path(folder))
    except GsvError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code


def _lower(path: Path, name: str, out: Path) -> None:
    """Write what the stages of a voice are for a target, and what is needed to compile them, to `out`."""
    from gsvexport.backends.tensorrt.lower import lower
    from gsvexport.compiler.build import source_of
    from gsvexport.compiler.plan import Subject
    from gsvexport.compiler.store import Store
    from gsvexport.target.target import read_target

    say = lambda text: print(text, file=sys.stderr)  # noqa: E731, T201
    target, source = read_target(name), source_of(path, Store(note=say), say)
    every = Subject("source", source.model.name, source.model.version, bool(source.model.baked), source.digest)
    placement = {stage: target.place(stage).precision for stage in every.stages(target)}
    device = {**asdict(target.device), "limits": asdict(target.limits)}
    lower(source.path, source.model, placement, out, device=device, calibration=_Unmeasured())  # type: ignore[arg-type]


def _table(folder: Path) -> int:
    refused = 0
    print(_HEADER)  # noqa: T201
    for form in compiled.forms(plans.read_recipe(folder)):
        files = [form.graph, *(path.name for path in folder.glob("*.safetensors"))]
        hashes = {name: sha256_file(folder / name) for name in files}
        with tempfile.TemporaryDirectory() as work:
            began = time.monotonic()
            verdict = compiled.verdict_of(folder, form, hashes, rtx.installed()[0], _always(Path(work)), lambda _: None)
        told = verdict.get("engine") or {}
        kernels = told.get("kernels", {})
        refused += bool(verdict["refused"])
        row = {
            "graph": form.graph,
            "layers": verdict.get("layers", 0),
            "kernels": told.get("kernels_of_all", 0),
            "step": max((count for name, count in kernels.items() if name.startswith("step")), default="-"),
            "half": told.get("half_share", 0.0),
            "scratch": max(told.get("scratch", {"": 0}).values()) / 1e6,
            "weights": told.get("weights", 0) / 1e6,
            "plan": verdict.get("plan", 0) / 1e6,
            "cpu": verdict.get("cpu", 0.0),
            "peak": verdict.get("peak_mb", 0.0),
            "said": verdict["refused"] or "; ".join(f"not {name}: {why}" for name, why in verdict["without"].items()),
        }
        print(_COLUMNS.format(**row), f"({time.monotonic() - began:.0f} s)", flush=True)  # noqa: T201
    return 1 if refused else 0


def _always(work: Path) -> Any:
    """Nothing is kept: a table is for looking at what happens now."""

    def keep(key: str, make: Any, label: str) -> Path:
        make(work)
        return work

    return keep


if __name__ == "__main__":
    sys.exit(main())
