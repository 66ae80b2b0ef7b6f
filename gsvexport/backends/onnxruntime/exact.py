"""Graphs for other processors on one whose kernels for signed bytes overflow (x86 without VNNI).

`passes/signed_bytes.py` says why, and gives them a form that is as exact as their own processor, and slower.

Whether this processor is one is measured: some systems do not say what it has.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from gsvexport.artifact.manifest import SIGNED
from gsvexport.errors import EnvironmentProblem
from gsvexport.untrusted.external import properties_once

_DEPTH = 64
# An ONNX graph, opset 13: c = MatMulInteger(a, b), a uint8 [m, k], b int8 [k, n], c int32.
_PRODUCT = (
    b'\x08\x08:b\n\x18\n\x01a\n\x01b\x12\x01c"\rMatMulInteger\x12\x01gZ\x15\n\x01a\x12\x10\n\x0e\x08\x02\x12\n\n\x03\x12'
    b"\x01m\n\x03\x12\x01kZ\x15\n\x01b\x12\x10\n\x0e\x08\x03\x12\n\n\x03\x12\x01k\n\x03\x12\x01nb\x15\n\x01c\x12\x10\n"
    b"\x0e\x08\x06\x12\n\n\x03\x12\x01m\n\x03\x12\x01nB\x04\n\x00\x10\r"
)


def minds(path: Path) -> bool:
    """Whether the graph in `path` would be computed wrongly here.

    Raises: as `untrusted.external.check_external`.
    """
    return SIGNED in properties_once(path) and overflows()


@functools.cache
def overflows() -> bool:
    """Whether ONNX Runtime's product of the largest bytes is too small on this processor."""
    import onnxruntime

    session = onnxruntime.InferenceSession(_PRODUCT, providers=["CPUExecutionProvider"])
    feeds = {"a": np.full((4, _DEPTH), 255, np.uint8), "b": np.full((_DEPTH, 16), 127, np.int8)}
    return bool((session.run(None, feeds)[0] != 255 * 127 * _DEPTH).any())


def form(path: Path) -> bytes:
    """The graph in `path`, weights and all, in its exact form.

    Raises:
        EnvironmentProblem: what changes graphs is not installed.
    """
    try:
        import onnx_ir as ir

        from gsvexport.passes.base import run_passes
        from gsvexport.passes.signed_bytes import UnsignedBytes
    except ImportError as error:
        raise EnvironmentProblem(
            f"{path.name} was made for another processor, and this one's kernels for signed bytes overflow",
            found=str(error),
            fix="pip install 'gsvexport[compile]', which computes it exactly; or get an artifact for this processor",
        ) from error
    model = ir.external_data.load_to_model(ir.load(path))
    return ir.serde.serialize_model(run_passes(model, [UnsignedBytes()]).model).SerializeToString()
