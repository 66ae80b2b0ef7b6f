"""Integer-aware fine-tuning: the vocoder learns to sound like itself with the rounding of 8-bit integers in it.

What hisses in eight bits are the layers near the rate of the sound, above all in pauses, where steps that fit a vowel
are coarse. So all groups that shall be integers are rounded from the first step on (`gsvexport.slim.rounding`). Every
crop is computed twice, with rounding and without. Both are held to the teacher's sound, in spectra and in the distance
that the gates have, and to one another: a build is judged beside its own float source, so nothing but that last term
asks for what counts there, and nothing but the first two keep the voice the teacher's. Ranges are observed anew now
and then, as the backends will calibrate them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from gsvexport.signal.loudness import distance
from gsvexport.slim import rounding
from gsvexport.slim.distil import LIMIT, Run, words
from gsvexport.slim.loudness import Loudness
from gsvexport.slim.prune import Group, fill, folded, vocoder_groups
from gsvexport.slim.rounding import Manner
from gsvexport.slim.teacher import Lesson
from gsvexport.slim.vocoder import EDGE, FRAMES, crops
from gsvexport.train import loop
from gsvexport.train.vocoder import SpectralLoss
from gsvexport.voice.networks import Synthesizer
from gsvexport.voice.networks.vocoder import Generator

_SOUND = {"wave": 0.3, "edge": 0.3, "complex": 1.0, "magnitude": 6.0, "mel": 1.0, "log": 1.0}
_WATCHED, _LONGEST = 6, 40  # utterances from which ranges come, and frames of one
_PART = "dec."
_JUDGED, _HEARD = 6, 80  # utterances by which it is judged, and frames of one
_EVERY = 50  # steps between two looks at the ranges
_GATE, _OWN = 5.0, 4.0  # weights of the gates' distance to the teacher, and of both differences to the own float sound
_KEEP = 0.98  # of the average of weights: a short one, because rounding fits the weights that it was learned for
_SEED = 4


class Steps(nn.Module):
    """Ranges of all points, in a form that checkpoints keep: float64 [points, 2]."""

    def __init__(self, found: rounding.Ranges) -> None:
        super().__init__()
        self.names = list(found)
        self.register_buffer("ranges", torch.tensor(list(found.values()), dtype=torch.float64))

    def take(self, found: rounding.Ranges) -> None:
        """Hold other ranges of the same points."""
        self.get_buffer("ranges").copy_(torch.tensor([found[name] for name in self.names], dtype=torch.float64))

    def point(self) -> rounding.Point:
        """Rounds over these ranges, see `rounding.rounded`."""
        rows = self.get_buffer("ranges").tolist()
        found = {name: (low, high) for name, (low, high) in zip(self.names, rows, strict=True)}
        return rounding.rounded(found)


@torch.no_grad()
def watch(network: Generator, lesson: Lesson) -> rounding.Watch:
    """What the tensors of the float network hold, over some of the lesson."""
    found = rounding.Watch()
    for one in lesson.train[:: max(1, len(lesson.train) // _WATCHED)][:_WATCHED]:
        rounding.sound(network, one.latent[None, :, :_LONGEST], lesson.ge, found, rounding.FLOAT)
    return found


def equalised(network: Synthesizer, lesson: Lesson) -> Synthesizer:
    """The same network in float, with the channels of the vocoder's tensors at one size."""
    found = copy.deepcopy(network)
    _equalise(found.dec, vocoder_groups(network.dims, network.dims), watch(network.dec, lesson))
    return found


@torch.no_grad()
def _equalise(network: Generator, groups: Sequence[Group], seen: rounding.Watch) -> None:
    tensors = {f"{_PART}{name}": value for name, value in folded(network).items()}
    rounding.equalise(tensors, groups, seen.peaks)
    fill(network, {name.removeprefix(_PART): value for name, value in tensors.items()})


@torch.no_grad()
def held_out(network: Generator, point: rounding.Point, manner: Manner, lesson: Lesson, rate: int) -> dict[str, float]:
    """By the gates' distance (`gsvexport.signal.loudness`) that of the rounded sound to the float one ("own"), and of
    both to the teacher's; and their differences to it in mel, as `vocoder.held_out`."""
    loss, sums, some = SpectralLoss(), dict[str, float](), lesson.held_out[:_JUDGED]
    pairs: dict[str, list[tuple[Any, Any]]] = {"own.gate": [], "integers.gate": [], "float.gate": []}
    for one in some:
        latent = one.latent[None, :, :_HEARD]
        inside = (latent.shape[2] - min(EDGE, (latent.shape[2] - 1) // 2)) * (len(one.audio) // one.latent.shape[1])
        whole = rounding.sound(network, latent, lesson.ge, point, manner)[:, 0, :inside]
        plain = rounding.sound(network, latent, lesson.ge, rounding.plain, rounding.FLOAT)[:, 0, :inside]
        wanted = one.audio[None, :inside]
        for name, made in {"integers": whole, "float": plain}.items():
            key = f"{name}.mel"
            sums[key] = sums.get(key, 0.0) + float(loss(made, wanted)["mel"]) / len(some)
            pairs[f"{name}.gate"].append((wanted[0].numpy(), made[0].numpy()))
        pairs["own.gate"].append((plain[0].numpy(), whole[0].numpy()))
    return {name: distance(found, rate) for name, found in pairs.items()} | sums


def rounded(run: Run, student: Synthesizer, lesson: Lesson, manner: Manner) -> tuple[Synthesizer, dict[str, float]]:
    """`student` with a vocoder that has learned to be rounded, and its losses before and after; as it was where
    the rounded sound came no nearer to the teacher's."""
    found, rate = equalised(student, lesson), student.dims.rate
    before = held_out(found.dec, Steps(watch(found.dec, lesson).ranges()).point(), manner, lesson, rate)
    run.say(f"rounded: {words(before)}")
    found.dec, steps = learn(run, found, lesson, manner)
    after = held_out(found.dec, steps.point(), manner, lesson, rate)
    losses = {f"cut.{name}": value for name, value in before.items()}
    if not run.helped("integers.gate", before["integers.gate"], after["integers.gate"]):
        found, after = student, before
    return found, losses | {f"recovered.{name}": value for name, value in after.items()}


def learn(run: Run, student: Synthesizer, lesson: Lesson, manner: Manner) -> tuple[Generator, Steps]:
    """Train the vocoder with rounding; returns it, and the ranges that its points have at last."""
    settings, schedule = run.train, run.schedule(run.train.integer_steps)
    network, loss = copy.deepcopy(student.dec).requires_grad_(True), SpectralLoss()
    average, steps = copy.deepcopy(network), Steps(watch(network, lesson).ranges())
    loud, groups = Loudness(student.dims.rate), vocoder_groups(student.dims, student.dims)
    hop = len(lesson.train[0].audio) // lesson.train[0].latent.shape[1]
    usable = [one for one in lesson.train if one.latent.shape[1] >= FRAMES] or lesson.train
    optimiser = torch.optim.AdamW(network.parameters(), settings.integer_rate, betas=(0.8, 0.99), weight_decay=0)
    ge = lesson.ge.expand(settings.integer_batch, -1, -1)

    def step(number: int) -> Mapping[str, float]:
        random, _ = loop.generators(run.seed * 10 + _SEED, number)
        loop.set_rate(optimiser, settings.integer_rate * loop.rate(number, schedule.steps, warm=50))
        if number % _EVERY == 0:
            # The backends bring channels to one size before they round. What was learned for other sizes would be lost.
            seen = watch(network, lesson)
            for one in (network, average):
                _equalise(one, groups, seen)
            steps.take(watch(network, lesson).ranges())
        latent, wanted = crops(usable, random, settings.integer_batch, hop)
        frames = latent.shape[2]
        edge = min(EDGE, (frames - 1) // 2) * hop
        plain, whole, wanted = (
            one[:, edge : frames * hop - edge]
            for one in (
                rounding.sound(network, latent, ge, rounding.plain, rounding.FLOAT)[:, 0],
                rounding.sound(network, latent, ge, steps.point(), manner)[:, 0],
                wanted,
            )
        )
        made, wanted = torch.cat([plain, whole]), torch.cat([wanted, wanted])
        parts = loss(made, wanted)
        parts["gate"], parts["own"] = loud(made, wanted), loud(whole, plain) + 0.5 * loss(whole, plain)["complex"]
        weights = {**_SOUND, "gate": _GATE, "own": _OWN}
        total = torch.stack([weight * parts[name] for name, weight in weights.items()]).sum()
        loop.update(optimiser, total, network.parameters(), LIMIT)
        run.masks.apply_to(network, _PART)
        loop.follow(average, network, number, _KEEP)
        run.masks.apply_to(average, _PART)
        return {name: parts[name].item() for name in ("wave", "magnitude", "mel", "gate", "own")}

    def held() -> str:
        return words(held_out(average, steps.point(), manner, lesson, student.dims.rate))

    state = loop.State({"student": network, "average": average, "steps": steps}, {"student": optimiser})
    loop.run("integers", run.folder / "integers.pt", schedule, state, step, held, run.say)
    _equalise(average, groups, watch(average, lesson))
    steps.take(watch(average, lesson).ranges())
    return average.requires_grad_(False).eval(), steps
