"""Products and convolutions on integers with ranges taken when they run, and a measured decision about which of them.

All together first: where that is well within the stage's gates, nothing else has to be measured. If not, each group of
layers is measured alone, and groups become float again, those first that free the most of the gates for the least
arithmetic. An order can be found on a few utterances; whether it is enough is measured on more.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes import common

from gsvexport.backends.lowered import ALLOWED
from gsvexport.backends.onnxruntime.int8 import Attempt, Quantised, decisions, freed
from gsvexport.backends.onnxruntime.recipes import dynamic
from gsvexport.backends.onnxruntime.session import open_session
from gsvexport.graphs.save import save_graphs
from gsvexport.passes.base import constant, run_passes
from gsvexport.passes.dynamic_rows import many_rows
from gsvexport.passes.integer_conv import fits
from gsvexport.passes.once_a_sentence import SINGLE

Array = NDArray[Any]
Feeds = Mapping[str, Array]

_RANKED, _DECIDED = 3, 12  # utterances: for the order of the groups, and for what is decided
_FRAMES = 256  # of a mel: noise in a row is what it is however many follow
# What gives the prior's means and deviations, 0.6 % of the arithmetic: nothing behind it weakens its error. With 8 bits
# a trained voice's latent was 32.5 dB from the source's, with this in float 34.4 (24 utterances; equal with 7 bits).
_PRIOR = "prior/"
# Parts of the names of weights, and the group that they put a product in; the first that fits.
_GROUPS = {
    "text": ("text_embed",),
    "input": ("input_embed",),
    "scores": ("to_q", "to_k", "linear_q", "linear_k", "conv_q", "conv_k"),
    "values": ("to_v", "to_out", "linear_v", "conv_v", "conv_o"),
    "feed-forward": (".ff.", "ffn"),
    "edges": (".pre.", ".post."),  # of a coupling of the flow: what gives its result goes into the latent as it is
    "flow": (".flow.", "wns"),
    "output": ("proj_out",),
}


_COUPLING = re.compile(r"\.flows\.(\d+)\.")  # each of a flow's couplings is a group of its own: most of the arithmetic


@dataclass(frozen=True)
class Group:
    """Layers that are decided together: the names of their nodes and of their outputs, and `cost`, their
    multiplications for a row or frame."""

    nodes: tuple[str, ...]
    outputs: tuple[str, ...]
    cost: int


def groups(model: ir.Model) -> dict[str, Group]:
    """The products of rows with constant weights, and the convolutions of frames, by what they do; "others" have
    another name."""
    found: dict[str, dict[tuple[str, str], int]] = {}
    products, apart = set(many_rows(model, SINGLE)), exact(model)
    for node in model.graph:
        if not (node in products and node.outputs[0].name not in apart) and not fits(node):
            continue
        weight, label = constant(node.inputs[1]), str(node.inputs[1].name)  # type: ignore[union-attr]
        assert weight is not None
        name = next((name for name, parts in _GROUPS.items() if any(part in label for part in parts)), "others")
        if name == "flow" and (coupling := _COUPLING.search(label)):
            name = f"flow {coupling[1]}"
        found.setdefault(name, {})[str(node.name), str(node.outputs[0].name)] = weight.size
    return {
        name: Group(tuple(node for node, _ in costs), tuple(out for _, out in costs), sum(costs.values()))
        for name, costs in found.items()
    }


def exact(model: ir.Model) -> list[str]:
    """Outputs of the products with constants that are float whatever is measured: tables, and the prior's."""
    return tables(model) + [
        str(node.outputs[0].name)
        for node in model.graph
        if node.op_type == "MatMul" and str(node.name).startswith(_PRIOR)
    ]


def tables(model: ir.Model) -> list[str]:
    """Outputs of the products of [1, H, S, D/H] with constants: tables of relative places, too small to gain."""
    shaped = common.ShapeInferencePass()(model.clone()).model
    products = [node for node in shaped.graph if node.op_type == "MatMul" and constant(node.inputs[1]) is not None]
    ranks = {str(one.outputs[0].name): one.inputs[0].shape for one in products}  # type: ignore[union-attr]
    return [name for name, shape in ranks.items() if shape is not None and shape.rank() == 4]


def quantise(
    stage: str,
    plain: Path,
    model: ir.Model,
    feeds: Sequence[Feeds],
    features: Sequence[str],
    damage: Callable[[Sequence[tuple[Array, Array]]], float],
) -> Quantised:
    """`model`, the float form of the graph `plain`, on integers, with as many layers float as it takes to stay clear of
    the gates. `damage` is `Calibration.damage` of the stage."""
    few, given = probes(feeds, _RANKED), probes(feeds, _DECIDED)
    wanted = {len(some): _run(plain, some) for some in (few, given)}
    layers, apart = groups(model), exact(model)

    def attempt(integers: Sequence[str], heard: Sequence[Feeds] = given) -> Attempt:
        nodes = [node for name in integers for node in layers[name].nodes]
        floats = [value for name, group in layers.items() if name not in integers for value in group.outputs]
        floats += apart
        result = run_passes(model, dynamic(stage, features, nodes, floats))
        with tempfile.TemporaryDirectory() as folder:
            save_graphs(Path(folder), {stage: result.model})
            outputs = _run(Path(folder, f"{stage}.onnx"), heard)
        notes = tuple(note for _, outcome in result.applied for note in outcome.notes)
        return result.model, damage(list(zip(wanted[len(heard)], outputs, strict=True))), notes

    counts = {name: len(group.nodes) for name, group in layers.items()}
    costs = {name: group.cost for name, group in layers.items()}
    first = lowered, reached, notes = attempt(list(layers))
    if reached <= ALLOWED:
        more = f"none stays float; {reached:.3g} of the gates used in all"
        cost, count = {"all": sum(costs.values())}, {"all": sum(counts.values())}
        return Quantised(lowered, (*notes, more), decisions(reached, {"all": reached}, cost, count, ()))
    alone = {name: attempt([name], few)[1] for name in layers}
    kept, (lowered, reached, notes) = freed(
        first, alone, costs, lambda kept: attempt([one for one in layers if one not in kept])
    )
    measured = ", ".join(f"{name} {value:.3g}" for name, value in alone.items())
    more = f"share of the gates used with one group on integers: {measured}"
    last = f"float: {', '.join(kept)}; {reached:.3g} in all"
    return Quantised(lowered, (*notes, more, last), decisions(reached, alone, costs, counts, kept))


def probes(feeds: Sequence[Feeds], count: int) -> list[dict[str, Array]]:
    """What is judged on: so many of the feeds, from the first to the last, those of a mel cut to `_FRAMES`."""
    some = feeds[:: max(1, len(feeds) // count)][:count]
    cut = ("state", "prompt_mel", "fea")
    return [
        {name: one[:, :, :_FRAMES] if name in cut and "state" in feed else one for name, one in feed.items()}
        for feed in some
    ]


def _run(path: Path, feeds: Sequence[Feeds]) -> list[Array]:
    """The stage's first output for each of `feeds`."""
    session = open_session(path)
    outputs = [next(iter(session.run(one).values())) for one in feeds]
    session.close()
    return outputs
