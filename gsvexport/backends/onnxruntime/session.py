"""Opens a stage's graph in ONNX Runtime, on the processor."""

from __future__ import annotations

import functools
import os
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gsvexport.artifact.held import release
from gsvexport.backends.onnxruntime import exact, optimised
from gsvexport.backends.onnxruntime.graph import OnnxRuntimeSession, failure
from gsvexport.backends.onnxruntime.in_place import InPlaceStep, LayeredPrefill
from gsvexport.backends.onnxruntime.matching import MatchingStep
from gsvexport.errors import ArtifactError, EnvironmentProblem
from gsvexport.untrusted.external import NoGraph, check_external_once
from gsvexport.untrusted.reading import Refused

_ERRORS_ONLY = 3
_PLAIN: Mapping[str, str] = {}
# An ONNX graph, opset 13: b = Identity(a), both float32 [1].
_IDENTITY = (
    b'\x08\x08:7\n\x10\n\x01a\x12\x01b"\x08Identity\x12\x01gZ\x0f\n\x01a\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01'
    b"b\x0f\n\x01b\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)


def open_session(path: Path, *, threads: int | None = None) -> OnnxRuntimeSession:
    """Load one `.onnx` file; see `gsvexport.backends.open_session`."""
    session, folder = _load(path, threads)
    ports = {port.name for port in (*session.get_inputs(), *session.get_outputs())}
    kind: type[OnnxRuntimeSession] = OnnxRuntimeSession
    if "cached" in ports:
        kind = InPlaceStep
    elif "new_moment" in ports:
        kind = MatchingStep
    elif "new_keys_0" in ports:
        kind = LayeredPrefill
    opened = kind(path, session)
    if folder is not None:
        weakref.finalize(opened, release, folder)
        if isinstance(opened, InPlaceStep):
            opened.content = folder.name
    return opened


def _load(path: Path, threads: int | None) -> tuple[Any, Path | None]:
    """A session, and the folder of the cache that it was opened from, which is held."""
    try:
        import onnxruntime
    except ImportError as error:
        raise EnvironmentProblem(
            f"{path.name} runs in ONNX Runtime, which cannot be imported: {error}", fix="pip install onnxruntime"
        ) from error
    try:
        check_external_once(path)
        minds = exact.minds(path)
    except (OSError, NoGraph) as error:
        raise failure(path, "load", error) from error
    except Refused as error:
        raise ArtifactError(f"{path} {error}", fix="get it again, or build it again") from error

    def make(
        graph: Path | bytes, entries: Mapping[str, str] = _PLAIN, saved: str | None = None, *, ready: bool = False
    ) -> Any:
        options = _options(threads, entries)
        if ready:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        if saved is not None:
            options.optimized_model_filepath = saved
        # A path, not bytes: external data is then found beside the graph and mapped instead of read.
        given = graph if isinstance(graph, bytes) else str(graph)
        return onnxruntime.InferenceSession(given, sess_options=options, providers=["CPUExecutionProvider"])

    other = exact.form(path) if minds else None
    try:
        if other is not None:
            return make(other), None
        found = optimised.open_kept(path, make)
        return found if found is not None else (make(path), None)
    except Exception as error:  # the runtime's exceptions share no base class of their own
        raise failure(path, "load", error) from error


def _options(threads: int | None, entries: Mapping[str, str]) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    # 0: as many as there are cores; more than those only wait for each other.
    options.intra_op_num_threads = min(threads or 0, os.cpu_count() or 1)
    options.inter_op_num_threads = 1
    # The threads of one stage would go on spinning, and take the cores from the stage that follows.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # One arena for the stages of a process, which run one after another, and no plan of it for each length that was
    # ever spoken: a full-size voice peaks at 423 MB, not 601, as fast.
    _share_arena()
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.enable_mem_pattern = False
    for name, value in entries.items():
        options.add_session_config_entry(name, value)
    return options


def give_back() -> None:
    """Let go of what the arena of this process holds and nothing uses: it keeps what the longest sentence took."""
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    _nothing().run(None, {"a": np.zeros(1, np.float32)}, options)


@functools.cache
def _nothing() -> Any:
    """A session of a graph that does nothing, in the arena of all: only a run can ask for it to shrink."""
    import onnxruntime

    return onnxruntime.InferenceSession(_IDENTITY, sess_options=_options(1, _PLAIN), providers=["CPUExecutionProvider"])


@functools.cache
def _share_arena() -> None:
    """Make the arena of this process. Once: a second one would take the first one's place for sessions to come."""
    import onnxruntime

    kind, place = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, onnxruntime.OrtMemType.DEFAULT
    onnxruntime.create_and_register_allocator(onnxruntime.OrtMemoryInfo("Cpu", kind, 0, place), None)
