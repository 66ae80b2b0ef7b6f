"""Writes a graph as a Core ML package with coremltools, in a process of its own: what coremltools would import with it
(torch takes seconds and hundreds of MB), and what it prints, stay there.

    python -m gsvexport.backends.coreml.writer GRAPH.onnx PACKAGE
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from gsvexport.backends.coreml.operators import NAMES, translated
from gsvexport.backends.coreml.package import write

# coremltools imports these where they are installed, for converters that are not asked for here.
_UNUSED = ("torch", "torchvision", "torchaudio", "tensorflow", "sklearn", "scipy", "transformers", "xgboost", "libsvm")


def convert(graph: Path, package: Path) -> None:
    """Write `graph`, ONNX in FP32 of known sizes, as an ML program of FP16. Its ports stay FP32."""
    for name in _UNUSED:
        sys.modules[name] = None  # type: ignore[assignment]  # which makes an import fail
    import coremltools
    import onnx
    from coremltools.converters.mil import Builder
    from coremltools.converters.mil.mil import Function, Program, types

    proto = onnx.load(graph).graph
    asks = coremltools.target.iOS17
    known: dict[str, Any] = {one.name: onnx.numpy_helper.to_array(one) for one in proto.initializer}
    ports = {
        port.name: Builder.placeholder(
            shape=tuple(axis.dim_value for axis in port.type.tensor_type.shape.dim), dtype=types.fp32
        )
        for port in proto.input
    }
    with Function(ports, opset_version=asks) as function:
        known |= function.inputs
        for kind, name, taken in translated(proto):
            given = {one: known[value] if one in NAMES else value for one, value in taken.items()}
            known[name] = getattr(Builder, kind)(**given, name=name)
        function.set_outputs([known[proto.output[0].name]])
    program = Program()
    program.add_function("main", function)
    with tempfile.TemporaryDirectory() as work:
        model = coremltools.convert(
            program,
            convert_to="mlprogram",
            compute_precision=coremltools.precision.FLOAT16,
            minimum_deployment_target=asks,
            skip_model_load=True,
        )
        saved = Path(work) / "saved.mlpackage"
        model.save(str(saved))
        spec = coremltools.utils.load_spec(str(saved))
        weights = next(saved.rglob("weight.bin")).read_bytes()
    spec.description.metadata.ClearField("userDefined")  # it has the day
    write(package, spec.SerializeToString(deterministic=True), weights)


def main(arguments: list[str]) -> int:
    """See the module."""
    convert(Path(arguments[0]), Path(arguments[1]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
