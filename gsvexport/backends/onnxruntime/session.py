"""Opens a stage's graph in ONNX Runtime, on the processor."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

from gsvexport.backends.onnxruntime.graph import OnnxRuntimeSession, failure
from gsvexport.backends.onnxruntime.in_place import InPlaceStep, LayeredPrefill
from gsvexport.backends.onnxruntime.matching import MatchingStep
from gsvexport.errors import ArtifactError, EnvironmentProblem
from gsvexport.untrusted.external import NoGraph, check_external_once
from gsvexport.untrusted.reading import Refused

_ERRORS_ONLY = 3


def open_session(path: Path, *, threads: int | None = None) -> OnnxRuntimeSession:
    """Load one `.onnx` file; see `gsvexport.backends.open_session`."""
    session = _load(path, threads)
    ports = {port.name for port in (*session.get_inputs(), *session.get_outputs())}
    if "cached" in ports:
        return InPlaceStep(path, session)
    if "new_moment" in ports:
        return MatchingStep(path, session)
    return (LayeredPrefill if "new_keys_0" in ports else OnnxRuntimeSession)(path, session)


def _load(path: Path, threads: int | None) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise EnvironmentProblem(
            f"{path.name} runs in ONNX Runtime, which cannot be imported: {error}", fix="pip install onnxruntime"
        ) from error
    try:
        check_external_once(path)
    except (OSError, NoGraph) as error:
        raise failure(path, "load", error) from error
    except Refused as error:
        raise ArtifactError(f"{path} {error}", fix="get it again, or build it again") from error
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
    try:
        # A path, not bytes: external data is then found beside the graph and mapped instead of read.
        return onnxruntime.InferenceSession(str(path), sess_options=options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's exceptions share no base class of their own
        raise failure(path, "load", error) from error


@functools.cache
def _share_arena() -> None:
    """Make the arena of this process. Once: a second one would take the first one's place for sessions to come."""
    import onnxruntime

    kind, place = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, onnxruntime.OrtMemType.DEFAULT
    onnxruntime.create_and_register_allocator(onnxruntime.OrtMemoryInfo("Cpu", kind, 0, place), None)
