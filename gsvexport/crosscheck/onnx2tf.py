"""One vocoder, converted by onnx2tf in an environment of its own and by this package, and what came of each.

Both get the same graph with fixed sizes, and the same windows to calibrate with. onnx2tf gets it twice: as the source
has it, and after the passes that our emitter is given, which spare it most of its transposes.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsvexport.errors import BackendError, GsvError
from gsvexport.verify.tensors import scaled_error, snr_db

Array = NDArray[Any]
Feeds = dict[str, Array]
WINDOW = 32  # frames
_MOVES = ("RESHAPE", "TRANSPOSE")
_TPU = {"sram_mb": 8.0, "tops_int8": 4.0, "link_gbs": 0.4}
_RUNTIME = 14
_TAIL = 160  # characters of a failure that the table shows


@dataclass(frozen=True)
class Result:
    """One converter: `seconds` it took, and for each file of it a figure or, in `failed`, why there is none."""

    name: str
    seconds: float
    float_error: float | None = None
    operators: int | None = None
    moves: int | None = None
    snr_db: float | None = None
    integers: float | None = None
    mapped: float | None = None
    mapped_macs: float | None = None
    failed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Subject:
    """A vocoder: its graph in the folder of a source, what it is calibrated with, and what is compared."""

    graph: Path
    calibration: list[Feeds]
    probe: Feeds
    expected: Array


def subject(source: Path) -> Subject:
    """The vocoder of a source, with windows of what its stage `acoustic` really gives it.

    Raises:
        ArtifactError: no source.
    """
    from gsvexport.backends.onnxruntime.session import open_session
    from gsvexport.runtime.pipeline import load
    from gsvexport.verify import LIVE, golden

    with load(source) as voice:
        cases = golden.cases(voice, LIVE, baked_prompt=True)
        file = source / voice.model.files["vocoder"]
    windows = [
        {"latent": case.inputs["latent"][:, :, start : start + WINDOW], "ge": case.inputs["ge"]}
        for case in cases
        if case.stage == "vocoder"
        for start in range(0, case.inputs["latent"].shape[2] - WINDOW + 1, WINDOW // 2)
    ]
    session = open_session(file)
    expected = session.run(windows[0])["audio"]
    session.close()
    return Subject(file, windows[1:], windows[0], expected)


def ours(one: Subject, work: Path) -> Result:
    """This package's emitter and quantiser."""
    import onnx_ir as ir

    from gsvexport.backends.tflite.emit import emit
    from gsvexport.backends.tflite.flatbuffer import dump
    from gsvexport.backends.tflite.quantise import quantise

    began = time.perf_counter()
    graph = emit(_prepared(ir.load(one.graph)), _sizes(one.probe))
    data = dump(graph)
    work.joinpath("ours.tflite").write_bytes(data)
    integers = dump(quantise(graph, _ranges(data, one.calibration)))
    work.joinpath("ours-int8.tflite").write_bytes(integers)
    return _result("gsvexport", time.perf_counter() - began, one, data, integers, ())


def theirs(one: Subject, python: Path, work: Path, *, prepared: bool, seconds: float) -> Result:
    """onnx2tf, called as its command line, twice: float alone, and with its full-integer files."""
    import onnx_ir as ir

    name = "onnx2tf, our 2-D graph" if prepared else "onnx2tf, the source's graph"
    folder = work / ("prepared" if prepared else "plain")
    folder.mkdir()
    model = ir.load(one.graph)
    _fix(_prepared(model) if prepared else model, folder / "vocoder.onnx", one.probe)
    took, files, failed = 0.0, {}, []
    for kind, suffix, options in (
        ("float", "float32", ()),
        ("int8", "full_integer_quant", ("-oiqt", *_calibration(one, folder))),
    ):
        out = folder / kind
        words = ["-i", str(folder / "vocoder.onnx"), "-o", str(out), "-n", "-coion", *options]
        began = time.perf_counter()
        problem = _run([str(python.parent / "onnx2tf"), *words], folder, python, seconds)
        took = max(took, time.perf_counter() - began)
        made = out / f"vocoder_{suffix}.tflite"
        if made.is_file():
            files[kind] = made.read_bytes()
        else:
            failed.append(f"no {kind} file: {problem or 'it wrote none'}")
    return _result(name, took, one, files.get("float"), files.get("int8"), tuple(failed))


def markdown(results: list[Result]) -> str:
    """The table, and below it why a figure is missing."""
    head = ("", *(one.name for one in results))
    rows: list[tuple[str, Callable[[Result], str]]] = [
        ("float: max error against ONNX Runtime", lambda one: _cell(one.float_error, "{:.1e}")),
        ("operators, RESHAPE and TRANSPOSE among them", lambda one: _pair(one.operators, one.moves)),
        ("int8: SNR against ONNX Runtime", lambda one: _cell(one.snr_db, "{:.1f} dB")),
        ("int8: operators on 8-bit integers", lambda one: _cell(one.integers, "{:.0%}")),
        ("predicted on the Edge TPU: operators", lambda one: _cell(one.mapped, "{:.0%}")),
        ("predicted on the Edge TPU: multiply-adds", lambda one: _cell(one.mapped_macs, "{:.0%}")),
        ("time with int8 and calibration", lambda one: f"{one.seconds:.1f} s"),
    ]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    lines += ["| " + " | ".join((title, *map(cell, results))) + " |" for title, cell in rows]
    lines += [f"\n{one.name}: {text}" for one in results for text in one.failed]
    return "\n".join(lines) + "\n"


def _result(
    name: str, seconds: float, one: Subject, floats: bytes | None, integers: bytes | None, failed: tuple[str, ...]
) -> Result:
    figures: dict[str, Any] = {}
    for data, measure, what in ((floats, _of_floats, "float"), (integers, _of_integers, "int8")):
        if data is not None:
            try:
                figures |= measure(data, one)
            except GsvError as error:
                failed = (*failed, f"the {what} file cannot be used: {' '.join(str(error).split())[:_TAIL]}")
    return Result(name, seconds, failed=failed, **figures)


def _of_floats(data: bytes, one: Subject) -> dict[str, Any]:
    from gsvexport.backends.tflite.flatbuffer import parse

    kinds = [operator.kind for operator in parse(data, "float").operators]
    found = {"operators": len(kinds), "moves": sum(kind in _MOVES for kind in kinds)}
    return {**found, "float_error": scaled_error(one.expected.reshape(-1), _run_file(data, one.probe))}


def _of_integers(data: bytes, one: Subject) -> dict[str, Any]:
    from gsvexport.backends.tflite.flatbuffer import parse
    from gsvexport.backends.tflite.placement import place

    graph = parse(data, "int8")
    placed = place(graph, "int8", _TPU, _RUNTIME)
    ends = [[graph.tensors[index].dtype for index in operator.outputs] for operator in graph.operators]
    return {
        "integers": sum(set(kinds) <= {"int8", "uint8"} for kinds in ends) / len(ends),
        "mapped": placed.mapped / len(placed.rows),
        "mapped_macs": placed.mapped_macs / placed.macs if placed.macs else 0.0,
        "snr_db": snr_db(one.expected.reshape(-1), _run_file(data, one.probe)),
    }


def _run_file(data: bytes, feeds: Mapping[str, Array]) -> Array:
    """The output of a model, flat and in float, whatever layout its inputs have.

    Raises:
        BackendError: LiteRT cannot load or run it.
    """
    from gsvexport.backends.tflite.session import interpreter

    model = interpreter(data, 1)
    try:
        for port in model.get_input_details():
            array = _laid_out(feeds, tuple(port["shape"]))
            scale, zero = port["quantization"]
            if scale:
                array = np.clip(np.rint(array / scale) + zero, -128, 127).astype(port["dtype"])
            model.set_tensor(port["index"], np.ascontiguousarray(array))
        model.invoke()
        port = model.get_output_details()[0]
        found = model.get_tensor(port["index"]).reshape(-1)
    except (RuntimeError, ValueError) as error:
        raise BackendError("LiteRT cannot run it", problems=[str(error)]) from error
    scale, zero = port["quantization"]
    return (found.astype(np.float32) - zero) * np.float32(scale) if scale else found


def _laid_out(feeds: Mapping[str, Array], shape: tuple[int, ...]) -> Array:
    """The array [1, C, T] that fits an input [1, T, C], [1, 1, T, C], [1, C, T] or [1, C, 1, T]."""
    for axes in ((0, 2, 1), (0, 1, 2)):
        for array in feeds.values():
            moved = array.transpose(axes)
            if [size for size in moved.shape if size > 1] == [size for size in shape if size > 1]:
                return moved.reshape(shape)
    raise BackendError("an input has a shape that nothing fits", found=shape)


def _prepared(model: Any) -> Any:
    """What our emitter is given."""
    from gsvexport.passes.base import run_passes
    from gsvexport.passes.conv2d import Conv2d
    from gsvexport.passes.multiply_by_reciprocal import MultiplyByReciprocal
    from gsvexport.passes.polyphase import Polyphase
    from gsvexport.passes.split_leaky_relu import SplitLeakyRelu

    return run_passes(model, (Conv2d(), Polyphase(), SplitLeakyRelu(), MultiplyByReciprocal())).model


def _sizes(feeds: Mapping[str, Array]) -> dict[str, int]:
    return {"F": feeds["latent"].shape[2], "I": feeds["latent"].shape[1], "G": feeds["ge"].shape[1]}


def _fix(model: Any, path: Path, feeds: Mapping[str, Array]) -> None:
    """Write a graph with fixed sizes and its weights inside. onnx2tf wants no empty names behind a node's inputs."""
    import onnx
    import onnx_ir as ir

    for port in model.graph.inputs:
        port.shape = ir.Shape(feeds[port.name].shape)
    found = ir.to_proto(ir.external_data.load_to_model(model))
    for node in found.graph.node:
        while node.input and not node.input[-1]:
            node.input.pop()
    del found.graph.value_info[:]
    for port in found.graph.output:
        port.type.tensor_type.ClearField("shape")
    onnx.save(onnx.shape_inference.infer_shapes(found), path)


def _calibration(one: Subject, folder: Path) -> list[str]:
    """onnx2tf's arguments for its calibration: files [N, T, C], not normalised. Both graphs have the source's ports."""
    words: list[str] = []
    for name in one.probe:
        stacked = np.concatenate([feeds[name].transpose(0, 2, 1) for feeds in one.calibration])
        np.save(folder / f"{name}.npy", stacked)
        words += ["-cind", name, str(folder / f"{name}.npy"), "0.0", "1.0"]
    return words


def _ranges(data: bytes, calibration: list[Feeds]) -> dict[str, tuple[float, float]]:
    """The true range of every tensor of our float file."""
    from ai_edge_litert.interpreter import Interpreter

    model = Interpreter(model_content=data, num_threads=1, experimental_preserve_all_tensors=True)
    model.allocate_tensors()
    found: dict[str, tuple[float, float]] = {}
    for feeds in calibration:
        for port in model.get_input_details():
            model.set_tensor(port["index"], np.ascontiguousarray(_laid_out(feeds, tuple(port["shape"]))))
        model.invoke()
        for tensor in model.get_tensor_details():
            if tensor["name"]:
                array = model.get_tensor(tensor["index"])
                low, high = found.get(tensor["name"], (np.inf, -np.inf))
                found[tensor["name"]] = (min(low, float(array.min())), max(high, float(array.max())))
    return found


def _run(command: list[str], folder: Path, python: Path, seconds: float) -> str:
    """Run onnx2tf with its own tools first on PATH; returns its last words where it failed."""
    log = folder / "log"
    environment = {"PATH": f"{python.parent}:/usr/bin:/bin", "HOME": str(folder), "TF_CPP_MIN_LOG_LEVEL": "2"}
    with open(log, "wb") as out:
        try:
            code = subprocess.run(command, stdout=out, stderr=out, timeout=seconds, env=environment).returncode
        except subprocess.TimeoutExpired:
            return f"not finished after {seconds:.0f} s"
        except OSError as error:
            return f"it cannot be started: {error}"
    words = log.read_text(encoding="utf-8", errors="replace").split("\n")
    last = next((line.strip() for line in reversed(words) if "Error" in line), "")
    return f"it ended with {code}: {last[:_TAIL]}" if code else ""


def _cell(value: float | None, form: str) -> str:
    return "none" if value is None else form.format(value)


def _pair(count: int | None, moves: int | None) -> str:
    return "none" if count is None else f"{count}, {moves}"
