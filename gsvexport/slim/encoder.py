"""The text encoder: the prior that it gives for the teacher's codes, and its recovery."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from functools import partial

import torch
from torch import Tensor

from gsvexport.slim.distil import KEEP, LIMIT, Measure, Run, along, instead, words
from gsvexport.slim.teacher import Lesson, Utterance
from gsvexport.train import loop
from gsvexport.voice.networks import Synthesizer
from gsvexport.voice.networks.encoder import TextEncoder

_SEED = 3


def prior(network: Synthesizer, one: Utterance, lesson: Lesson) -> tuple[Tensor, Tensor]:
    """Mean and log deviation of the prior, [1, I, F] each."""
    text = lesson.ge if lesson.ge_text is None else lesson.ge_text
    return network.prior(one.codes[None], one.spoken[None], text, one.latent.shape[1])


def _gaussians(ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor]) -> Tensor:
    """KL of the teacher's Gaussians to the student's, the mean over all entries, in nats."""
    (mean, log), (wanted, spread) = ours, theirs
    apart = (2 * (spread - log)).exp() + (wanted - mean).square() * (-2 * log).exp()
    return (0.5 * (apart - 1) + log - spread).mean()


@torch.no_grad()
def held_out(student: Synthesizer, teacher: Synthesizer, lesson: Lesson) -> dict[str, float]:
    """KL in nats an entry, and the mean's difference in shares of the teacher's own spread over time and channels."""
    apart, moved = 0.0, 0.0
    for one in lesson.held_out:
        ours, theirs = prior(student, one, lesson), prior(teacher, one, lesson)
        apart += float(_gaussians(ours, theirs)) / len(lesson.held_out)
        moved += float((ours[0] - theirs[0]).abs().mean() / theirs[0].std()) / len(lesson.held_out)
    return {"prior.kl": apart, "prior.mean": moved}


def learn(run: Run, student: Synthesizer, teacher: Synthesizer, lesson: Lesson) -> TextEncoder:
    """Train the text encoder: KL to the teacher's prior."""
    settings, schedule = run.train, run.schedule(run.train.prior_steps)
    network = copy.deepcopy(student.enc_p).requires_grad_(True)
    average = copy.deepcopy(network)
    optimiser = torch.optim.AdamW(network.parameters(), settings.prior_rate, betas=(0.9, 0.98), weight_decay=1e-3)

    def step(number: int) -> Mapping[str, float]:
        random, _ = loop.generators(run.seed * 10 + _SEED, number)
        loop.set_rate(optimiser, settings.prior_rate * loop.rate(number, schedule.steps, warm=50))
        chosen = [lesson.train[int(place)] for place in random.integers(len(lesson.train), size=settings.vocoder_batch)]
        sums = {"kl": 0.0}

        def losses() -> Iterator[Tensor]:
            for one in chosen:
                with torch.no_grad():
                    wanted = prior(teacher, one, lesson)
                with instead(student, "enc_p", network):
                    apart = _gaussians(prior(student, one, lesson), wanted)
                sums["kl"] += apart.item() / len(chosen)
                yield apart / len(chosen)

        loop.update_by_parts(optimiser, losses(), network.parameters(), LIMIT)
        run.masks.apply_to(network, "enc_p.")
        loop.follow(average, network, number, KEEP)
        run.masks.apply_to(average, "enc_p.")
        return sums

    def held() -> str:
        with instead(student, "enc_p", average):
            return words(held_out(student, teacher, lesson))

    state = loop.State({"student": network, "average": average}, {"student": optimiser})
    loop.run("prior", run.folder / "prior.pt", schedule, state, step, held, run.say)
    return average.eval()


def measures(network: Synthesizer, lesson: Lesson, count: int, seed: int) -> Iterator[Measure]:
    """Mean, in deviations, and log deviation along random directions, of `count` utterances."""
    for place in range(count):
        random, generator = loop.generators(seed * 10 + _SEED, place)
        one = lesson.train[int(random.integers(len(lesson.train)))]
        yield partial(_measure, network, one, lesson, generator)


def _measure(network: Synthesizer, one: Utterance, lesson: Lesson, generator: torch.Generator) -> Tensor:
    mean, log = prior(network, one, lesson)
    return along(torch.cat([(mean / log.exp().detach()).flatten(), log.flatten()]), generator)
