"""The compiler, measured: its time, and the most memory that its process held. Runs in a child process."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from gsvexport.bench.child import memory


def source(voice: str, out: str, threads: int) -> dict[str, Any]:
    """Write the ONNX source of `voice` to `out`."""
    from gsvexport.compiler.inputs import export_source

    start = time.perf_counter()
    written = export_source(Path(voice), Path(out))
    return {"path": str(written.path), **_spent(start)}


def build(voice: str, target: str, out: str, threads: int) -> dict[str, Any]:
    """Compile and verify `voice` for one target; the artifact goes to `out`."""
    from gsvexport.compiler.build import build as make

    start = time.perf_counter()
    [path] = make(voice, target, out)
    return {"path": str(path), **_spent(start)}


def _spent(start: float) -> dict[str, Any]:
    """Time since `start`; processor time of all threads, which a busy machine makes no longer; and memory."""
    return {"seconds": time.perf_counter() - start, "processor_seconds": time.process_time(), **memory()}
