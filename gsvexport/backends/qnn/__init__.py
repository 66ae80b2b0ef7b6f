"""QNN: a vocoder on the Hexagon NPU of a Snapdragon, as a context that Qualcomm's compiler makes where it is built."""

from gsvexport.artifact.proof import Proof
from gsvexport.backends.declaration import Backend, Needs

_TOOLS = ("numpy", "onnx", "onnx-ir", "onnxruntime", "onnxruntime-qnn")
_FIX = "pip install 'gsvexport[qnn]', on x86-64 Linux with glibc 2.35 and Python 3.11, or newer"

BACKEND = Backend(
    title="QNN on the NPU of a Snapdragon (Hexagon, HTP)",
    session="session",
    lowering="lower",
    reasons="why",
    carriage="carriage",
    audit="audit",
    bounds="chips",
    precisions={"conditioning": (), "ar": (), "acoustic": (), "vocoder": ("fp16",)},
    calibrated=("fp16",),
    uses=("npu",),
    tools=_TOOLS,
    proof=Proof.EMULATED,
    tells=True,
    keeps_reference=True,
    needs={
        "session": Needs((("onnxruntime-qnn",),), _FIX),
        "lowering": Needs(tuple((tool,) for tool in _TOOLS), _FIX),
    },
)
