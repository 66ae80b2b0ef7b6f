"""The encoder `enc_p`: codes, phones and ge → the latent as the flow leaves it. Learned by regression.

The flow is not learned. So the encoder's targets are the true latents, taken through it with the ge of some reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gsvexport.train import loop
from gsvexport.train.data import Acoustic, Heard
from gsvexport.train.speech import BANDS
from gsvexport.train.tokens import Vocabulary
from gsvexport.voice.networks import Synthesizer

SCHEDULE = loop.Schedule(1600, save=200, report=50, evaluate=200)
_BATCH = 10
_RATE = 1.5e-3
_SEED = 20
_CALM = 0.3  # the share of the true deviation that is learned: frames drawn apart from each other sound rough
_LEAST_SPREAD = -4.0  # natural logarithm of the smallest deviation that is told apart


def learn(
    network: Synthesizer,
    data: Acoustic,
    known: Vocabulary,
    path: Path,
    schedule: loop.Schedule,
    device: str,
    say: loop.Say,
) -> None:
    """Train `network.enc_p`; the rest of the network stays as it is."""
    set_codebook(network, known)
    network.to(device)
    encoder = network.enc_p
    cases = [_case(network, one, data, known, device) for one in data.train]
    tests = [_case(network, one, data, known, device) for one in data.valid[:16]]
    optimiser = torch.optim.AdamW(encoder.parameters(), _RATE, betas=(0.9, 0.98), weight_decay=1e-3)

    def step(number: int) -> Mapping[str, float]:
        """Utterances one by one, so that the network needs no masks; their gradients are added up."""
        random, _ = loop.generators(_SEED, number)
        loop.set_rate(optimiser, _RATE * loop.rate(number, schedule.steps, warm=100))
        sums = {"l1": 0.0, "l2": 0.0, "nll": 0.0}
        losses = []
        for index in random.choice(len(cases), min(_BATCH, len(cases)), replace=False):
            parts = _losses(network, cases[index])
            losses.append(parts["l1"] + 0.5 * parts["l2"] + 0.02 * parts["nll"])
            for name, value in parts.items():
                sums[name] += value.item() / _BATCH
        loop.update(optimiser, torch.stack(losses).mean(), encoder.parameters(), 1.0)
        return sums

    @torch.no_grad()
    def held_out() -> str:
        encoder.eval()
        found = [_errors(network, one, case) for one, case in zip(data.valid, tests, strict=False)]
        encoder.train()
        bands, controls = np.mean(found, axis=0)
        return f"latent L1 of bands {bands:.3f}, of controls {controls:.3f}"

    state = loop.State({"encoder": encoder}, {"encoder": optimiser})
    loop.run("encoder", path, schedule, state, step, held_out, say)


@torch.no_grad()
def predict(network: Synthesizer, one: Heard, data: Acoustic, known: Vocabulary, random: torch.Generator) -> Tensor:
    """The latent [2T, C] that the vocoder will see for an utterance, with the noise of the default noise scale."""
    device = next(network.parameters()).device
    ge = data.references[one.reference][None].to(device)
    codes = torch.from_numpy(known.codes(one.keys))[None].to(device)
    noise = torch.randn((1, one.latent.shape[1], len(one.latent)), generator=random).to(device)
    latent = network.acoustic(codes, one.phones[None].to(device), ge, None, noise, 0.5)
    return latent[0].T.cpu()


def predict_all(network: Synthesizer, lines: list[Heard], data: Acoustic, known: Vocabulary) -> list[Tensor]:
    """`predict` for each of `lines`."""
    random = torch.Generator().manual_seed(_SEED)
    return [predict(network, one, data, known, random) for one in lines]


def set_codebook(network: Synthesizer, known: Vocabulary) -> None:
    """Give the quantizer the vocabulary's codebook."""
    with torch.no_grad():
        network.quantizer.codebook.copy_(torch.from_numpy(known.codebook()))


_Case = tuple[Tensor, Tensor, Tensor, Tensor]  # codes [T], phones [X], ge [512, 1], latent after the flow [C, 2T]


@torch.no_grad()
def _case(network: Synthesizer, one: Heard, data: Acoustic, known: Vocabulary, device: str) -> _Case:
    ge = data.references[one.reference].to(device)
    wanted = network.flow(one.latent.T[None].to(device), ge[None], inverse=False)[0]
    return torch.from_numpy(known.codes(one.keys)).to(device), one.phones.to(device), ge, wanted


def _losses(network: Synthesizer, case: _Case) -> dict[str, Tensor]:
    codes, phones, ge, wanted = case
    mean, spread = network.prior(codes[None], phones[None], ge[None], wanted.shape[-1])
    away = mean[0] - wanted
    spread = spread[0].clamp(min=_LEAST_SPREAD)
    likelihood = 0.5 * (_CALM * away.detach() * torch.exp(-spread)).square() + spread
    return {"l1": away.abs().mean(), "l2": away.square().mean(), "nll": likelihood.mean()}


def _errors(network: Synthesizer, one: Heard, case: _Case) -> tuple[float, float]:
    """Mean absolute error of the latent's bands and controls for one utterance, without noise."""
    codes, phones, ge, wanted = case
    made = network.acoustic(codes[None], phones[None], ge[None], None, torch.zeros_like(wanted)[None], 0.0)
    away = (made[0].T.cpu() - one.latent).abs()
    return away[:, : 2 * BANDS].mean().item(), away[:, 2 * BANDS :].mean().item()
