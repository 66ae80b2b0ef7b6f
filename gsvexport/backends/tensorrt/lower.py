"""Lowering for TensorRT: typed FP16 graphs, checked against every release that the target may have, and `tensorrt.json`
with what the device needs to build engines from them. No engine is built here: that takes the device itself.

`prefill` and `step` become one graph (`passes/one_t2s.py`), with one copy of the weights, and so one engine, which may
hold them in a layout for each. A target whose TensorRT may be older than 10 gets a second form of each graph, on the
same weights. One whose TensorRT may be 10.15 or newer gets a form of T2S that writes its cache in place, too, which
`gsvexport finalize` prefers there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gsvexport.backends.lowered import Calibration, Lowered
from gsvexport.backends.tensorrt import BACKEND, recipe
from gsvexport.backends.tensorrt.check import Finding, check_all, summary
from gsvexport.backends.tensorrt.covered import axes_of, gaps
from gsvexport.backends.tensorrt.table import operators
from gsvexport.backends.tensorrt.table import release as order
from gsvexport.errors import BackendError, missing_package
from gsvexport.files import canonical_json
from gsvexport.model import Model
from gsvexport.stages import stages
from gsvexport.target.target import Limits

if TYPE_CHECKING:
    import onnx_ir as ir

# The releases that JetPack and the package indexes offer; a target's own range chooses among them.
RELEASES = ("8.5.2", "8.6.2", "10.3", "10.13", "10.16", "11.4")
IN_PLACE_SINCE = "10.15"  # TensorScatter has an importer
STRONG_SINCE = "10"  # types are binding from here on, and LayerNormalization is there
# What a tensor may reach in the calibration set and still be FP16: other sentences may go beyond what was heard.
HEADROOM = 4.0

_FIXED_AXES = ("L", "D", "V", "I", "G")  # a voice has one size of each; all others are lengths
_CACHE_PORTS = ("keys", "values", "new_keys", "new_values")
_PRODUCTS = ("Attention", "Conv", "ConvTranspose", "Gemm", "MatMul", "TensorScatter")  # and what holds their operands
_EXACT_OUTPUTS = ("audio",)  # what leaves the graphs for the listener keeps all its digits


def lower(
    source: Path,
    model: Model,
    placement: Mapping[str, str],
    out: Path,
    *,
    device: Mapping[str, Any],
    calibration: Calibration | None = None,
) -> Lowered:
    """Write the stages of `placement` (stage -> precision) from the folder of a source to `out`.

    `device` holds the target's `runtimes` and `limits`.

    Raises:
        BackendError: a precision that a stage cannot have, stages of one engine with two, or a graph that a TensorRT
            release of the target would refuse; all findings.
    """
    try:
        from gsvexport.graphs.save import save_graphs, stored_weights
    except ImportError as error:
        raise missing_package(error.name or "onnx-ir", "building an artifact", "compile") from error
    typed = _typed(source, model, placement, device, calibration, measured=True)
    found = _findings(typed, device["runtimes"])
    refuse(found)
    refuse(in_place_findings(typed, [one for one in found if _in_place(one)]))
    limits, prompt = Limits(**device["limits"]), _prompt(source, model)
    contexts = {engine: _context(engine, source, model) for engine in typed}
    profiles = {
        engine: tuple(
            recipe.profiles(
                engine, model.dims, limits, prompt, _dynamic(one.graph), windows=contexts[engine] is not None
            )
        )
        for engine, one in typed.items()
    }
    form = _in_place_form(typed["t2s"].in_place, model, limits, prompt) if "t2s" in typed else None
    _refuse_gaps(typed, profiles, form)
    graphs = {engine: one.graph for engine, one in typed.items()}
    weak = {f"{engine}.{recipe.WEAK}": one.weak for engine, one in typed.items() if one.weak is not None}
    in_place = {f"{engine}.{recipe.IN_PLACE}": one.in_place for engine, one in typed.items() if one.in_place}
    forms = {**graphs, **weak, **in_place}
    save_graphs(out, forms, [name for name in forms if name.partition(".")[0] == "t2s"])
    made = [
        recipe.Engine(
            engine,
            one.stages,
            f"{engine}.onnx",
            f"{engine}.{recipe.WEAK}.onnx" if one.weak is not None else "",
            profiles[engine],
            _single_layers(one.weak) if one.weak is not None else (),
            _types(one.graph),
            _half_share(one.graph),
            form if engine == "t2s" else None,
            contexts[engine],
        )
        for engine, one in typed.items()
    ]
    value = recipe.to_json(made, phones=model.dims.phones)
    (out / recipe.FILE).write_bytes(canonical_json(value).encode())
    by_stage = {stage: f"{engine}.onnx" for engine, one in typed.items() for stage in one.stages}
    weights = tuple(
        replace(weight, stages=tuple(sorted(stage for engine in weight.stages for stage in typed[engine].stages)))
        for weight in stored_weights(graphs)
    )
    checked = f"no error known for TensorRT {', '.join(found)}"
    return Lowered(
        {stage: (*one.notes, checked) for one in typed.values() for stage in one.stages}, {}, weights, by_stage
    )


def verdicts(source: Path, model: Model, placement: Mapping[str, str], device: Mapping[str, Any]) -> str:
    """What every TensorRT release of the target would say to its graphs, one line each; nothing is measured.

    Raises: as `lower`, but for what the releases say.
    """
    typed = _typed(source, model, placement, device, None, measured=False)
    told = summary(_findings(typed, device["runtimes"]))
    if any(one.in_place for one in typed.values()):
        other = summary(in_place_findings(typed, releases_of(device["runtimes"])), reasons=3)
        told += f"\nthe same for T2S with `gsvexport finalize --cache in-place`:\n{other}"
    return told


@dataclass(frozen=True)
class _Typed:
    """One engine's graph in its final types, its form for releases whose types are advice, and that which writes its
    cache in place."""

    stages: tuple[str, ...]
    graph: ir.Model
    weak: ir.Model | None
    in_place: ir.Model | None
    notes: tuple[str, ...]


def _typed(
    source: Path,
    model: Model,
    placement: Mapping[str, str],
    device: Mapping[str, Any],
    calibration: Calibration | None,
    *,
    measured: bool,
) -> dict[str, _Typed]:
    """The graphs of all engines; with `measured`, what passes FP16's range in calibration stays FP32."""
    import onnx_ir as ir

    from gsvexport.passes.base import run_passes
    from gsvexport.passes.types import annotate_types

    releases = releases_of(device["runtimes"])
    weak, in_place = any(map(_weak, releases)), any(map(_in_place, releases))
    capacity = recipe.capacities(Limits(**device["limits"]), _prompt(source, model))[-1]
    made: dict[str, _Typed] = {}
    for engine, names in _engines(model, placement).items():
        precision = placement[names[0]]
        stage = ir.load(source / model.files[names[0]])
        whole = run_passes(stage, _whole(engine, model))
        annotate_types(whole.model)
        keep, told = (
            ((), ()) if precision != "fp16" or not measured else _too_large(engine, whole.model, model, calibration)
        )
        strong = run_passes(whole.model, _halves(precision, keep))
        notes = [note for _, outcome in (*whole.applied, *strong.applied) for note in outcome.notes]
        other = run_passes(whole.model, [*_norms(), *_halves(precision, keep)]).model if weak else None
        kv: tuple[ir.Model | None, tuple[str, ...]] = (None, ())
        if in_place and engine == "t2s" and precision == "fp16":  # there is no FP32 kernel of Attention
            kv = _written_in_place(stage, model, precision, keep, capacity)
        made[engine] = _Typed(tuple(names), strong.model, other, kv[0], (*notes, *told, *kv[1]))
    return made


def _findings(typed: Mapping[str, _Typed], runtimes: Mapping[str, str]) -> dict[str, tuple[Finding, ...]]:
    """What each release says to the form of the graphs that it would get, by release."""
    strong = {engine: one.graph for engine, one in typed.items()}
    weak = {engine: one.weak for engine, one in typed.items() if one.weak is not None}
    found: dict[str, tuple[Finding, ...]] = {}
    for release in releases_of(runtimes):
        found |= check_all(weak if _weak(release) else strong, [release])
    return found


def in_place_findings(typed: Mapping[str, _Typed], releases: Sequence[str]) -> dict[str, tuple[Finding, ...]]:
    """What each release says to the forms that write their cache in place."""
    return check_all({engine: one.in_place for engine, one in typed.items() if one.in_place is not None}, releases)


def releases_of(runtimes: Mapping[str, str]) -> tuple[str, ...]:
    """The surveyed TensorRT releases that a target may have.

    Raises:
        BackendError: its range holds none of them.
    """
    from packaging.specifiers import SpecifierSet

    asked = runtimes.get("tensorrt", "")
    found = tuple(release for release in RELEASES if release in SpecifierSet(asked))
    if not found:
        raise BackendError(
            "no TensorRT release that is known here fits the target",
            found=f"runtimes.tensorrt = '{asked}'",
            limit=", ".join(RELEASES),
        )
    return found


def refuse(found: Mapping[str, Sequence[Finding]]) -> None:
    """Raise `BackendError` with every error among the findings, if there is one."""
    problems = [
        f"TensorRT {release}, {one.stage}, {one.node} ({one.op}): {one.message}"
        for release, several in found.items()
        for one in several
        if one.severity == "error"
    ]
    if problems:
        raise BackendError(
            "TensorRT would refuse these graphs", problems=problems[:30], found=f"{len(problems)} errors"
        )


def _refuse_gaps(
    typed: Mapping[str, _Typed], profiles: Mapping[str, Sequence[recipe.Profile]], form: recipe.InPlace | None
) -> None:
    """Raise `BackendError` with everything that a profile leaves open or gets wrong, in any form of a graph."""
    problems = []
    for engine, one in typed.items():
        for graph, given in (
            (one.graph, profiles[engine]),
            (one.weak, profiles[engine]),
            (one.in_place, form.profiles if form else ()),
        ):
            if graph is not None:
                problems += [f"{engine}: {text}" for text in gaps(axes_of(graph), given)]
    if problems:
        raise BackendError(
            "the optimisation profiles do not fit the graphs",
            problems=list(dict.fromkeys(problems)),
            fix="correct limits in the target; if it says nothing about lengths, tell the project",
        )


def _weak(release: str) -> bool:
    return int(release.split(".")[0]) < int(STRONG_SINCE)


def _in_place(release: str) -> bool:
    return order(release) >= order(IN_PLACE_SINCE)


def _engines(model: Model, placement: Mapping[str, str]) -> dict[str, list[str]]:
    """Engine → its stages, in the order of the stage table."""
    table = stages(model.version)
    engines: dict[str, list[str]] = {}
    problems = []
    for stage, precision in placement.items():
        allowed = BACKEND.precisions[table[stage].role]
        if precision not in allowed:
            problems.append(f"stage {stage} cannot be {precision}; it can be {', '.join(allowed)}")
        engines.setdefault(recipe.ENGINES.get(stage, stage), []).append(stage)
    for engine, names in engines.items():
        if len({placement[name] for name in names}) > 1:
            problems.append(f"{' and '.join(names)} are one engine, {engine}, and need one precision")
    if "t2s" in engines and engines["t2s"] != ["prefill", "step"]:
        problems.append("prefill and step are one engine: place both on tensorrt")
    if problems:
        raise BackendError("backend tensorrt cannot lower this placement", problems=problems)
    return engines


def _whole(engine: str, model: Model) -> list[Any]:
    """What an engine's graph goes through before its precision is decided."""
    from gsvexport.passes.int32_ports import Int32Ports
    from gsvexport.passes.one_t2s import OneT2S

    first = OneT2S(model.dims.H, model.dims.D, model.dims.L) if engine == "t2s" else Int32Ports()
    return [first, _known_sizes(model)]


def _known_sizes(model: Model) -> Any:
    """Numbers for the axes that no runtime can choose; those of keys and values are numbers already."""
    from gsvexport.passes.known_sizes import KnownSizes

    return KnownSizes(tuple((axis, getattr(model.dims, axis)) for axis in _FIXED_AXES))


def _written_in_place(
    stage: ir.Model, model: Model, precision: str, keep: Sequence[str], capacity: int
) -> tuple[ir.Model | None, tuple[str, ...]]:
    """T2S with a cache that it writes, and notes.

    What attention computes inside has no name there. Where one of its values was measured beyond FP16 there is no such
    form: it could not stay FP32.
    """
    from gsvexport.passes.base import run_passes
    from gsvexport.passes.in_place_t2s import InPlaceT2S, aliases

    dims = model.dims
    whole = run_passes(stage, [InPlaceT2S(dims.H, dims.D, dims.L, capacity), _known_sizes(model)])
    if lost := set(keep) - {str(node.name) for node in whole.model.graph}:
        return None, (f"no form that writes its cache in place: {', '.join(sorted(lost))} must stay FP32",)
    pairs = aliases(dims.L)
    made = run_passes(whole.model, _halves(precision, keep, (*pairs, *pairs.values())))
    return made.model, tuple(f"with --cache in-place: {note}" for _, outcome in whole.applied for note in outcome.notes)


def _in_place_form(
    graph: ir.Model | None, model: Model, limits: Limits, prompt: tuple[int, int]
) -> recipe.InPlace | None:
    from gsvexport.passes.in_place_t2s import aliases

    if graph is None:
        return None
    profiles = recipe.in_place_profiles(model.dims, limits, prompt)
    name = f"t2s.{recipe.IN_PLACE}.onnx"
    return recipe.InPlace(name, profiles, aliases(model.dims.L), _types(graph), _half_share(graph))


def _context(engine: str, source: Path, model: Model) -> tuple[int, int] | None:
    """How many frames around a piece the vocoder looks at; None where it has to run whole: its reach is not known."""
    import onnx_ir as ir

    from gsvexport.errors import PassError
    from gsvexport.graphs.receptive import context

    if engine != "vocoder":
        return None
    if model.vocoder_context is not None:
        return model.vocoder_context
    try:
        return context(ir.load(source / model.files["vocoder"]), "mel", "audio", model.hop)
    except PassError:  # v3's periodic activations
        return None


def _norms() -> list[Any]:
    from gsvexport.passes.decompose_norm import DecomposeNorm

    return [DecomposeNorm()]


def _halves(precision: str, keep: Sequence[str], caches: Sequence[str] = _CACHE_PORTS) -> list[Any]:
    """The FP16 pass with the policy of the operator table: what is neither product nor exact follows its inputs."""
    from gsvexport.passes.half_precision import HalfPrecision

    if precision == "fp32":
        return []
    policy = {name: operator.policy for name, operator in operators().operators.items()}
    half = tuple(name for name in _PRODUCTS if policy[name] == "fp16")
    single = tuple(sorted(name for name, kind in policy.items() if kind == "fp32"))
    return [HalfPrecision(half, single, tuple(keep), tuple(caches), _EXACT_OUTPUTS)]


def _too_large(
    engine: str, graph: ir.Model, model: Model, calibration: Calibration | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The nodes whose values leave FP16 too little room, and the overflow report."""
    from gsvexport.backends.tensorrt.ports import graph_feeds
    from gsvexport.passes.half_precision import LARGEST

    if calibration is None:
        raise BackendError(f"{engine}: fp16 needs calibration", fix="build it with gsvexport --target")
    stage = "prefill" if engine == "t2s" else engine
    feeds = [graph_feeds(stage, one, model.dims) for one in calibration.feeds(stage)]
    peaks = calibration.peaks(graph, feeds)
    limit = LARGEST / HEADROOM
    keep = tuple(
        str(node.name) for node in graph.graph if any(peaks.get(str(out.name), 0) > limit for out in node.outputs)
    )
    if not peaks:
        return keep, ("nothing was measured",)
    largest = max(peaks, key=lambda name: peaks[name])
    text = (
        f"largest of {len(peaks)} tensors over {len(feeds)} utterances: {peaks[largest]:.4g} in {largest}, FP16 ends at"
    )
    return keep, (f"{text} {LARGEST:g}; {len(keep)} operators stay FP32 because a value passes {limit:g}",)


def _single_layers(graph: ir.Model) -> tuple[str, ...]:
    """The nodes that compute in FP32, which TensorRT has to be told where types are only advice."""
    import onnx_ir as ir

    return tuple(
        str(node.name)
        for node in graph.graph
        if node.op_type != "Cast" and any(value.dtype == ir.DataType.FLOAT for value in node.outputs)
    )


def _types(graph: ir.Model) -> dict[str, dict[str, str]]:
    sides = {"inputs": graph.graph.inputs, "outputs": graph.graph.outputs}
    return {
        side: {str(port.name): str(port.dtype.numpy()) for port in ports if port.dtype is not None}
        for side, ports in sides.items()
    }


def _half_share(graph: ir.Model) -> float:
    """The share of FP16 among the operators that put out floats, casts left out."""
    import onnx_ir as ir

    types = [node.outputs[0].dtype for node in graph.graph if node.op_type != "Cast"]
    half, single = types.count(ir.DataType.FLOAT16), types.count(ir.DataType.FLOAT)
    return round(half / max(1, half + single), 4)


def _dynamic(graph: ir.Model) -> list[str]:
    """The inputs with an axis that a profile has to give."""
    return [name for name, axes in axes_of(graph).items() if not all(isinstance(axis, int) for axis in axes)]


def _prompt(source: Path, model: Model) -> tuple[int, int]:
    """(phones, codes) of the baked prompt; that of ten seconds of speech where a voice has none of its own."""
    if "prompt" not in model.baked:
        return 150, 250
    sizes = [
        np.load(source / model.baked[name]).shape[1] if name in model.baked else 0
        for name in ("prompt_phones", "prompt")
    ]
    return sizes[0], sizes[1]
