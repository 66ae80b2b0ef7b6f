"""T2S: what it says of every code, and its recovery."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from gsvexport.slim.distil import KEEP, LIMIT, Measure, Run, outputs, relative, words
from gsvexport.slim.teacher import Lesson, Written
from gsvexport.stages import BERT_WIDTH
from gsvexport.train import loop
from gsvexport.voice.networks import Text2Semantic

_SEED = 1
_REMEMBERED = 1 << 30  # bytes of what the teacher said, at most


def told(network: Text2Semantic, one: Written) -> Tensor:
    """Scores [T+1, V] of every code after the prompt and of the end, each given those before it."""
    start = len(one.phones) + len(one.prompt) - 1
    codes = torch.cat([one.prompt, one.codes])[None]
    bert = torch.zeros(1, BERT_WIDTH, len(one.phones))
    hidden, _, _ = network(one.phones[None], bert, codes)
    scores: Tensor = network.ar_predict_layer(hidden[0, start:])
    return scores


def drawn(network: Text2Semantic, one: Written, generator: torch.Generator) -> Tensor:
    """The log-likelihood of codes that the network itself draws, one at every place."""
    logs = told(network, one).log_softmax(-1)
    codes = torch.multinomial(logs.detach().exp(), 1, generator=generator)
    return logs.gather(1, codes).sum()


def divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """KL of the teacher's distribution to the student's, the mean over all places, in nats."""
    return functional.kl_div(student.log_softmax(-1), teacher.log_softmax(-1), log_target=True, reduction="batchmean")


@torch.no_grad()
def held_out(student: Text2Semantic, teacher: Text2Semantic, held: Sequence[Written]) -> dict[str, float]:
    """KL in nats, and how often the likeliest code is the teacher's, over all places of the held-out part."""
    apart, same, places = 0.0, 0, 0
    for one in held:
        ours, theirs = told(student, one), told(teacher, one)
        apart += float(divergence(ours, theirs)) * len(ours)
        same += int((ours.argmax(-1) == theirs.argmax(-1)).sum())
        places += len(ours)
    return {"t2s.kl": apart / places, "t2s.top1": same / places}


def learn(
    run: Run,
    student: Text2Semantic,
    teacher: Text2Semantic,
    kept: Sequence[int],
    residual: Tensor,
    lesson: Lesson,
    name: str = "t2s",
) -> Text2Semantic:
    """Train all of T2S: KL on the teacher's distributions, and the outputs of aligned layers.

    A student's layer stands for its teacher's own and those left out after it, so its output is compared with that of
    the last of them, through a learned map that begins as the channels that were taken. `name` is the checkpoint's.
    """
    settings, schedule, said = run.train, run.schedule(run.train.t2s_steps), lesson.codes
    student = copy.deepcopy(student).requires_grad_(True)
    for part, values in student.bert_proj.named_parameters():
        values.requires_grad_(part == "bias")  # the teacher's texts have no features
    ends = [after - 1 for after in [*kept[1:], len(list(teacher.h.layers))]]
    maps = nn.ModuleList([_Widen(residual, teacher.ar_predict_layer.in_features) for _ in kept])
    trained = [*student.parameters(), *maps.parameters()]
    average = copy.deepcopy(student)
    optimiser = torch.optim.AdamW([one for one in trained if one.requires_grad], settings.t2s_rate, betas=(0.9, 0.98))

    remembered: dict[str, tuple[Tensor, list[Tensor]]] = {}

    def size(scores: Tensor, layers: Sequence[Tensor]) -> int:
        return scores.nbytes + sum(layer.nbytes for layer in layers)

    @torch.no_grad()
    def theirs(one: Written) -> tuple[Tensor, list[Tensor]]:
        """The teacher's scores and aligned layers. They are the same each time, and half of a step's work."""
        if one.name in remembered:
            return remembered[one.name]
        with outputs(teacher.h.layers) as layers:
            scores = told(teacher, one)
        found = scores, [layers[end] for end in ends] if settings.features else []
        if size(*found) + sum(size(*other) for other in remembered.values()) <= _REMEMBERED:
            remembered[one.name] = found
        return found

    def compared(one: Written) -> tuple[Tensor, Tensor, Tensor]:
        """Scores of both, and how far inner layers are apart."""
        wanted, layers = theirs(one)
        with outputs(student.h.layers) as ours:
            scores = told(student, one)
        if not settings.features:
            return scores, wanted, scores.new_zeros(())
        pairs = zip(maps, ours, layers, strict=True)
        return scores, wanted, torch.stack([relative(widen(mine), other) for widen, mine, other in pairs]).mean()

    def step(number: int) -> Mapping[str, float]:
        random, _ = loop.generators(run.seed * 10 + _SEED, number)
        loop.set_rate(optimiser, settings.t2s_rate * loop.rate(number, schedule.steps, warm=100))
        chosen = [said[int(place)] for place in random.integers(len(said), size=settings.t2s_batch)]
        sums = {"kl": 0.0, "features": 0.0}

        def losses() -> Iterator[Tensor]:
            for one in chosen:
                scores, wanted, inner = compared(one)
                apart = divergence(scores, wanted)
                sums["kl"] += apart.item() / len(chosen)
                sums["features"] += inner.item() / len(chosen)
                yield (apart + settings.features * inner) / len(chosen)

        with parametrize.cached():  # weights of few bits are rounded once a step
            loop.update_by_parts(optimiser, losses(), trained, LIMIT)
        run.masks.apply(student)
        loop.follow(average, student, number, KEEP)
        run.masks.apply(average)
        return sums

    def held() -> str:
        return words(held_out(average, teacher, lesson.held_out))

    state = loop.State({"student": student, "average": average, "maps": maps}, {"student": optimiser})
    loop.run(name, run.folder / f"{name}.pt", schedule, state, step, held, run.say)
    return average.eval()


class _Widen(nn.Module):
    """[…, narrow] to […, wide]; begins by putting every channel where it was taken from."""

    def __init__(self, residual: Tensor, wide: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(wide)[residual])
        self.plain = len(residual) == wide

    def forward(self, x: Tensor) -> Tensor:
        return x if self.plain else x @ self.weight


def measures(network: Text2Semantic, lesson: Lesson, count: int, seed: int) -> Iterator[Measure]:
    """Scalars whose slopes say what heads and rows do; see `prune`."""
    for place in range(count):
        generator = torch.Generator().manual_seed(seed * 1000 + place)
        one = lesson.train[place % len(lesson.train)]
        yield partial(drawn, network, one, generator)
