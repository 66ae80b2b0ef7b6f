"""The vocoder: its sound on the teacher's latents, and its recovery."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gsvexport.slim.distil import KEEP, LIMIT, Measure, Run, along, inputs, instead, relative, words
from gsvexport.slim.teacher import Lesson, Utterance
from gsvexport.train import loop
from gsvexport.train.vocoder import SpectralLoss
from gsvexport.voice.networks import Synthesizer
from gsvexport.voice.networks.vocoder import Generator

FRAMES, EDGE = 40, 6  # of a crop, and at each of its ends where it lacks what is beside it
_SOUND = {"wave": 0.3, "edge": 0.3, "complex": 2.0, "magnitude": 4.0, "mel": 1.0, "log": 0.5}
_SEED = 2


def _compared(audio: Tensor) -> Tensor:
    """What the losses compare of audio [N], in one row: compressed complex spectra of two sizes."""
    found = []
    for size in (512, 2048):
        window = torch.hann_window(size)
        spectrum = torch.stft(audio, size, size // 4, size, window, return_complex=True, pad_mode="constant")
        spectrum = spectrum * (16 / size**0.5)
        found.append(torch.view_as_real(spectrum * (spectrum.abs().square() + 1e-4) ** -0.35).flatten())
    return torch.cat(found)


def _spoken(network: Synthesizer, one: Utterance, lesson: Lesson, start: int, frames: int) -> Tensor:
    """Sound [frames·hop] of some frames of an utterance's latent."""
    return network.vocoder(one.latent[None, :, start : start + frames], lesson.ge)[0]


@torch.no_grad()
def held_out(student: Synthesizer, held: Sequence[Utterance], lesson: Lesson) -> dict[str, float]:
    """Differences of the sound to the teacher's, on its latents: of the mel's logarithms, and of spectra."""
    loss, sums = SpectralLoss(), {"mel": 0.0, "magnitude": 0.0, "complex": 0.0}
    for one in held:
        parts = loss(_spoken(student, one, lesson, 0, one.latent.shape[1])[None], one.audio[None])
        for name in sums:
            sums[name] += float(parts[name]) / len(held)
    return {f"vocoder.{name}": value for name, value in sums.items()}


def learn(
    run: Run, student: Synthesizer, teacher: Synthesizer, kept: Sequence[Tensor | None], lesson: Lesson
) -> Generator:
    """Train the vocoder: sound against the teacher's, and what comes out of each stage.

    `kept` are the channels of the teacher's that each stage's sum still has (None: all of them), the first stage's
    input included.
    """
    settings, schedule = run.train, run.schedule(run.train.vocoder_steps)
    network, loss = copy.deepcopy(student.dec).requires_grad_(True), SpectralLoss()
    hop = len(lesson.train[0].audio) // lesson.train[0].latent.shape[1]
    usable = [one for one in lesson.train if one.latent.shape[1] >= FRAMES] or lesson.train
    average = copy.deepcopy(network)
    optimiser = torch.optim.AdamW(network.parameters(), settings.vocoder_rate, betas=(0.8, 0.99), weight_decay=1e-3)
    ge = lesson.ge.expand(settings.vocoder_batch, -1, -1)

    def step(number: int) -> Mapping[str, float]:
        random, _ = loop.generators(run.seed * 10 + _SEED, number)
        loop.set_rate(optimiser, settings.vocoder_rate * loop.rate(number, schedule.steps, warm=50))
        latent, wanted = crops(usable, random, settings.vocoder_batch, hop)
        frames = latent.shape[2]
        edge = min(EDGE, (frames - 1) // 2) * hop
        inner = wanted.new_zeros(())
        with inputs([*list(network.ups)[1:], network.conv_post]) as ours:
            made = network(latent, ge)[:, 0]
        if settings.features:
            others: Any = teacher.dec
            with torch.no_grad(), inputs([*list(others.ups)[1:], others.conv_post]) as theirs:
                others(latent, ge)
            inner = torch.stack(
                [
                    relative(mine, other if index is None else other[:, index])
                    for mine, other, index in zip(ours, theirs, kept[1:], strict=True)
                ]
            ).mean()
        parts = loss(made[:, edge : frames * hop - edge], wanted[:, edge : frames * hop - edge])
        total = torch.stack([weight * parts[name] for name, weight in _SOUND.items()]).sum()
        loop.update(optimiser, total + settings.features * inner, network.parameters(), LIMIT)
        run.masks.apply_to(network, "dec.")
        loop.follow(average, network, number, KEEP)
        run.masks.apply_to(average, "dec.")
        return {**{name: parts[name].item() for name in ("wave", "magnitude", "mel")}, "features": inner.item()}

    def held() -> str:
        with instead(student, "dec", average):
            return words(held_out(student, lesson.held_out, lesson))

    state = loop.State({"student": network, "average": average}, {"student": optimiser})
    loop.run("vocoder", run.folder / "vocoder.pt", schedule, state, step, held, run.say)
    return average.eval()


def crops(usable: Sequence[Utterance], random: np.random.Generator, batch: int, hop: int) -> tuple[Tensor, Tensor]:
    """Latents [B, I, F] and their audio [B, F·hop] from random places of random utterances."""
    chosen = [usable[int(place)] for place in random.integers(len(usable), size=batch)]
    frames = min(FRAMES, *(one.latent.shape[1] for one in chosen))
    starts = [int(random.integers(one.latent.shape[1] - frames + 1)) for one in chosen]
    places = list(zip(chosen, starts, strict=True))
    latent = torch.stack([one.latent[:, at : at + frames] for one, at in places])
    return latent, torch.stack([one.audio[at * hop : (at + frames) * hop] for one, at in places])


def measures(network: Synthesizer, lesson: Lesson, count: int, seed: int) -> Iterator[Measure]:
    """Its spectra along random directions, of `count` crops."""
    for place in range(count):
        random, generator = loop.generators(seed * 10 + _SEED, place)
        one = lesson.train[int(random.integers(len(lesson.train)))]
        frames = min(FRAMES, one.latent.shape[1])
        start = int(random.integers(one.latent.shape[1] - frames + 1))
        yield partial(_measure, network, one, lesson, start, frames, generator)


def _measure(
    network: Synthesizer, one: Utterance, lesson: Lesson, start: int, frames: int, generator: torch.Generator
) -> Tensor:
    return along(_compared(_spoken(network, one, lesson, start, frames)), generator)
