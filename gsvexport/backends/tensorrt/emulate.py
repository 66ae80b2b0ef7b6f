"""TensorRT's arithmetic on the processor that compiles, as far as it can be known: between two bounds.

What runs is the typed graph itself, with every FP16 value rounded (`passes/emulate_half.py`), in ONNX Runtime. It
proves the graph's precision, not an engine: kernels, fusions and speed are the device's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsvexport.backends import Opener, Session, open_session
from gsvexport.backends.tensorrt import plans
from gsvexport.backends.tensorrt.ports import graph_feeds, in_place_feeds, in_place_results, stage_results
from gsvexport.errors import BackendError, missing_package
from gsvexport.model import Dims, read_model

# What is emulated, as a report calls it: what sums inside a product are rounded to.
MODES = {"FP16 values with FP32 sums": "single", "FP16 values with FP16 sums": "half"}
REMAINS = "no engine has been run: gsvexport finalize builds and proves them on the device"  # what no emulation proves


def opener(mode: str, *, in_place: bool = False) -> Opener:
    """An `open_session` for one of `MODES`. A graph that runs two stages is loaded once.

    With `in_place`, T2S is the graph that writes its cache, where the artifact has it.
    """
    loaded: dict[Path, Any] = {}

    def opened(backend: str, folder: Path, file: str, *, threads: int | None = None) -> Session:
        if backend != "tensorrt":
            return open_session(backend, folder, file, threads=threads)
        path = folder / file
        if in_place and (other := _in_place_graph(folder, file)):
            path = folder / other
        if path not in loaded:
            loaded[path] = _load(path, MODES[mode], threads)
        return EmulatedSession(path, loaded[path], read_model(folder).dims)

    return opened


class EmulatedSession:
    """One graph; see `gsvexport.backends.Session`. Which of its stages is meant is told by the arrays."""

    def __init__(self, path: Path, session: Any, dims: Dims) -> None:
        self._path, self._session, self._dims = path, session, dims
        types = {"tensor(float16)": np.float16, "tensor(float)": np.float32, "tensor(int32)": np.int32}
        self._types = {port.name: types[port.type] for port in session.get_inputs()}
        # Of a cache [1, H, C, D/H] that the graph writes in place; 0: it only reads one.
        self._capacity = next((port.shape[2] for port in session.get_inputs() if port.name == "keys_0"), 0)

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Every output of the stage, by name."""
        stage = "prefill" if "prompt" in feeds else "step" if "token" in feeds else self._path.stem
        if self._capacity:
            given = in_place_feeds(stage, feeds, self._dims, self._capacity)
        else:
            given = graph_feeds(stage, feeds, self._dims)
        outputs = [port.name for port in self._session.get_outputs()]
        try:
            found = self._session.run(outputs, {name: given[name].astype(kind) for name, kind in self._types.items()})
        except Exception as error:  # the runtime's exceptions share no base class of their own
            raise BackendError(f"{self._path} cannot be emulated", problems=[str(error).strip()]) from error
        results = dict(zip(outputs, found, strict=True))
        if self._capacity:
            return in_place_results(stage, results, self._dims, given)
        return stage_results(stage, results)

    def close(self) -> None:
        """Nothing: the graph goes with the last session that uses it."""


def _in_place_graph(folder: Path, file: str) -> str:
    """The other form of a graph; empty where there is none."""
    entries = plans.read_recipe(folder)["engines"].values()
    forms = [entry.get("in_place") for entry in entries if entry["graph"] == file]
    return str(forms[0]["graph"]) if forms and forms[0] else ""


def _load(path: Path, accumulate: str, threads: int | None) -> Any:
    try:
        import onnx_ir as ir
        import onnxruntime

        from gsvexport.passes.base import run_passes
        from gsvexport.passes.emulate_half import EmulateHalf
        from gsvexport.passes.explicit_attention import ExplicitAttention
    except ImportError as error:
        raise missing_package(error.name or "onnx-ir", "emulating an artifact for TensorRT", "compile") from error
    graph = run_passes(ir.load(path), [ExplicitAttention(), EmulateHalf(accumulate)]).model  # type: ignore[arg-type]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    options.intra_op_num_threads = threads or 0
    data = ir.to_proto(ir.external_data.load_to_model(graph)).SerializeToString()
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
