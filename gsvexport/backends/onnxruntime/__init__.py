"""ONNX Runtime on the processor."""

from gsvexport.backends.declaration import Backend, Needs

_TOOLS = ("numpy", "onnx", "onnx-ir", "onnxruntime", "safetensors")

BACKEND = Backend(
    title="ONNX Runtime on the processor",
    session="session",
    lowering="lower",
    reasons="why",
    precisions={
        "conditioning": ("fp32",),
        "ar": ("fp32", "fp16", "int8-weights", "int4-weights"),
        "acoustic": ("fp32", "fp16", "int8-weights", "int8-dynamic"),
        "vocoder": ("fp32", "fp16", "int8-weights", "int8"),
    },
    calibrated=("int8", "int8-dynamic"),
    judged=("int8", "int8-dynamic"),
    uses=("features",),
    tools=_TOOLS,
    sentences="side by side, where this processor gives each the codes that it gets alone",
    needs={
        "session": Needs((("onnxruntime",),), "pip install onnxruntime"),
        "lowering": Needs(tuple((tool,) for tool in _TOOLS), "pip install 'gsvexport[compile]'"),
    },
)
