"""RKNN: a vocoder on the NPU of a Rockchip, compiled where it is built by Rockchip's toolkit in an environment of its
own."""

import platform

from gsvexport.artifact.proof import Proof
from gsvexport.backends.declaration import Backend, Needs
from gsvexport.backends.rknn.place import BUILDING, ON_DEVICE, python

_TOOLS = ("numpy", "onnx", "onnx-ir", "onnxruntime")
_LITE = Needs((("rknn-toolkit-lite2",),), ON_DEVICE)

BACKEND = Backend(
    title="RKNN on the NPU of a Rockchip",
    session="session",
    lowering="lower",
    reasons="why",
    programs="toolkit",
    carriage="carriage",
    audit="audit",
    bounds="chips",
    precisions={"conditioning": (), "ar": (), "acoustic": (), "vocoder": ("fp16",)},
    calibrated=("fp16",),
    uses=("npu",),
    tools=_TOOLS,
    proof=Proof.SIMULATED,
    tells=True,
    keeps_reference=True,
    needs={
        "session": _LITE if platform.machine() == "aarch64" else Needs(fix=BUILDING, programs=(str(python()),)),
        "lowering": Needs(tuple((tool,) for tool in _TOOLS), BUILDING, programs=(str(python()),)),
    },
)
