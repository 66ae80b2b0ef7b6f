"""What the teacher says: codes by its T2S at several temperatures, latent and sound by its SoVITS, one file each.

A file is named after everything that it depends on, so that each is made once for all recipes, and a run that
was killed goes on with the next one. Its random numbers follow from its text.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gsvexport.calibrate.run import Listener
from gsvexport.files import atomic_file, canonical_json, sha256_bytes
from gsvexport.progress import Progress, counted
from gsvexport.runtime.sampling import Sampling
from gsvexport.runtime.speech import Manner, latents, whole
from gsvexport.runtime.text import sentences
from gsvexport.slim.recipe import Data
from gsvexport.slim.texts import Line, script
from gsvexport.stages import CODES_PER_SECOND

TEMPERATURES = (1.0, 0.7, 1.2)  # one after the other
_PROMPT_FREE = 4  # every fourth utterance
_RATES = (1.0, 1.0, 1.0, 0.9, 1.1)
_CODES_A_PHONE, _CODES_MORE = 5, 25  # a sentence that goes on for longer is cut: it ran away
_CODE = 2  # counts what the code here makes of the same description


@dataclass(frozen=True, eq=False)
class Utterance:
    """What was said once.

    T2S: phones int64 [X] with the prompt's in front, prompt int64 [Y], codes int64 [T]. SoVITS: the sentence's own
    phones `spoken` int64 [P], latent float32 [I, F], audio float32 [F·hop].
    """

    name: str
    phones: Tensor
    prompt: Tensor
    codes: Tensor
    spoken: Tensor
    latent: Tensor
    audio: Tensor


@dataclass(frozen=True, eq=False)
class Lesson:
    """All of it, the held-out part apart, and the conditioning: ge [1, G, 1] and ge_text (None where it is ge)."""

    train: list[Utterance]
    held_out: list[Utterance]
    ge: Tensor
    ge_text: Tensor | None

    @property
    def seconds(self) -> float:
        """Of codes to learn from."""
        return sum(len(one.codes) for one in self.train) / CODES_PER_SECOND


def make(source: Path, digest: str, data: Data, own: Sequence[str], where: Path, say: Progress) -> tuple[Lesson, str]:
    """Let the source in the folder `source` speak whatever is not in the cache `where` yet; returns it and its digest.

    `digest` names the source's content.

    Raises:
        InputError: nothing that it can say.
        EnvironmentProblem: the disk is full or not writable.
    """
    voice = Listener(source, None)
    with voice:
        lines = script(voice.model, data, own)
        same = sha256_bytes(canonical_json([_CODE, digest, TEMPERATURES, _RATES]).encode())
        folder = where / same[:32]
        folder.mkdir(parents=True, exist_ok=True)
        names = [sha256_bytes(canonical_json([line.name, line.phones]).encode()) for line in lines]
        paths = [folder / f"{line.name}-{name[:16]}.npz" for line, name in zip(lines, names, strict=True)]
        for place, (line, name, path) in enumerate(zip(lines, names, paths, strict=True)):
            say(counted(f"teacher: {place + 1} of {len(lines)}", "teacher", place + 1, len(lines)))
            if not _whole(path):
                _speak(voice, line, int(name[:12], 16), path)
        found = [_read(path) for path in paths]
        ge, ge_text = (voice.baked.get(name) for name in ("ge", "ge_text"))
        assert ge is not None
    lesson = Lesson(
        [one for one, line in zip(found, lines, strict=True) if not line.held_out],
        [one for one, line in zip(found, lines, strict=True) if line.held_out],
        torch.from_numpy(ge),
        None if ge_text is None else torch.from_numpy(ge_text),
    )
    return lesson, sha256_bytes(canonical_json([same, names]).encode())


def _speak(voice: Listener, line: Line, seed: int, path: Path) -> None:
    place = int(line.name[1:])
    manner = Manner(
        seed=seed,
        speed=_RATES[place % len(_RATES)],
        sampling=Sampling(
            voice.sampling.top_k,
            voice.sampling.top_p,
            TEMPERATURES[place % len(TEMPERATURES)],
            voice.sampling.repetition_penalty,
        ),
        prompt=np.empty((1, 0), np.int64) if place % _PROMPT_FREE == _PROMPT_FREE - 1 else None,
        max_tokens=_CODES_A_PHONE * len(line.phones) + _CODES_MORE,
    )
    rows = sentences(None, np.array(line.phones, np.int64), voice.model)
    [audio] = [whole(voice, one) for one in latents(voice, rows, manner)]
    phones, prompt = voice.started
    acoustic = voice.heard["acoustic"]
    arrays = {
        "phones": phones[0],
        "prompt": prompt[0],
        "codes": acoustic["codes"][0],
        "spoken": acoustic["phones"][0],
        "latent": voice.heard["vocoder"]["latent"][0].astype(np.float16),
        "audio": np.rint(np.clip(audio.samples, -1, 1) * 32767).astype(np.int16),
    }
    with atomic_file(path, force=True) as work, open(work, "wb") as stream:
        np.savez(stream, **arrays)


def _whole(path: Path) -> bool:
    """Whether an utterance is there; it was written at once or not at all, so its archive's index is enough."""
    return path.is_file() and zipfile.is_zipfile(path)


def _read(path: Path) -> Utterance:
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    ids = {name: torch.from_numpy(arrays[name].astype(np.int64)) for name in ("phones", "prompt", "codes", "spoken")}
    latent = torch.from_numpy(arrays["latent"].astype(np.float32))
    return Utterance(
        path.stem, **ids, latent=latent, audio=torch.from_numpy(arrays["audio"].astype(np.float32) / 32767)
    )
