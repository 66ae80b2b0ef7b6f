"""Which channels stay, and really smaller tensors of them.

Every group of channels that has to go together (all that a residual sum connects) has one gate for each channel, at
1. What counts is how far the outputs move when a gate does, to first order: a channel that moves little can go. At the
teacher itself the loss against the teacher is 0 and so is its slope; therefore the square of the outputs' own movement
is measured, along random directions (Hutchinson), in what the losses compare. For T2S, whose output is a distribution,
that is the square of the slope of the drawn code's log-likelihood (Fisher, as Molchanov et al. 2019, arXiv 1906.10771).
The layers of T2S are few: the loss without each of them is measured itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gsvexport.voice.dims import SovitsDims, T2SDims
from gsvexport.voice.networks import Synthesizer, Text2Semantic
from gsvexport.voice.networks.layers import NormedConv1d, NormedConvTranspose1d

Kept = dict[str, Tensor]  # group → indices that stay, rising


@dataclass(frozen=True)
class Group:
    """Channels that go together: `count` of them, of which `keep` stay.

    `producers` are modules whose outputs are gated, `takers` those whose inputs are; `slots` are (tensor, axis) of
    everything that has to be cut. A channel is `width` entries of an axis (one head), 1 elsewhere.
    """

    name: str
    count: int
    keep: int
    producers: tuple[str, ...]
    slots: tuple[tuple[str, int], ...]
    takers: tuple[str, ...] = ()
    width: int = 1


def vocoder_groups(dims: SovitsDims, new: SovitsDims) -> list[Group]:
    """The vocoder's: what each stage's residual sums carry, and what lies inside of each block."""
    found, stages, blocks = [], len(dims.upsample_rates), len(dims.resblock_kernels)
    pairs = len(dims.resblock_dilations[0]) if dims.resblock_dilations else 0
    for stage in range(stages + 1):
        many, few = dims.upsample_initial >> stage, new.upsample_initial >> stage
        producers, slots = list[str](), list[tuple[str, int]]()
        if stage == 0:
            producers = ["dec.conv_pre", "dec.cond"]
            slots = [(f"{one}.{part}", 0) for one in producers for part in ("weight", "bias")]
        else:
            before = f"dec.ups.{stage - 1}"
            producers, slots = [before], [(f"{before}.weight", 1), (f"{before}.bias", 0)]
            for block in (f"dec.resblocks.{(stage - 1) * blocks + one}" for one in range(blocks)):
                for place in range(pairs):
                    first, last = f"{block}.convs1.{place}", f"{block}.convs2.{place}"
                    if dims.resblock == "2":
                        first = last = f"{block}.convs.{place}"
                    else:
                        inner = [(f"{first}.weight", 0), (f"{first}.bias", 0), (f"{last}.weight", 1)]
                        found.append(Group(f"{block}.{place}", many, few, (first,), tuple(inner)))
                    producers.append(last)
                    slots += [(f"{first}.weight", 1), (f"{last}.weight", 0), (f"{last}.bias", 0)]
        after = f"dec.ups.{stage}" if stage < stages else "dec.conv_post"
        slots.append((f"{after}.weight", 0 if stage < stages else 1))
        found.append(Group(f"dec.{stage}", many, few, tuple(producers), tuple(slots)))
    return found


def prior_groups(dims: SovitsDims, new: SovitsDims) -> list[Group]:
    """The inner rows of the text encoder's feed-forward parts."""
    found = []
    for name, layers in (("ssl", dims.ssl_layers), ("text", dims.text_layers), ("2", dims.mix_layers)):
        for layer in range(layers):
            feed = f"enc_p.encoder{'_' if name != '2' else ''}{name}.ffn_layers.{layer}"
            slots = ((f"{feed}.conv_1.weight", 0), (f"{feed}.conv_1.bias", 0), (f"{feed}.conv_2.weight", 1))
            found.append(Group(feed, dims.filter, new.filter, (f"{feed}.conv_1",), slots))
    return found


def t2s_groups(dims: T2SDims, new: T2SDims, layers: Sequence[int]) -> list[Group]:
    """Heads and feed-forward rows of the layers that stay. (The residual's channels are not chosen: see `spread`.)"""
    found, head = [], dims.width // dims.heads
    for layer in (f"h.layers.{one}" for one in layers):
        rows = ((f"{layer}.linear1.weight", 0), (f"{layer}.linear1.bias", 0), (f"{layer}.linear2.weight", 1))
        found.append(Group(f"{layer}.rows", 4 * dims.width, 4 * new.width, (f"{layer}.linear1",), rows))
        out = f"{layer}.self_attn.out_proj"
        heads = ((f"{out}.weight", 1),)
        found.append(Group(f"{layer}.heads", dims.heads, new.heads, (), heads, takers=(out,), width=head))
    return found


def spread(width: int, new: int) -> Tensor:
    """Which channels of the residual of T2S stay: pairs of a sine and a cosine, evenly.

    The position table of a narrower network has other frequencies: pair j has those of the wider one's pair j·old/new.
    So that pair's channels are taken, and positions keep their meaning as far as a narrower table lets them.
    """
    pairs = torch.arange(new // 2) * width // new
    return torch.stack([2 * pairs, 2 * pairs + 1], dim=1).flatten()


def importance(network: nn.Module, groups: Sequence[Group], measure: Iterable[Callable[[], Tensor]]) -> Kept:
    """Which channels of each group stay. Each item of `measure` computes one scalar to differentiate."""
    device = next(network.parameters()).device
    groups = [group for group in groups if group.keep < group.count]
    if not groups:
        return {}
    gates = {group.name: torch.ones(group.count, device=device, requires_grad=True) for group in groups}
    scores = {group.name: torch.zeros(group.count, device=device) for group in groups}
    with _gated(network, groups, gates):
        for one in measure:
            slopes = torch.autograd.grad(one(), list(gates.values()))
            for score, slope in zip(scores.values(), slopes, strict=True):
                score += slope.square()
    kept = {}
    for group in groups:
        best = torch.argsort(scores[group.name], descending=True, stable=True)[: group.keep]
        kept[group.name] = best.sort().values.cpu()
    return kept


@contextmanager
def _gated(network: nn.Module, groups: Sequence[Group], gates: dict[str, Tensor]) -> Iterator[None]:
    hooks = []
    for group in groups:
        gate = gates[group.name]
        for name in group.producers:
            module = network.get_submodule(name)
            last = isinstance(module, nn.Linear)  # [B, S, C]; convolutions have [B, C, T]

            def out(_: nn.Module, __: Any, made: Tensor, gate: Tensor = gate, last: bool = last) -> Tensor:
                return made * (gate if last else gate[:, None])

            hooks.append(module.register_forward_hook(out))
        for name in group.takers:

            def into(_: nn.Module, given: Any, gate: Tensor = gate, width: int = group.width) -> Any:
                return (given[0] * gate.repeat_interleave(width),)

            hooks.append(network.get_submodule(name).register_forward_pre_hook(into))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def folded(network: nn.Module) -> dict[str, Tensor]:
    """All tensors by name, weight norm folded: NAME.weight in place of NAME.weight_g and NAME.weight_v."""
    tensors = {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
    for name, module in network.named_modules():
        if isinstance(module, (NormedConv1d, NormedConvTranspose1d)):
            tensors[f"{name}.weight"] = module.weight.detach().cpu().clone()
            del tensors[f"{name}.weight_g"], tensors[f"{name}.weight_v"]
    return tensors


def fill(network: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Put folded tensors into a network, strictly: none may be missing, left over or of another shape."""
    tensors = dict(tensors)
    for name, module in network.named_modules():
        if isinstance(module, (NormedConv1d, NormedConvTranspose1d)):
            weight = tensors.pop(f"{name}.weight")
            length = torch.linalg.vector_norm(weight, dim=(1, 2), keepdim=True)
            tensors[f"{name}.weight_g"] = length
            tensors[f"{name}.weight_v"] = torch.where(length > 0, weight, torch.ones_like(weight))
    network.load_state_dict(tensors)


def cut(tensors: dict[str, Tensor], groups: Sequence[Group], kept: Kept) -> None:
    """Take what stays of every tensor of the groups, in place."""
    for group in groups:
        if group.name not in kept:
            continue
        index = _entries(kept[group.name], group.width)
        for name, axis in group.slots:
            tensors[name] = tensors[name].index_select(axis, index)


def _entries(channels: Tensor, width: int) -> Tensor:
    return (channels[:, None] * width + torch.arange(width)).flatten()


def smaller_sovits(teacher: Synthesizer, new: SovitsDims, kept: Kept) -> Synthesizer:
    """The student's SoVITS, cut out of the teacher's."""
    tensors = folded(teacher)
    cut(tensors, [*vocoder_groups(teacher.dims, new), *prior_groups(teacher.dims, new)], kept)
    student = Synthesizer(new)
    fill(student, tensors)
    return student.eval()


def smaller_t2s(
    teacher: Text2Semantic, dims: T2SDims, new: T2SDims, layers: Sequence[int], kept: Kept
) -> Text2Semantic:
    """The student's T2S: the layers that stay, and of them the residual's channels, heads and rows that stay."""
    tensors = folded(teacher)
    cut(tensors, t2s_groups(dims, new, layers), kept)
    if new.width < dims.width:
        _narrow(tensors, dims, layers, kept, spread(dims.width, new.width))
    named = {f"h.layers.{old}.": f"h.layers.{place}." for place, old in enumerate(layers)}
    chosen = {}
    for name, value in tensors.items():
        if name.startswith("h.layers."):
            prefix = ".".join(name.split(".")[:3]) + "."
            if prefix not in named:
                continue
            name = named[prefix] + name[len(prefix) :]
        chosen[name] = value
    student = Text2Semantic(new)
    fill(student, chosen)
    return student.eval()


def _narrow(tensors: dict[str, Tensor], dims: T2SDims, layers: Sequence[int], kept: Kept, residual: Tensor) -> None:
    """The residual's channels everywhere, and the heads in the packed projection, which no group reaches."""

    def take(name: str, axis: int, index: Tensor) -> None:
        tensors[name] = tensors[name].index_select(axis, index)

    for name in ("ar_text_embedding.word_embeddings", "ar_audio_embedding.word_embeddings", "ar_predict_layer"):
        take(f"{name}.weight", 1, residual)
    take("bert_proj.weight", 0, residual)
    take("bert_proj.bias", 0, residual)
    head = dims.width // dims.heads
    for layer in (f"h.layers.{one}" for one in layers):
        heads = kept.get(f"{layer}.heads")
        inner = torch.arange(dims.width) if heads is None else _entries(heads, head)
        packed = torch.cat([inner + part * dims.width for part in range(3)])  # query, key, value
        attention = f"{layer}.self_attn"
        take(f"{attention}.in_proj_weight", 0, packed)
        take(f"{attention}.in_proj_bias", 0, packed)
        take(f"{attention}.in_proj_weight", 1, residual)
        take(f"{attention}.out_proj.weight", 0, residual)
        take(f"{attention}.out_proj.bias", 0, residual)
        take(f"{layer}.linear1.weight", 1, residual)
        take(f"{layer}.linear2.weight", 0, residual)
        take(f"{layer}.linear2.bias", 0, residual)
        for norm in ("norm1", "norm2"):
            take(f"{layer}.{norm}.weight", 0, residual)
            take(f"{layer}.{norm}.bias", 0, residual)


def layers_that_stay(network: Text2Semantic, keep: int, loss: Callable[[], float]) -> list[int]:
    """The layers without which the loss grows most, each left out alone; rising."""
    layers: Any = network.h.layers
    count = len(layers)
    if keep == count:
        return list(range(count))
    costs = []
    for number in range(count):
        whole = list(layers)
        network.h.layers = nn.ModuleList([one for place, one in enumerate(whole) if place != number])
        try:
            costs.append(loss())
        finally:
            network.h.layers = nn.ModuleList(whole)
    order = sorted(range(count), key=lambda number: (-costs[number], number))
    return sorted(order[:keep])
