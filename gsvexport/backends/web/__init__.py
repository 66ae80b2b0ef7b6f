"""The browser: onnxruntime-web, which runs under node here by the very bytes that a page has."""

from gsvexport.backends.declaration import Backend, Needs

_TOOLS = ("numpy", "onnx", "onnx-ir", "onnxruntime", "safetensors")
_NODE = "apt-get install nodejs npm (node 20 or newer)"

BACKEND = Backend(
    title="onnxruntime-web in a browser",
    session="session",
    lowering="lower",
    reasons="why",
    programs="lowered_by",
    emulation="stand_in",
    absence="runtime",
    precisions={
        "conditioning": ("fp32",),
        "ar": ("fp32", "fp16"),
        "acoustic": ("fp32", "fp16", "int8-weights", "int8-dynamic"),
        "vocoder": ("fp32", "fp16", "int8-weights", "int8"),
    },
    calibrated=("int8", "int8-dynamic"),
    judged=("int8", "int8-dynamic"),
    uses=("features",),
    tools=_TOOLS,
    needs={
        "session": Needs(fix=_NODE, programs=("node",)),
        "lowering": Needs(tuple((tool,) for tool in _TOOLS), "pip install 'gsvexport[compile]'"),
    },
)
