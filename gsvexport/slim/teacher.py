"""What the teacher says: codes by its T2S at several temperatures, latent and sound by its SoVITS, one file each.

A file is named after everything that it depends on, so that each is made once for all recipes, and a run that
was killed goes on with the next one. Its random numbers follow from its text.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gsvexport.calibrate.run import Listener
from gsvexport.files import atomic_file, canonical_json, sha256_bytes
from gsvexport.progress import Progress, counted
from gsvexport.runtime.draws import Draws
from gsvexport.runtime.sampling import Sampling
from gsvexport.runtime.speech import Latent, Manner, latents, sound_feeds, whole
from gsvexport.runtime.text import sentences
from gsvexport.slim.recipe import Data
from gsvexport.slim.recordings import Recording, codes, heard
from gsvexport.slim.texts import Line, script
from gsvexport.stages import CODES_PER_SECOND

TEMPERATURES = (1.0, 0.7, 1.2)  # one after the other
_PROMPT_FREE = 4  # every fourth utterance
_RATES = (1.0, 1.0, 1.0, 0.9, 1.1)
_CODES_A_PHONE, _CODES_MORE = 5, 25  # a sentence that goes on for longer is cut: it ran away
_SOUND = ("latent", "audio")
_CODE = 2  # counts what the code here makes of the same description


@dataclass(frozen=True, eq=False)
class Written:
    """Codes that were written once: phones int64 [X] with the prompt's in front, prompt int64 [Y], codes int64 [T]."""

    name: str
    phones: Tensor
    prompt: Tensor
    codes: Tensor


@dataclass(frozen=True, eq=False)
class Utterance(Written):
    """What was said once: its own phones `spoken` int64 [P], latent float32 [I, F], audio float32 [F·hop]."""

    spoken: Tensor
    latent: Tensor
    audio: Tensor


@dataclass(frozen=True, eq=False)
class Lesson:
    """All of it, the held-out part apart, and the conditioning: ge [1, G, 1] and ge_text (None where it is ge).

    `written` is for T2S alone. `voiced` and `whole` name what was said: without what is written only, and with it.
    """

    train: list[Utterance]
    held_out: list[Utterance]
    ge: Tensor
    ge_text: Tensor | None
    written: list[Written] = field(default_factory=list)
    voiced: str = ""
    whole: str = ""

    @property
    def codes(self) -> list[Written]:
        """What T2S learns from."""
        return [*self.train, *self.written]

    @property
    def seconds(self) -> float:
        """Of speech to learn from."""
        return sum(len(one.codes) for one in self.train) / CODES_PER_SECOND


def make(
    source: Path,
    digest: str,
    data: Data,
    own: Sequence[str],
    where: Path,
    say: Progress,
    recorded: Sequence[Recording] = (),
) -> Lesson:
    """Let the source in the folder `source` speak whatever is not in the cache `where` yet.

    `digest` names the source's content. Of what was `recorded` it says the codes that it hears.

    Raises:
        InputError: nothing that it can say, or to learn from in what was recorded.
        EnvironmentProblem: the disk is full or not writable.
    """
    voice = Listener(source, None)
    with voice:
        same = sha256_bytes(canonical_json([_CODE, digest, TEMPERATURES, _RATES]).encode())
        folder = where / same[:32]
        folder.mkdir(parents=True, exist_ok=True)
        listened = {one.line: one for one in heard(voice, recorded, data.longest, say)} if recorded else {}
        lines = [*_script(voice, data, own, folder, say), *listened]
        contents = [[line.name, line.phones, *([listened[line].digest] if line in listened else [])] for line in lines]
        names = [sha256_bytes(canonical_json(content).encode()) for content in contents]
        paths = [folder / f"{line.name}-{name[:16]}.npz" for line, name in zip(lines, names, strict=True)]
        for place, (line, name, path) in enumerate(zip(lines, names, paths, strict=True)):
            say(counted(f"teacher: {place + 1} of {len(lines)}", "teacher", place + 1, len(lines)))
            if not _whole(path):
                one = listened.get(line)
                _speak(voice, line, int(name[:12], 16), path, None if one is None else codes(voice, one.path))
        found = dict(zip(lines, (_read(path) for path in paths), strict=True))
        ge, ge_text = (voice.baked.get(name) for name in ("ge", "ge_text"))
        assert ge is not None
    voiced = {line: one for line, one in found.items() if isinstance(one, Utterance)}

    def named(some: list[str]) -> str:
        return sha256_bytes(canonical_json([same, some]).encode())

    return Lesson(
        train=[one for line, one in voiced.items() if not line.held_out],
        held_out=[one for line, one in voiced.items() if line.held_out],
        ge=torch.from_numpy(ge),
        ge_text=None if ge_text is None else torch.from_numpy(ge_text),
        written=[one for line, one in found.items() if line.codes_only],
        voiced=named([name for line, name in zip(lines, names, strict=True) if not line.codes_only]),
        whole=named(names),
    )


def _script(voice: Listener, data: Data, own: Sequence[str], folder: Path, say: Progress) -> list[Line]:
    """What is to be said, chosen once: reading so many texts takes minutes. Other choices need another `_CODE`."""
    asked = canonical_json([asdict(data), list(own)])
    path = folder / f"script-{sha256_bytes(asked.encode())[:32]}.json"
    if not path.is_file():
        say("teacher: choosing texts")
        chosen = [[line.name, line.phones] for line in script(voice.model, data, own)]
        with atomic_file(path, force=True) as work:
            work.write_bytes(canonical_json(chosen).encode())
    return [Line(name, tuple(phones)) for name, phones in json.loads(path.read_bytes())]


def _speak(voice: Listener, line: Line, seed: int, path: Path, known: NDArray[np.int64] | None) -> None:
    """Say a line, or its codes where they are `known`."""
    place = int(line.name[1:])
    manner = Manner(
        seed=seed,
        speed=1.0 if known is not None else _RATES[place % len(_RATES)],
        sampling=Sampling(
            voice.sampling.top_k,
            voice.sampling.top_p,
            TEMPERATURES[place % len(TEMPERATURES)],
            voice.sampling.repetition_penalty,
        ),
        prompt=np.empty((1, 0), np.int64) if place % _PROMPT_FREE == _PROMPT_FREE - 1 else None,
        max_tokens=_CODES_A_PHONE * len(line.phones) + _CODES_MORE,
    )
    row = np.array([line.phones], np.int64)
    if known is None:
        [latent] = latents(voice, sentences(None, row, voice.model), manner)
        feeds, (phones, prompt) = latent.feeds, voice.started
    else:
        begun = voice.sentence(row, None, voice.own_prompt() if manner.prompt is None else manner.prompt)
        phones, prompt = begun["phones"], begun["prompt"]
        feeds = sound_feeds(voice, known, row, voice.baked, manner, Draws(seed, 0))
    acoustic = voice.heard["acoustic"]
    arrays = {"phones": phones[0], "prompt": prompt[0], "codes": acoustic["codes"][0]}
    if not line.codes_only:
        audio = whole(voice, Latent(feeds))
        arrays |= {
            "spoken": acoustic["phones"][0],
            "latent": feeds["latent"][0].astype(np.float16),
            "audio": np.rint(np.clip(audio.samples, -1, 1) * 32767).astype(np.int16),
        }
    with atomic_file(path, force=True) as work, open(work, "wb") as stream:
        np.savez(stream, **arrays)


def _whole(path: Path) -> bool:
    """Whether an utterance is there; it was written at once or not at all, so its archive's index is enough."""
    return path.is_file() and zipfile.is_zipfile(path)


def _read(path: Path) -> Written:
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    ids = {name: torch.from_numpy(one.astype(np.int64)) for name, one in arrays.items() if name not in _SOUND}
    if "audio" not in arrays:
        return Written(path.stem, **ids)
    latent = torch.from_numpy(arrays["latent"].astype(np.float32))
    return Utterance(
        path.stem, **ids, latent=latent, audio=torch.from_numpy(arrays["audio"].astype(np.float32) / 32767)
    )
