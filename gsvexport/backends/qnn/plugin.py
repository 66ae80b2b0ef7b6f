"""Qualcomm's provider for ONNX Runtime, the package onnxruntime-qnn: on x86-64 it compiles for every chip and emulates
it, on a Snapdragon it runs on the NPU. QAIRT, which does both, is inside that package under Qualcomm's licence; nothing
of it is here."""

from __future__ import annotations

import functools
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gsvexport.artifact.tools import other_release
from gsvexport.backends.qnn import BACKEND
from gsvexport.errors import EnvironmentProblem

PACKAGE, PROVIDER = "onnxruntime-qnn", "QNNExecutionProvider"
KNOWN = (2, 7)  # the release whose faults are known; a context of a newer one may not open in an older one
_ERRORS_ONLY = 3


def emulates() -> bool:
    """Whether the package emulates an NPU on this machine: there is none beside an x86-64 processor."""
    return platform.machine().lower() in ("x86_64", "amd64")


def missing() -> str:
    """Why the package cannot be used, in words; empty where it can."""
    return other_release(PACKAGE, KNOWN)


@functools.cache
def device() -> Any:
    """The provider's device, registered once in a process.

    Raises:
        EnvironmentProblem: the package is absent or of another release, or does not load here.
    """
    fix = BACKEND.needs["session"].fix
    if problem := missing():
        raise EnvironmentProblem(problem, fix=fix)
    try:
        import onnxruntime
        import onnxruntime_qnn

        onnxruntime.register_execution_provider_library(PROVIDER, onnxruntime_qnn.get_library_path())
        return next(one for one in onnxruntime.get_ep_devices() if one.ep_name == PROVIDER)
    except (ImportError, AttributeError, StopIteration) as error:
        raise EnvironmentProblem(f"{PACKAGE} does not load: {error}", fix=fix) from error
    except Exception as error:  # the runtime's exceptions share no base class of their own
        raise EnvironmentProblem(f"{PACKAGE} does not load", problems=[str(error).strip()], fix=fix) from error


def open_graph(path: Path, options: Mapping[str, str], config: Mapping[str, str], on: Any) -> Any:
    """A session of ONNX Runtime `on` the provider's device, which takes every node; what goes wrong raises what ONNX
    Runtime raises."""
    import onnxruntime
    import onnxruntime_qnn

    chosen = onnxruntime.SessionOptions()
    chosen.log_severity_level = _ERRORS_ONLY
    chosen.add_provider_for_devices([on], {"backend_path": onnxruntime_qnn.get_qnn_htp_path(), **options})
    for key, value in {"session.disable_cpu_ep_fallback": "1", **config}.items():
        chosen.add_session_config_entry(key, value)
    return onnxruntime.InferenceSession(str(path), chosen)


def compile_graph(graph: Path, context: Path, options: Mapping[str, str]) -> None:
    """Write the context of `graph` for the chip of `options`: an ONNX file with one node, everything inside."""
    only = {"htp_graph_finalization_optimization_mode": "3", "enable_htp_prepare_only": "1"}
    config = {"ep.context_enable": "1", "ep.context_file_path": str(context), "ep.context_embed_mode": "1"}
    open_graph(graph, {**options, **only}, config, device())
