"""The corpus as the trainings take it: codes instead of keys, the latent normalised, the conditioning of references."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gsvexport.model import Spectrogram
from gsvexport.signal.audio import spectrogram
from gsvexport.train import corpus
from gsvexport.train.loop import Say, save_tensors
from gsvexport.train.shape import SOVITS, untrained
from gsvexport.train.speech import BANDS
from gsvexport.train.tokens import Vocabulary, vocabulary

_REFERENCES = 96
_SHORTEST = 1.5  # seconds of a reference


@dataclass(frozen=True)
class Heard:
    """An acoustic utterance: keys [T, 3], phones [X], latent [2T, C] normalised, audio int16 [T·1280], ge's number."""

    name: str
    text: str
    keys: NDArray[np.int64]
    phones: Tensor
    latent: Tensor
    audio: Tensor
    reference: int


@dataclass(frozen=True)
class Acoustic:
    """What vocoder and encoder are trained with. `references` are conditionings [R, 512, 1]; 0 is the bundled one.

    `mean` and `scale` [C] undo the normalisation of the latent.
    """

    train: list[Heard]
    valid: list[Heard]
    test: list[Heard]
    reference: Heard
    references: Tensor
    mean: Tensor
    scale: Tensor


def learn_vocabulary(folder: Path, path: Path) -> None:
    """Store the vocabulary: what the encoder can learn, so what the acoustic part of the corpus has."""
    found = vocabulary(one.keys for one in corpus.read(folder, "sr", acoustic=True))
    save_tensors(path, torch.from_numpy(found.keys))


def load_vocabulary(path: Path) -> Vocabulary:
    """What `learn_vocabulary` stored."""
    keys: Tensor = torch.load(path, weights_only=True)
    return Vocabulary(keys.numpy())


def prepare(folder: Path, path: Path, say: Say) -> None:
    """Store the statistics of the latent and the conditioning of some references."""
    latents: list[NDArray[np.float32]] = []
    references: list[Tensor] = []
    network = untrained().eval()
    for one in corpus.read(folder, "rs", acoustic=True):
        assert one.audio is not None
        assert one.latent is not None
        latents.append(one.latent)
        seconds = len(one.audio) / SOVITS.rate
        if one.kind == "r" or (len(references) < _REFERENCES and seconds >= _SHORTEST):
            with torch.no_grad():
                references.append(network.reference(torch.from_numpy(_spectrogram(one.audio))[None])[0][0])
    stacked = np.concatenate(latents)
    mean, scale = stacked.mean(axis=0), stacked.std(axis=0) + 1e-5
    mean[2 * BANDS :], scale[2 * BANDS :] = 0, 1  # the controls have their scale by design
    ge = torch.stack(references)
    say(
        f"acoustic: {len(latents)} utterances, {len(stacked) / 3000:.1f} min; "
        f"ge deviates by {ge.std():.3f} in all, by {ge.std(dim=0).mean():.3f} between references"
    )
    save_tensors(path, {"mean": torch.from_numpy(mean), "scale": torch.from_numpy(scale), "references": ge})


def acoustic(folder: Path, prepared: Path) -> Acoustic:
    """Read what the steps before have stored."""
    stored = torch.load(prepared, weights_only=True)
    sets: dict[str, list[Heard]] = {"s": [], "v": [], "t": [], "r": []}
    for number, one in enumerate(corpus.read(folder, "svtr", acoustic=True)):
        assert one.audio is not None
        assert one.latent is not None
        latent = (torch.from_numpy(one.latent) - stored["mean"]) / stored["scale"]
        reference = number % len(stored["references"]) if one.kind == "s" else 0
        audio, phones = torch.from_numpy(one.audio), torch.from_numpy(one.phones)
        sets[one.kind].append(Heard(one.name, one.text, one.keys, phones, latent, audio, reference))
    return Acoustic(
        sets["s"], sets["v"], sets["t"], sets["r"][0], stored["references"], stored["mean"], stored["scale"]
    )


def _spectrogram(audio: NDArray[np.int16]) -> NDArray[np.float32]:
    return spectrogram(audio.astype(np.float32) / np.float32(32768), Spectrogram())[0]
