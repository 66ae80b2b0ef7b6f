"""Core ML: a vocoder on Apple's devices, written as an ML program in FP16. Core ML itself is on those devices alone."""

from gsvexport.backends.declaration import Backend, Needs

_TOOLS = ("numpy", "onnx", "onnx-ir", "onnxruntime", "coremltools")
_FIX = "pip install 'gsvexport[coreml]', on x86-64 Linux or macOS, with Python before 3.14"

BACKEND = Backend(
    title="Core ML on Apple's devices",
    session="session",
    lowering="lower",
    reasons="why",
    emulation="stand_in",
    absence="runtime",
    carriage="carriage",
    audit="audit",
    bounds="systems",
    precisions={"conditioning": (), "ar": (), "acoustic": (), "vocoder": ("fp16",)},
    calibrated=("fp16",),
    tools=_TOOLS,
    tells=True,
    keeps_reference=True,
    needs={
        "session": Needs((("coremltools",),), "on macOS: pip install 'gsvexport[coreml]'; on a phone an app loads it"),
        "lowering": Needs(tuple((tool,) for tool in _TOOLS), _FIX),
    },
)
