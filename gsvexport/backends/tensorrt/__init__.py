"""Stages by TensorRT: lowered and checked here, built and proven on the device."""

from gsvexport.backends.declaration import Backend, Needs

_TOOLS = ("numpy", "onnx", "onnx-ir", "safetensors")

BACKEND = Backend(
    title="TensorRT on NVIDIA's GPUs",
    session="session",
    lowering="lower",
    reasons="why",
    scratch="why",
    verdicts="lower",
    compiler="compiled",
    ahead="ahead",
    emulation="emulate",
    carriage="finalize",
    finalisation="finalize",
    audit="audit",
    precisions={
        "conditioning": ("fp32",),
        "ar": ("fp32", "fp16"),
        "acoustic": ("fp32", "fp16"),
        "vocoder": ("fp32", "fp16"),
    },
    calibrated=("fp16",),
    judged=(),  # none is decided by how it sounds: values beyond FP16 keep an operator in FP32
    uses=("runtimes", "limits"),
    tools=_TOOLS,
    portability="build_on_device",
    needs={
        "session": Needs((("tensorrt", "tensorrt-cu12", "tensorrt-rtx-cu12"),), "pip install 'tensorrt>=10.3,<11'"),
        "lowering": Needs(tuple((tool,) for tool in _TOOLS), "pip install 'gsvexport[compile]'"),
        "compiler": Needs((("tensorrt-rtx-cu12",),), "pip install 'gsvexport[nvidia-check]'"),
        "ahead": Needs((("tensorrt-rtx-cu12",),), "pip install 'gsvexport[nvidia-check]'"),
        "emulation": Needs((("onnx-ir",), ("onnxruntime",)), "pip install 'gsvexport[compile]'"),
    },
)
