"""TFLite: convolutional stages as full-integer models, for an accelerator and the processor beside it."""

from gsvexport.artifact.proof import Proof
from gsvexport.backends.declaration import Backend, Needs

_TOOLS = ("numpy", "onnx", "onnx-ir", "onnxruntime", "ai-edge-litert", "flatbuffers")

BACKEND = Backend(
    title="TFLite on an Edge TPU or an Ethos-U, and the processor beside it",
    session="session",
    lowering="lower",
    reasons="why",
    verdicts="forecast",
    programs="lower",
    carriage="finalize",
    completion="finalize",
    audit="audit",
    bounds="vela",
    precisions={"conditioning": (), "ar": (), "acoustic": (), "vocoder": ("int8", "int16x8")},
    calibrated=("int8", "int16x8"),
    judged=("int8", "int16x8"),
    uses=("tpu", "npu", "runtimes"),
    tools=(*_TOOLS, "ethos-u-vela"),
    compiled_for={"npu": Proof.COMPILED},
    tells=True,
    needs={
        "session": Needs((("ai-edge-litert", "tflite-runtime"),), "pip install 'gsvexport[tflite]'"),
        "lowering": Needs(tuple((tool,) for tool in _TOOLS), "pip install 'gsvexport[compile]'"),
        "completion": Needs(
            fix="apt-get install edgetpu-compiler, of Google's archive, on x86-64 Linux; or finalize --compiled FILE",
            programs=("edgetpu_compiler",),
        ),
    },
)
