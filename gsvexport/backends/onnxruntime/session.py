"""Runs a stage with ONNX Runtime on the processor."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from gsvexport.errors import ArtifactError, BackendError, EnvironmentProblem
from gsvexport.untrusted.external import NoGraph, check_external
from gsvexport.untrusted.reading import Refused

_ERRORS_ONLY = 3


class OnnxRuntimeSession:
    """One graph in ONNX Runtime; see `gsvexport.backends.Session`."""

    def __init__(self, path: Path, session: Any) -> None:
        self._path, self._session = path, session
        self._outputs = [output.name for output in session.get_outputs()]

    def shape(self, port: str, *, output: bool = False) -> list[int | str]:
        """The declared shape of an input, or of an output; a free axis is a name."""
        ports = self._session.get_outputs() if output else self._session.get_inputs()
        found: list[int | str] = next(item.shape for item in ports if item.name == port)
        return found

    def bind(self, inputs: Mapping[str, NDArray[Any]], outputs: Mapping[str, NDArray[Any]]) -> Any:
        """Tie arrays to ports for many runs, which use the arrays' own memory; the caller keeps them alive."""
        import onnxruntime

        binding = self._session.io_binding()
        for name, array in inputs.items():
            binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        for name, array in outputs.items():
            binding.bind_ortvalue_output(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        return binding

    def run_bound(self, binding: Any) -> None:
        """Run on the arrays of a `bind`."""
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:  # the runtime's exceptions share no base class of their own
            raise _failure(self._path, "run", error) from error

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Every output by name. Arrays are handed over as they are: callers check them."""
        if self._session is None:
            raise BackendError(f"{self._path} was closed", fix="load the voice again")
        try:
            values = self._session.run(self._outputs, dict(feeds))
        except Exception as error:  # the runtime's exceptions share no base class of their own
            raise _failure(self._path, "run", error, feeds) from error
        return dict(zip(self._outputs, values, strict=True))

    def close(self) -> None:
        """Free the graph's memory."""
        self._session = None


def open_session(path: Path, *, threads: int | None = None) -> OnnxRuntimeSession:
    """Load one `.onnx` file; see `gsvexport.backends.open_session`."""
    from gsvexport.backends.onnxruntime.in_place import InPlaceStep, LayeredPrefill

    session = _load(path, threads)
    ports = {port.name for port in (*session.get_inputs(), *session.get_outputs())}
    if "cached" in ports:
        return InPlaceStep(path, session)
    return (LayeredPrefill if "new_keys_0" in ports else OnnxRuntimeSession)(path, session)


def _load(path: Path, threads: int | None) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise EnvironmentProblem(
            f"{path.name} runs in ONNX Runtime, which cannot be imported: {error}", fix="pip install onnxruntime"
        ) from error
    try:
        check_external(path)
    except (OSError, NoGraph) as error:
        raise _failure(path, "load", error) from error
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
        raise _failure(path, "load", error) from error


@functools.cache
def _share_arena() -> None:
    """Make the arena of this process. Once: a second one would take the first one's place for sessions to come."""
    import onnxruntime

    kind, place = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, onnxruntime.OrtMemType.DEFAULT
    onnxruntime.create_and_register_allocator(onnxruntime.OrtMemoryInfo("Cpu", kind, 0, place), None)


def _failure(path: Path, doing: str, error: Exception, feeds: Mapping[str, NDArray[Any]] | None = None) -> BackendError:
    shapes = [f"{name} {array.dtype} {list(array.shape)}" for name, array in (feeds or {}).items()]
    return BackendError(
        f"stage '{path.stem}': ONNX Runtime cannot {doing} {path}",
        problems=[str(error).strip()],
        found="; ".join(shapes) or None,
    )
