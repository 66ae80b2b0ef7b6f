"""An integer vocoder: ranges from calibration, and a measured decision about which layers stay float.

Layers are grouped by the rate at which they run (1 at the latent's frames, then multiplied by each upsampling). The
upsampling layers, through which all sound goes, are groups of their own and read 16 bits where they are integers. Each
group is quantised alone and its damage to the sound measured; then groups become float again, those first that free the
most of the gates for the least arithmetic, until the whole is well within them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from gsvexport.artifact.manifest import Decisions, digits
from gsvexport.artifact.manifest import Group as Decided
from gsvexport.backends.lowered import ALLOWED, probes
from gsvexport.backends.onnxruntime.recipes import quantised
from gsvexport.backends.onnxruntime.session import open_session
from gsvexport.graphs.save import save_graphs
from gsvexport.passes.base import constant, producer, run_passes
from gsvexport.passes.polyphase import PHASES

_TO = "to "
Array = NDArray[Any]
Feeds = Mapping[str, Array]
Attempt = tuple[ir.Model, float, tuple[str, ...]]  # a lowered graph, the share of the gates that it uses, in words


@dataclass(frozen=True)
class Quantised:
    """The lowered graph, and what was measured and decided, in words and in numbers."""

    model: ir.Model
    notes: tuple[str, ...]
    decisions: Decisions


def quantised_tensors(model: ir.Model) -> list[str]:
    """Names of all that needs a range: every convolution's input and output, and what is summed with its output."""
    found: set[ir.Value | None] = set()
    for node in model.graph:
        if node.op_type == "Conv":
            found |= {node.inputs[0], node.outputs[0]}
        elif node.op_type == "Add" and any(producer(value, "Conv") for value in node.inputs):
            found |= {*node.inputs, *node.outputs}
    return sorted(value.name for value in found if value is not None and value.name and constant(value) is None)


@dataclass(frozen=True)
class Group:
    """Convolutions that run at one rate: their names, and `cost`, the multiplications for each frame of the latent.

    `leads_to` is the group of layers at the rate that an upsampling layer leads to.
    """

    nodes: tuple[str, ...]
    cost: int
    leads_to: str | None = None


def groups(model: ir.Model) -> dict[str, Group]:
    """Convolutions by the rate of their output relative to the latent's frames: "x1", "x10", …, those that lead to such
    a rate, "to x10", …, and the "last" one."""
    rates: dict[ir.Value, int] = {}
    found: dict[str, dict[str, int]] = {}
    last = ""
    for node in model.graph:
        before = max((rates.get(value, 1) for value in node.inputs if value is not None), default=1)
        rate = before * int(node.metadata_props.get(PHASES, "1"))
        rates.update(dict.fromkeys(node.outputs, rate))
        weight = constant(node.inputs[1]) if node.op_type == "Conv" else None
        if weight is not None:
            assert node.name is not None
            last = node.name
            found.setdefault(f"to x{rate}" if PHASES in node.metadata_props else f"x{rate}", {})[last] = (
                before * weight.size
            )
    final = next(costs.pop(last) for costs in found.values() if last in costs)
    leads = {name: name.removeprefix(_TO) if name.startswith(_TO) else None for name in found}
    named = {name: Group(tuple(costs), sum(costs.values()), leads[name]) for name, costs in found.items() if costs}
    return {**named, "last": Group((last,), final)}


def quantise(
    model: ir.Model,
    ranges: Mapping[str, tuple[float, float]],
    feeds: Sequence[Feeds],
    features: Sequence[str],
    damage: Callable[[Sequence[tuple[Array, Array]]], float],
) -> Quantised:
    """`model` (float, 2-D, polyphase) on integers, with as many layers float as it takes to stay clear of the gates.

    `damage` is `Calibration.damage` of `probes(feeds)`.
    """
    given = probes(feeds)
    expected = _run(model, given)
    layers = groups(model)
    every = tuple(node for group in layers.values() for node in group.nodes)
    between = {str(node.name) for node in model.graph if PHASES in node.metadata_props}

    def attempt(skip: Sequence[str]) -> Attempt:
        wide = [node for node in every if node in between and node not in skip]
        result = run_passes(model, quantised(ranges, features, skip, wide))
        share = damage(list(zip(expected, _run(result.model, given), strict=True)))
        return result.model, share, tuple(note for _, outcome in result.applied[:-1] for note in outcome.notes)

    alone = {name: attempt([node for node in every if node not in group.nodes])[1] for name, group in layers.items()}

    def without(kept: Sequence[str]) -> Attempt:
        return attempt([node for group in kept for node in layers[group].nodes])

    costs = {name: group.cost for name, group in layers.items()}
    kept, (lowered, reached, notes) = freed(attempt(()), alone, costs, without)
    # An upsampling layer among float ones would only turn its tensors twice.
    if lonely := [name for name, group in layers.items() if group.leads_to in kept and name not in kept]:
        kept += lonely
        lowered, reached, notes = without(kept)
    measured = ", ".join(f"{name} {value:.3g}" for name, value in alone.items())
    decided = f"float: {', '.join(kept)}" if kept else "none stays float"
    more = (f"share of the gates used with one group quantised: {measured}", f"{decided}; {reached:.3g} in all")
    counts = {name: len(group.nodes) for name, group in layers.items()}
    return Quantised(lowered, (*notes, *more), decisions(reached, alone, costs, counts, kept))


def freed(
    first: Attempt, alone: Mapping[str, float], costs: Mapping[str, int], without: Callable[[Sequence[str]], Attempt]
) -> tuple[list[str], Attempt]:
    """The groups that have to be float, and what was measured with them; `first` is what was measured with none.

    They become float one by one until at most `ALLOWED` of the gates is used. Noise powers add up, so a group frees the
    square of its share `alone`; what it costs is arithmetic in float: most freed for its cost, first.
    """
    kept: list[str] = []
    last = first
    for name in sorted(alone, key=lambda name: -(alone[name] ** 2) / costs[name]):
        if last[1] <= ALLOWED:
            break
        kept.append(name)
        last = without(kept)
    return kept, last


def decisions(
    reached: float,
    alone: Mapping[str, float],
    costs: Mapping[str, int],
    counts: Mapping[str, int],
    kept: Sequence[str],
) -> Decisions:
    """What was decided, for the manifest; all by the groups' names."""
    rows = tuple(
        Decided(name, counts[name], costs[name], digits(share), "float" if name in kept else "int8")
        for name, share in alone.items()
    )
    return Decisions(ALLOWED, digits(reached), rows)


def _run(model: ir.Model, feeds: Sequence[Feeds]) -> list[Array]:
    """The stage's only output for each of `feeds`."""
    with tempfile.TemporaryDirectory() as folder:
        save_graphs(Path(folder), {"stage": model})
        session = open_session(Path(folder, "stage.onnx"))
        outputs = [next(iter(session.run(one).values())) for one in feeds]
        session.close()
    return outputs
