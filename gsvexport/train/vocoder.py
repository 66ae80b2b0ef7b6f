"""The vocoder: latent → waveform, by regression, with a light adversarial stage at the end.

The grid makes the waveform a function of the latent, its noise included. So the loss may compare samples and complex
spectra, not only magnitudes, at all frequencies.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from gsvexport.train import loop
from gsvexport.train.data import Acoustic, Heard
from gsvexport.train.discriminators import Discriminators, fooled, matched, told_apart
from gsvexport.train.grid import HOP, RATE
from gsvexport.train.shape import SOVITS
from gsvexport.train.speech import BANDS
from gsvexport.voice.networks.vocoder import Generator

REGRESSION = loop.Schedule(8000, save=200, report=100, evaluate=500)
ADVERSARIAL = loop.Schedule(1000, save=100, report=50, evaluate=200)
_BATCH, _FRAMES = 8, 26
_EDGE = 2  # frames at each end of a crop that hear silence instead of their neighbours, and are not compared
_ADVERSARIAL_BATCH, _ADVERSARIAL_FRAMES = 5, 20
_RATE, _ADVERSARIAL_RATE = 3e-3, 3e-4
_SIZES = (256, 512, 1024, 2048)
_MEL = {512: 48, 1024: 80}  # bands by transform size
_COMPRESSION = 0.35  # spectra are divided by their magnitude to the power of twice this
_FLOOR = 1e-4
_PIVOT = 1500.0  # Hz; above it complex differences count less and less
_USUAL_AMPLITUDE, _USUAL_EDGE = 0.04, 0.012  # mean of |audio|, and of what a filter leaves that lifts high sounds
_WAVE_ONLY = 0.05  # the share that looks at the waveform alone; the others come in over as many more
# until which share of all steps which weights of the losses hold
_WEIGHTS = (
    (0.275, {"wave": 1.0, "edge": 0.5, "complex": 2.0, "magnitude": 2.0, "mel": 0.2}),
    (0.55, {"wave": 0.3, "edge": 0.3, "complex": 2.0, "magnitude": 4.0, "mel": 1.0}),
    (math.inf, {"wave": 0.1, "edge": 0.1, "complex": 0.7, "magnitude": 4.0, "mel": 1.0, "log": 1.0}),
)
_REGRESSED = 3.0  # what they count against the judges
_BLUR = 0.05  # deviation of what is added to the bands: the encoder will not be exact either
_PREDICTED = 0.6  # the share of crops whose latent comes from the encoder, once there is one
_SEED = 10


@dataclass(frozen=True)
class Stream:
    """All recordings one after the other: `latents` [n, C] (true, and perhaps predicted), `audio` int16 [n·HOP]."""

    latents: tuple[Tensor, ...]
    audio: Tensor
    references: Tensor


def stream(data: Acoustic, predicted: list[Tensor] | None) -> Stream:
    """The recordings to train on; `predicted` are the encoder's latents [2T, C] of the same utterances."""
    latents = [torch.cat([one.latent for one in data.train])]
    if predicted is not None:
        latents.append(torch.cat(predicted))
    return Stream(tuple(latents), torch.cat([one.audio for one in data.train]), data.references)


def regress(
    generator: Generator, data: Acoustic, path: Path, schedule: loop.Schedule, device: str, say: loop.Say
) -> None:
    """Train `generator` by regression alone; the checkpoint's network "average" is the one to use."""
    source = stream(data, None)
    generator.to(device)
    average = copy.deepcopy(generator).eval()
    loss = SpectralLoss().to(device)
    optimiser = torch.optim.AdamW(generator.parameters(), _RATE, betas=(0.8, 0.99), weight_decay=1e-3)

    def step(number: int) -> Mapping[str, float]:
        latent, wanted, ge = _crops(source, number, _BATCH, _FRAMES, device)
        loop.set_rate(optimiser, _RATE * loop.rate(number, schedule.steps, warm=40))
        parts = loss(_inside(generator(latent, ge)[:, 0]), _inside(wanted))
        loop.update(optimiser, _weighted(parts, number / schedule.steps), generator.parameters(), 3.0)
        loop.follow(average, generator, number, 0.998)
        return {name: value.item() for name, value in parts.items()}

    state = loop.State({"generator": generator, "average": average}, {"generator": optimiser})
    loop.run("vocoder", path, schedule, state, step, lambda: held_out(average, data, device), say)


def refine(
    generator: Generator,
    data: Acoustic,
    predicted: list[Tensor],
    path: Path,
    schedule: loop.Schedule,
    device: str,
    say: loop.Say,
) -> None:
    """The adversarial stage, on true latents and on the encoder's; "average" is the network to use."""
    source = stream(data, predicted)
    generator.to(device)
    average = copy.deepcopy(generator).eval()
    torch.manual_seed(_SEED)
    judges = Discriminators().to(device)
    loss = SpectralLoss().to(device)
    ours = torch.optim.AdamW(generator.parameters(), _ADVERSARIAL_RATE, betas=(0.8, 0.99), weight_decay=1e-3)
    theirs = torch.optim.AdamW(judges.parameters(), _ADVERSARIAL_RATE, betas=(0.8, 0.99), weight_decay=1e-3)

    def step(number: int) -> Mapping[str, float]:
        latent, wanted, ge = _crops(source, number, _ADVERSARIAL_BATCH, _ADVERSARIAL_FRAMES, device)
        share = loop.rate(number, schedule.steps, warm=50)
        loop.set_rate(ours, _ADVERSARIAL_RATE * share)
        loop.set_rate(theirs, 2 * _ADVERSARIAL_RATE * share)
        made, real = _inside(generator(latent, ge)[:, 0]), _inside(wanted)
        known = judges(real)
        judged = told_apart(known, judges(made.detach()))
        loop.update(theirs, judged, judges.parameters(), 10.0)
        parts = loss(made, real)
        seen = judges(made)
        trick, match = fooled(seen), matched(known, seen)
        trust = min(1.0, number / 200)  # the judges are new, so what they say counts little at first
        total = _REGRESSED * _weighted(parts, 1.0) + trust * (trick + 2 * match)
        loop.update(ours, total, generator.parameters(), 10.0)
        loop.follow(average, generator, number, 0.995)
        return {
            name: value.item()
            for name, value in (*parts.items(), ("judges", judged), ("trick", trick), ("match", match))
        }

    state = loop.State(
        {"generator": generator, "average": average, "judges": judges}, {"generator": ours, "judges": theirs}
    )
    loop.run("adversarial", path, schedule, state, step, lambda: held_out(average, data, device), say)


@torch.no_grad()
def render(generator: Generator, latent: Tensor, ge: Tensor) -> Tensor:
    """The waveform [F·HOP] of a latent [F, C] with conditioning [512, 1]."""
    device = next(generator.parameters()).device
    return generator(latent.T[None].to(device), ge[None].to(device))[0, 0].cpu()


@torch.no_grad()
def held_out(generator: Generator, data: Acoustic, device: str) -> str:
    """Losses and correlation with the target over some validation sentences."""
    loss = SpectralLoss().to(device)
    sums: dict[str, float] = {}
    some = data.valid[:8]
    for one in some:
        made = render(generator, one.latent, data.references[0]).to(device)
        wanted = one.audio.to(device).float() / 32768
        correlation = functional.cosine_similarity(made, wanted, dim=0)
        for name, value in (*loss(made[None], wanted[None]).items(), ("correlation", correlation)):
            sums[name] = sums.get(name, 0.0) + value.item() / len(some)
    return "  ".join(f"{name} {value:.3f}" for name, value in sums.items())


class SpectralLoss(nn.Module):
    """Differences of audio [B, N] to the target: samples, complex spectra and magnitudes (compressed), logarithms.

    Compression by a power, as speech enhancement uses it, lets quiet and loud parts of a spectrum count alike.
    """

    def __init__(self) -> None:
        super().__init__()
        for size in _SIZES:
            self.register_buffer(f"window{size}", torch.hann_window(size), persistent=False)
            weight = 1 / (1 + torch.linspace(0, RATE / 2, size // 2 + 1) / _PIVOT)
            self.register_buffer(f"weight{size}", (weight / weight.mean())[:, None], persistent=False)
        for size, count in _MEL.items():
            self.register_buffer(f"mel{size}", mel_bands(size, count), persistent=False)

    def forward(self, made: Tensor, wanted: Tensor) -> dict[str, Tensor]:  # noqa: D102 - the class says it
        apart = made - wanted
        wave = apart.abs().mean() / _USUAL_AMPLITUDE
        edge = (apart[:, 1:] - 0.95 * apart[:, :-1]).abs().mean() / _USUAL_EDGE
        complex_, magnitude, log, mel = (made.new_zeros(()) for _ in range(4))
        for size in _SIZES:
            weight = self.get_buffer(f"weight{size}")
            ours, theirs = self._spectrum(made, size), self._spectrum(wanted, size)
            our_power, their_power = (value.abs().square() + _FLOOR for value in (ours, theirs))
            our_gain, their_gain = our_power**-_COMPRESSION, their_power**-_COMPRESSION
            turned = ((ours * our_gain - theirs * their_gain).abs().square() + 1e-6).sqrt()
            louder = (our_power.sqrt() * our_gain - their_power.sqrt() * their_gain).abs()
            complex_ = complex_ + (turned * weight).mean() / len(_SIZES)
            magnitude = magnitude + louder.mean() / len(_SIZES)
            log = log + (our_power / their_power).log().abs().mean() / 2 / len(_SIZES)
            if size in _MEL:
                bands = self.get_buffer(f"mel{size}")
                logs = [torch.log(bands @ power + 1e-5) for power in (our_power, their_power)]
                mel = mel + (logs[0] - logs[1]).abs().mean() / len(_MEL)
        return {"wave": wave, "edge": edge, "complex": complex_, "magnitude": magnitude, "log": log, "mel": mel}

    def _spectrum(self, audio: Tensor, size: int) -> Tensor:
        window = self.get_buffer(f"window{size}")
        found = torch.stft(audio, size, size // 4, size, window, return_complex=True, pad_mode="constant")
        return found * (16 / size**0.5)


def mel_bands(size: int, count: int) -> Tensor:
    """Triangles on the mel scale, each of weight 1, over the bins of a transform: [count, size/2 + 1]."""
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + RATE / 1400), count + 2) / 2595) - 1)
    hertz = np.linspace(0, RATE / 2, size // 2 + 1)
    rising = (hertz - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - hertz) / np.diff(edges)[1:, None]
    bands = np.maximum(1e-6, np.minimum(rising, falling))
    return torch.from_numpy(bands / bands.sum(axis=1, keepdims=True)).float()


def _weighted(parts: Mapping[str, Tensor], done: float) -> Tensor:
    """The sum to minimise when the share `done` of all steps is done.

    At the start everything but the waveform leads astray: a network that does not know the phase yet is best off silent
    by the complex spectra, and picks a phase of its own by the magnitudes. The waveform alone shows it the phase within
    100 steps. Later it counts little, because it is mostly made of what lies below 1 kHz; and at last the logarithms of
    magnitudes count most, because what of the phase is not learned by then only makes the high bands quieter.
    """
    weights = next(weights for until, weights in _WEIGHTS if done < until)
    share = min(1.0, max(0.0, done - _WAVE_ONLY) / _WAVE_ONLY)
    shares = {name: weight * (1.0 if name == "wave" else share) for name, weight in weights.items()}
    return torch.stack([weight * parts[name] for name, weight in shares.items()]).sum()


def _crops(source: Stream, number: int, batch: int, frames: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Latents [B, C, F], audio [B, F·HOP] in ±1 and conditionings [B, 512, 1] of one step."""
    random, noise = loop.generators(_SEED, number)
    starts = random.integers(0, len(source.latents[0]) - frames, batch)
    chosen = [source.latents[-1 if random.random() < _PREDICTED else 0][start : start + frames] for start in starts]
    latent = torch.stack(chosen)
    latent[..., : 2 * BANDS] += _BLUR * torch.randn((*latent.shape[:2], 2 * BANDS), generator=noise)
    audio = torch.stack([source.audio[start * HOP : (start + frames) * HOP] for start in starts]).float() / 32768
    ge = source.references[random.integers(0, len(source.references), batch)]
    return latent.mT.contiguous().to(device), audio.to(device), ge.to(device)


def _inside(audio: Tensor) -> Tensor:
    return audio[:, _EDGE * HOP : -_EDGE * HOP]


def heard_seconds(found: list[Heard]) -> float:
    """How much audio there is."""
    return sum(len(one.audio) for one in found) / SOVITS.rate
