"""Lowering to TFLite: a vocoder whose beginning runs on integers, on an accelerator, and whose rest on the processor.

vocoder.tflite        the beginning: int8 in and out, or int16, in windows of one length
vocoder-rest.tflite   the rest, float32, which follows on the processor
vocoder.json          how they are run: windows, contexts, rates
vocoder_vela.tflite   what Vela makes of the beginning, for a target with an Ethos-U
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsvexport.artifact.manifest import Decisions, Weights
from gsvexport.backends.lowered import ALLOWED, Calibration, Lowered, probes
from gsvexport.backends.tflite import BACKEND
from gsvexport.backends.tflite.session import SCHEMA, Part
from gsvexport.errors import BackendError, missing_package
from gsvexport.files import canonical_json
from gsvexport.model import Model
from gsvexport.stages import stages

if TYPE_CHECKING:
    import onnx_ir as ir

    from gsvexport.backends.tflite.graph import Graph


_STEP = 8  # frames: windows are multiples
_SHORTEST = 16  # frames
_SRAM_SHARE = 0.25  # of the Edge TPU's memory, for activations: the rest holds parameters and the program


def programs() -> dict[str, str]:
    """The version of the Edge TPU's compiler, "absent" without one."""
    from gsvexport.backends.tflite.edgetpu import version
    from gsvexport.backends.tflite.table import table

    return {table().compiler.name: version()}


def lower(
    source: Path,
    model: Model,
    placement: Mapping[str, str],
    out: Path,
    *,
    device: Mapping[str, Any],
    calibration: Calibration | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Lowered:
    """Write the stages of `placement` (stage -> precision) from the folder of a source to `out`.

    `device` holds the target's `tpu` and `npu`, None for a device without one, and its `runtimes`. What the Edge TPU
    would run is written beside them, see `survey`; and what Vela makes for an Ethos-U, see `vela`.

    Raises:
        BackendError: a precision that a stage cannot have, no calibration, nodes that cannot be emitted, or a stage
            whose first segment cannot run on integers.
        EnvironmentProblem: a package of the extra `compile` is missing, or, for an Ethos-U, of the extra `ethosu`.
    """
    try:
        import onnx_ir as ir
    except ImportError as error:
        raise missing_package(error.name or "onnx-ir", "building an artifact", "compile") from error
    from gsvexport.backends.tflite import vela
    from gsvexport.backends.tflite.report import FAILED
    from gsvexport.backends.tflite.survey import host_work, spoken
    from gsvexport.backends.tflite.survey import write as write_placement

    npu = vela.chips()[device["npu"]["chip"]] if device.get("npu") else None
    if npu:
        vela.version()  # before anything is measured

    notes: dict[str, tuple[str, ...]] = {}
    decisions: dict[str, Decisions] = {}
    weights: list[Weights] = []
    files: dict[str, str] = {}
    table, again = stages(model.version), False
    for stage, precision in placement.items():
        if precision not in (known := BACKEND.precisions[table[stage].role]):
            can = ", ".join(known) or "nothing: only a vocoder is convolutions throughout"
            raise BackendError(f"backend tflite cannot lower stage {stage} to {precision}", limit=can)
        if calibration is None:
            raise BackendError(f"stage {stage}: {precision} needs calibration", fix="build it with gsvexport --target")
        if precision == "int16x8" and npu is None:
            fix = "give the target [device.npu] with a chip"
            raise BackendError(f"stage {stage}: an Edge TPU has no 16-bit activations, which {precision} has", fix=fix)
        graph = ir.load(source / model.files[stage])
        parts, notes[stage], decisions[stage] = _stage(stage, precision, graph, model, device, calibration)
        for part, content in parts:
            weights += _write(out / part.file, content, stage)
        port = table[stage].outputs[0]
        recipe = {"schema": SCHEMA, "output": port.name, "samples": len(port.shape) == 2}
        files[stage] = f"{stage}.json"
        text = canonical_json({**recipe, "parts": [asdict(part) for part, _ in parts]})
        (out / files[stage]).write_bytes(text.encode())
        report = write_placement(out, stage, files[stage], device, model.rate)
        again |= report is not None and report.compile.status == FAILED
        if npu:
            rest = sum(one.macs for one in host_work(parts))
            seconds = spoken([part for part, _ in parts], model.rate)
            made = vela.compile_part(out, stage, parts[0][0], npu, say, seconds=seconds, rest=rest)
            (out / vela.MEMBER).write_bytes(made.text().encode())
            words = made.page().splitlines()
            notes[stage] = (*notes[stage], *(line.strip() for line in words))
    return Lowered(notes, decisions, tuple(weights), files, again)


def _stage(
    stage: str, precision: str, graph: ir.Model, model: Model, device: Mapping[str, Any], calibration: Calibration
) -> tuple[list[tuple[Part, Graph]], tuple[str, ...], Decisions]:
    """The parts of one stage with what each is run with, what was done in words, and what was decided."""
    from gsvexport.backends.tflite.choose import choose, peaks
    from gsvexport.backends.tflite.emit import emit
    from gsvexport.backends.tflite.quantise import BY_PRECISION, SIXTEEN, quantise
    from gsvexport.backends.tflite.segments import joined, products, rest, segments
    from gsvexport.passes.base import run_passes
    from gsvexport.passes.conv2d import Conv2d
    from gsvexport.passes.equalise_channels import EqualiseChannels
    from gsvexport.passes.multiply_by_reciprocal import MultiplyByReciprocal
    from gsvexport.passes.polyphase import Polyphase
    from gsvexport.passes.small_sums_first import SmallSumsFirst
    from gsvexport.passes.split_leaky_relu import SplitLeakyRelu

    sizes, given = asdict(model.dims), probes(calibration.feeds(stage))
    shape = stages(model.version)[stage].inputs[0].shape
    time = next(axis for axis in shape if isinstance(axis, str) and axis not in sizes)
    legal = run_passes(graph, [Conv2d(), Polyphase(), MultiplyByReciprocal(), SmallSumsFirst(), SplitLeakyRelu()])
    plain = emit(legal.model, {**sizes, time: _SHORTEST})
    equal = run_passes(legal.model, [EqualiseChannels(peaks(segments(plain), given))])
    whole = emit(equal.model, {**sizes, time: _SHORTEST})
    row = segments(whole)
    kind = BY_PRECISION[precision]
    # Sixteen bits have room for everything: no error of rounding is worth a clipped peak.
    observe = partial(calibration.extremes if kind is SIXTEEN else calibration.ranges, stage, equal.model)
    choice = choose(row, observe, given, partial(calibration.damage, stage), kind, precision)

    tpu = device.get("tpu") or {}
    frames, why = _window(joined(whole, row[: choice.count]), tpu.get("sram_mb"))
    whole = emit(equal.model, {**sizes, time: frames})
    row = segments(whole)
    first = joined(whole, row[: choice.count])
    parts = [_part(f"{stage}.tflite", first, frames)]
    graphs = [quantise(first, choice.ranges, kind)]
    if choice.count < len(row):
        # Where the integers end early, what follows looks further around a frame than their windows are long.
        size = max(frames, _twice_around(rest(whole, row[: choice.count]), parts[0].rate))
        longer = emit(equal.model, {**sizes, time: size})
        after = rest(longer, segments(longer)[: choice.count])
        parts.append(_part(f"{stage}-rest.tflite", after, size * parts[0].rate))
        graphs.append(after)
    share = products(first) / products(whole)
    ladder = ", ".join(f"{value:.3g}" for value in choice.ladder)
    alone = ", ".join(f"{group.name} {group.alone:.3g}" for group in choice.decisions.groups)
    untried = "" if len(choice.ladder) == len(row) else ", so no more were tried"
    notes = (
        *(note for result in (legal, equal) for _, done in result.applied if done.changes for note in done.notes),
        f"share of the gates used with one group on integers: {alone}",
        f"with the first groups together: {ladder}; allowed are {ALLOWED:g}{untried}",
        f"{precision}: the first {choice.count} of {len(row)} groups, {share:.0%} of the multiplications"
        + ("" if choice.count == len(row) else "; the rest is float32"),
        why,
    )
    return list(zip(parts, graphs, strict=True)), notes, choice.decisions


def _window(first: Graph, sram_mb: float | None) -> tuple[int, str]:
    """How many frames go into the integers' windows, and why.

        W = 2·(left + right), at least 16, at most what the memory holds, in multiples of 8

    so that half of what is computed is kept and the first sound waits for as little latent as that allows. The memory
    holds, in a quarter of it, what the largest operator reads and writes.
    """
    from gsvexport.backends.tflite.segments import CHANNELS, context
    from gsvexport.backends.tflite.segments import frames as length

    left, right = context(first)
    wanted = _twice_around(first, 1)
    size = max(
        sum(
            first.tensors[index].shape[2] * first.tensors[index].shape[CHANNELS]
            for index in (*operator.inputs, *operator.outputs)
            if index >= 0 and first.tensors[index].data is None
        )
        for operator in first.operators
    )
    each = size / length(first)  # bytes of int8 for each frame
    most = wanted if sram_mb is None else int(_SRAM_SHARE * sram_mb * 2**20 / each) // _STEP * _STEP
    found = min(wanted, most)
    if found <= left + right:
        raise BackendError(
            f"{first.description}: no window fits the Edge TPU's memory",
            found=f"windows of {found} frames, of which {left + right} are looked at around those that are kept",
            limit=f"{_SRAM_SHARE:.0%} of {sram_mb} MB at {each:.0f} bytes a frame",
        )
    limited = (
        "" if found == wanted else f", as many as {_SRAM_SHARE:.0%} of {sram_mb:g} MB hold at {each:.0f} bytes each"
    )
    return found, f"windows of {found} frames, {left} and {right} of them looked at before and after{limited}"


def _twice_around(graph: Graph, rate: int) -> int:
    """2·(left + right) of a part, at least 16, in multiples of 8 of the frames that it is given `rate` times of."""
    from gsvexport.backends.tflite.segments import context

    return max(_SHORTEST, -(-2 * sum(context(graph)) // (rate * _STEP)) * _STEP)


def _part(file: str, graph: Graph, window: int) -> Part:
    from gsvexport.backends.tflite.segments import context, rate

    left, right = context(graph)
    return Part(file, window, left, right, rate(graph))


def _write(path: Path, graph: Graph, stage: str) -> list[Weights]:
    """Write one part; returns the bytes of its constants by what they are stored as."""
    from gsvexport.backends.tflite.flatbuffer import dump

    path.write_bytes(dump(graph))
    total: dict[str, int] = {}
    for tensor in graph.tensors:
        if tensor.data is not None:
            kind = {"float32": "fp32"}.get(tensor.dtype, tensor.dtype)
            total[kind] = total.get(kind, 0) + tensor.bytes
    return [Weights((stage,), kind, size) for kind, size in sorted(total.items())]
