"""What a plan says of an Edge TPU before anything is measured: each stage's work, and what legality allows.

How much of the vocoder may be integers is decided by its sound, in the build. Until then there is a row for each place
where the vocoder can be cut.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsvexport.backends.tflite.placement import Placement, oldest_runtime, place
from gsvexport.model import Model
from gsvexport.stages import CODES_PER_SECOND, FRAMES_PER_CODE

if TYPE_CHECKING:
    import onnx

    from gsvexport.backends.tflite.graph import Graph

_WINDOW = 32  # frames of the graph that is judged; legality does not depend on it
_PHONES = 15  # a second: what multiply-adds of the encoders are counted for
_PER_SECOND = CODES_PER_SECOND * FRAMES_PER_CODE  # latent frames


@dataclass(frozen=True)
class Work:
    """Multiply-adds for a second of speech, and stored weights, of a stage or a part of one."""

    name: str
    macs: int
    weights: int


def verdicts(source: Path, model: Model, placement: Mapping[str, str], device: Mapping[str, Any]) -> str:
    """The split between processor and Edge TPU, for each place where the vocoder can be cut; empty without a TPU.

    Raises:
        BackendError: a vocoder that cannot be emitted, every node with its reason.
    """
    if not device.get("tpu") or "vocoder" not in placement:
        return ""
    row = _segments(source / model.files["vocoder"], model)
    hosted = host_work(source, model)
    vocoder = sum(_macs(one) for one in row) * _PER_SECOND // _WINDOW
    lines = ["   work for a second of speech, in million multiply-adds, and weights", *_hosted(hosted, vocoder)]
    lines += [f"      vocoder            {vocoder / 1e6:>10,.1f}  Edge TPU up to the cut, the rest on the processor"]
    runtime = oldest_runtime(device["runtimes"].get("edgetpu", ""))
    lines += [f"   where the vocoder can be cut, which its sound decides in the build; predicted for runtime {runtime}"]
    lines += ["      groups  on the TPU  operators  weights   streamed a window  over the link   estimate a second"]
    for count in range(1, len(row) + 1):
        lines.append(_cut(row, count, device["tpu"], runtime, vocoder))
    lines.append("      streamed: weights beyond the cache; estimate: at the TPU's peak, windows that do not overlap")
    return "\n".join(lines)


def host_work(source: Path, model: Model) -> list[Work]:
    """T2S, the encoders and the flow: what stays on the processor, whatever the vocoder does."""
    found = []
    if "step" in model.files:
        _, weights = _count(source / model.files["step"], {"S": 1, "L": model.dims.L})
        found.append(Work("t2s", sum(weights.values()) * CODES_PER_SECOND, sum(weights.values())))
    if "acoustic" in model.files:
        sizes = {"T": CODES_PER_SECOND, "F": _PER_SECOND, "X": _PHONES, "I": model.dims.I, "G": model.dims.G}
        counted, weights = _count(source / model.files["acoustic"], sizes)
        found += [Work(name, counted[name], weights[name]) for name in ("encoders", "flow")]
    return found


def _hosted(works: Sequence[Work], vocoder: int) -> list[str]:
    why = {"t2s": ": each code reads all of its weights"}
    lines = []
    for one in works:
        share = one.macs / vocoder if vocoder else 0.0
        why["flow"] = f": in one graph with the encoders; {share:.1%} of the vocoder's work"
        text = f"processor{why.get(one.name, '')}"
        lines.append(f"      {one.name:<18} {one.macs / 1e6:>10,.1f}  {one.weights / 1e6:,.1f} million weights; {text}")
    return lines


def _cut(row: Sequence[Graph], count: int, tpu: Mapping[str, float], runtime: int, vocoder: int) -> str:
    """One line: the vocoder's first `count` groups on the TPU."""
    placed: list[Placement] = [place(one, "", tpu, runtime) for one in row[:count]]
    whole = all(one.cut is None for one in placed)
    windows = _PER_SECOND / _WINDOW
    macs, weights = sum(one.mapped_macs for one in placed), sum(one.parameter_bytes for one in placed)
    streamed = max(0, weights - placed[0].cache_bytes)
    ends = [row[0].tensors[index] for index in row[0].inputs] + [row[count - 1].tensors[row[count - 1].outputs[0]]]
    link = sum(tensor.bytes for tensor in ends)
    ms = windows * (2 * macs / (tpu["tops_int8"] * 1e9) + (streamed + link) / (tpu["link_gbs"] * 1e6))
    operators, mapped = (sum(n) for n in zip(*((len(one.rows), one.mapped) for one in placed), strict=True))
    legal = f"{mapped}/{operators}" + ("" if whole else "!")
    share = macs * windows / vocoder if vocoder else 0.0
    return (
        f"      {count:>6}  {share:>10.1%}  {legal:>9}  {weights / 2**20:>4.1f} MiB  {streamed / 2**20:>13.1f} MiB"
        f"  {link / 1e3:>10.1f} kB  {ms:>14.1f} ms"
    )


def _segments(path: Path, model: Model) -> list[Graph]:
    """The vocoder on integers, one graph for each rate; its ranges are arbitrary, which legality does not see."""
    import onnx_ir as ir

    from gsvexport.backends.tflite.emit import emit
    from gsvexport.backends.tflite.quantise import quantise
    from gsvexport.backends.tflite.segments import segments
    from gsvexport.passes.base import run_passes
    from gsvexport.passes.conv2d import Conv2d
    from gsvexport.passes.multiply_by_reciprocal import MultiplyByReciprocal
    from gsvexport.passes.polyphase import Polyphase
    from gsvexport.passes.split_leaky_relu import SplitLeakyRelu

    legal = run_passes(ir.load(path), [Conv2d(), Polyphase(), MultiplyByReciprocal(), SplitLeakyRelu()]).model
    sizes = {"F": _WINDOW, "I": model.dims.I, "G": model.dims.G}
    parts = segments(emit(legal, sizes))
    return [quantise(one, {tensor.name: (-1.0, 1.0) for tensor in one.tensors if tensor.data is None}) for one in parts]


def _macs(graph: Graph) -> int:
    from gsvexport.backends.tflite.placement import macs

    return sum(macs(graph, one) for one in graph.operators)


def _count(path: Path, sizes: Mapping[str, int]) -> tuple[Counter[str], Counter[str]]:
    """Multiply-adds of convolutions and of products with stored weights, and the weights, in "flow" and "encoders"."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    for port in (*model.graph.input, *model.graph.output):
        for axis in port.type.tensor_type.shape.dim:
            if axis.dim_param in sizes:
                axis.dim_value = sizes[axis.dim_param]
    del model.graph.value_info[:]
    weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer if len(tensor.dims) > 1}
    shapes = _shapes(onnx.shape_inference.infer_shapes(model, data_prop=True))
    counted: Counter[str] = Counter()
    held: Counter[str] = Counter()
    for node in model.graph.node:
        used = [weights[name] for name in node.input if name in weights]
        if node.op_type not in ("Conv", "MatMul", "Gemm") or not used:
            continue
        part = "flow" if node.name.startswith("flow") else "encoders"
        held[part] += sum(map(math.prod, used))
        over = shapes.get(node.output[0], ())
        places = over[-1:] if node.op_type == "Conv" else over[:-1]
        counted[part] += math.prod(places) * sum(map(math.prod, used)) if over else 0
    return counted, held


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """The shape of every value that has a wholly known one."""
    found = {}
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        axes = value.type.tensor_type.shape.dim
        if axes and all(axis.HasField("dim_value") for axis in axes):
            found[value.name] = tuple(axis.dim_value for axis in axes)
    return found
