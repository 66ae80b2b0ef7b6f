"""Which rung of proof a report gets: by what ran, where, and what stood in."""

from dataclasses import dataclass, field

import pytest

from gsvexport.artifact.manifest import StageEntry
from gsvexport.compiler.pack import _proven
from gsvexport.verify.report import Check, Report


@dataclass
class Made:
    """What is looked at of a manifest."""

    stages: dict
    target: dict = field(default_factory=dict)
    engines: object = None


def report(*stages, status="pass", **more):
    value = None if status == "not_run" else 1.0
    checks = [Check(1, stage, "rel_l2", "golden", value, 2.0, "max", 1, status, reason="because") for stage in stages]
    return Report(tuple(checks), **more)


def made(target=None, engines=None, **backends):
    entries = {stage: StageEntry(f"{stage}.onnx", backend, "fp16") for stage, backend in backends.items()}
    return Made(entries, target or {}, engines)


EMULATED, TAKEN = "ran as compiled bytes in the vendor's emulation", "compiled, placement known"
FP16 = {"emulated": "FP16"}
CORAL = {"device": {"tpu": {"link": "usb3"}}}
QNN = {"step": "onnxruntime", "vocoder": "qnn"}


@pytest.mark.parametrize(
    ("found", "manifest", "words"),
    [
        (report("step"), made(step="onnxruntime"), "step ran on the device"),
        (report("step", elsewhere="x86-64"), made(step="onnxruntime"), "step ran in the real runtime"),
        (report("step", emulated="cortex-a76"), made(step="onnxruntime"), "step ran in the real runtime"),
        (
            report("step", "vocoder", elsewhere="x86-64"),
            made(**QNN),
            "step ran in the real runtime; vocoder ran as compiled bytes in the vendor's emulation",
        ),
        (report("step", "vocoder"), made(**QNN), "step, vocoder ran on the device"),
        (report("vocoder", elsewhere="x86-64"), made(**QNN), f"vocoder {EMULATED}; step built"),
        (report("vocoder", status="not_run"), made(vocoder="qnn"), "vocoder built"),
        (report("vocoder", **FP16), made(vocoder="tensorrt"), "vocoder built"),
        (
            report("step", emulated="Core ML"),
            made(step="onnxruntime", vocoder="coreml"),
            "step ran in the real runtime; vocoder built",
        ),
        (report("vocoder", **FP16, compiled="TensorRT"), made(vocoder="tensorrt"), f"vocoder {TAKEN}"),
        (report("vocoder", **FP16), made(vocoder="tensorrt", engines={}), "vocoder built"),
        (report("vocoder", **FP16), made(vocoder="tensorrt", engines={"plans": {}}), f"vocoder {TAKEN}"),
        (report("vocoder"), made(CORAL, vocoder="tflite"), "vocoder ran in the real runtime"),
    ],
)
def test_a_rung_is_what_ran(found, manifest, words):
    proven = _proven(found, manifest)
    assert proven.proof == words
    assert Report.from_json(proven.to_json()).proof == words
