"""What the machine is, and what it could do at best: memory bandwidth and matrix products, measured."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gsvexport.artifact.tools import tool_version
from gsvexport.target.machine import CPUINFO, this_machine

_BOARD = Path("/proc/device-tree/model")
_BYTES = 256 << 20  # of each array that is streamed: far more than a cache holds
_SIDE = 1024  # of the square matrices: large enough for a kernel's peak, small enough for a small device
_REPEAT = 8  # measurements of each kind in one process


def describe() -> dict[str, Any]:
    """The processor, its features and cores, the versions of what runs here, and how busy the machine is just now."""
    machine = this_machine()
    cores = os.cpu_count() or 1
    if sys.platform == "linux" and hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    return {
        "cpu": _model() or platform.processor() or platform.machine(),
        "arch": machine.arch,
        "features": list(machine.features or ()),
        "cores": cores,
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": platform.system(),
        "python": platform.python_version(),
        **{package: tool_version(package) for package in ("gsvexport", "numpy", "onnxruntime")},
    }


def limits(threads: int) -> dict[str, Any]:
    """Measured bandwidth in GB/s and products in GMAC/s (10^9 multiply-adds a second), as lists of single measurements.

    Kinds that need the package `onnx` are absent without it.
    """
    import numpy as np

    found = _bandwidth(threads)
    square = np.random.Generator(np.random.PCG64(0)).standard_normal((_SIDE, _SIDE), np.float32)
    found["gemm_numpy_gmacs"] = _rates(lambda: square @ square, _SIDE**3)
    try:
        import onnx  # noqa: F401
    except ImportError:
        return found
    for name, kind in (("gemm_fp32_gmacs", "float32"), ("gemm_int8_gmacs", "int8")):
        found[name] = _rates(_product(kind, threads), _SIDE**3)
    return found


def _bandwidth(threads: int) -> dict[str, Any]:
    """Reading alone, as a step reads its weights, and copying (read and written bytes), with `threads` threads."""
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    parts = np.array_split(np.ones(_BYTES // 4, np.float32), threads)
    others = np.array_split(np.zeros(_BYTES // 4, np.float32), threads)
    with ThreadPoolExecutor(threads) as pool:
        return {
            "read_gbs": _rates(lambda: list(pool.map(np.max, parts)), _BYTES),
            "copy_gbs": _rates(lambda: list(pool.map(np.copyto, others, parts)), 2 * _BYTES),
        }


def _product(kind: str, threads: int) -> Callable[[], Any]:
    """A square matrix product with a constant right side in ONNX Runtime: float32, or uint8 with int8."""
    import numpy as np
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.Generator(np.random.PCG64(0))
    shape = (_SIDE, _SIDE)
    if kind == "int8":
        left, right = random.integers(0, 256, shape, np.uint8), random.integers(-127, 128, shape, np.int8)
        types = ("MatMulInteger", TensorProto.UINT8, TensorProto.INT32)
    else:
        left, right = (random.standard_normal(shape, np.float32) for _ in range(2))
        types = ("MatMul", TensorProto.FLOAT, TensorProto.FLOAT)
    graph = helper.make_graph(
        [helper.make_node(types[0], ["left", "right"], ["product"])],
        "product",
        [helper.make_tensor_value_info("left", types[1], shape)],
        [helper.make_tensor_value_info("product", types[2], shape)],
        [numpy_helper.from_array(right, "right")],
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"left": left})


def _rates(work: Callable[[], Any], amount: float) -> list[float]:
    """10^9 of `amount` a second, `_REPEAT` times after one that is not counted."""
    work()
    rates = []
    for _ in range(_REPEAT):
        start = time.perf_counter()
        work()
        rates.append(amount / (time.perf_counter() - start) / 1e9)
    return rates


def _model() -> str | None:
    """The processor's name (x86), or the board's (ARM); None where the system tells neither."""
    with contextlib.suppress(OSError):
        for line in CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
        return _BOARD.read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    return None
