"""The corpus on disk: texts in chunks, each spoken, put on the grid and stored; what exists is not made again."""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsvexport.errors import EnvironmentProblem
from gsvexport.files import atomic_file
from gsvexport.text.symbols import phone_ids
from gsvexport.train import festival, grid, speech
from gsvexport.train.texts import Text

_CHUNK = 64  # texts
_LOUDEST = 32767


@dataclass(frozen=True)
class Utterance:
    """One text on the grid: phone ids [X]; of T tokens their keys [T, 3] and the phone that each says [T].

    The acoustic ones have `audio` int16 [T·1280] and `latent` float32 [2T, CHANNELS] as `speech.target` makes them.
    """

    name: str
    text: str
    phones: NDArray[np.int64]
    keys: NDArray[np.int64]
    aligned: NDArray[np.int64]
    audio: NDArray[np.int16] | None = None
    latent: NDArray[np.float32] | None = None

    @property
    def kind(self) -> str:
        """s: to train on, v: validation, t: test, r: reference."""
        return self.name[0]


def make(texts: Sequence[Text], acoustic: int, folder: Path, *, workers: int, say: Callable[[str], None]) -> None:
    """Speak all texts into `folder`; the first `acoustic` ones get audio and latent.

    Raises:
        EnvironmentProblem: festival or a package is absent, or festival fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chunks = [(start, list(texts[start : start + _CHUNK]), acoustic) for start in range(0, len(texts), _CHUNK)]
    jobs = [(_path(folder, start), chunk, max(0, acoustic - start)) for start, chunk, acoustic in chunks]
    todo = [job for job in jobs if not job[0].is_file()]
    if not todo:
        return
    festival.require_festival()
    done, dropped = len(jobs) - len(todo), 0
    with multiprocessing.get_context("spawn").Pool(workers, initializer=gentle) as pool:
        for lost in pool.imap_unordered(_job, todo):
            done, dropped = done + 1, dropped + lost
            say(f"corpus: {done} of {len(jobs)} chunks, {dropped} texts dropped")


def read(folder: Path, kinds: str, *, acoustic: bool = False) -> Iterator[Utterance]:
    """The utterances of these kinds, in order; `acoustic` leaves out those without audio, and otherwise the audio."""
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as stored:
            data = {key: stored[key] for key in stored.files if acoustic or key not in ("audio", "latent")}
        bounds = {key: np.concatenate([[0], np.cumsum(data[f"{key}_counts"])]) for key in ("phones", "tokens")}
        for number, name in enumerate(data["names"]):
            phones = slice(*bounds["phones"][number : number + 2])
            tokens = slice(*bounds["tokens"][number : number + 2])
            heard = "audio" in data and tokens.stop * 2 <= len(data["latent"])
            if str(name)[0] not in kinds or (acoustic and not heard):
                continue
            yield Utterance(
                str(name),
                str(data["texts"][number]),
                data["phones"][phones],
                data["keys"][tokens].astype(np.int64),
                data["aligned"][tokens].astype(np.int64),
                data["audio"][tokens.start * 2 * grid.HOP : tokens.stop * 2 * grid.HOP] if heard else None,
                data["latent"][tokens.start * 2 : tokens.stop * 2] if heard else None,
            )


def write(path: Path, found: Sequence[Utterance]) -> None:
    """Store utterances in one file; those with audio have to come first."""
    heard = [one for one in found if one.audio is not None and one.latent is not None]
    parts: dict[str, Any] = {
        "names": np.array([one.name for one in found]),
        "texts": np.array([one.text for one in found]),
        "phones": np.concatenate([one.phones for one in found]),
        "phones_counts": np.array([len(one.phones) for one in found]),
        "tokens_counts": np.array([len(one.keys) for one in found]),
        "keys": np.concatenate([one.keys for one in found]).astype(np.int16),
        "aligned": np.concatenate([one.aligned for one in found]).astype(np.int16),
    }
    if heard:
        parts["audio"] = np.concatenate([one.audio for one in heard if one.audio is not None])
        parts["latent"] = np.concatenate([one.latent for one in heard if one.latent is not None])
    with atomic_file(path) as work, open(work, "wb") as stream:
        np.savez(stream, **parts)


def _path(folder: Path, start: int) -> Path:
    return folder / f"{start // _CHUNK:04d}.npz"


def _job(job: tuple[Path, list[Text], int]) -> int:
    """Make one chunk; returns how many texts were left out because festival said other phones."""
    path, texts, acoustic = job
    found = []
    with tempfile.TemporaryDirectory() as work:
        for number, (entry, spoken) in enumerate(
            zip(texts, festival.speak([entry.text for entry in texts], Path(work)), strict=True)
        ):
            utterance = _utterance(entry, spoken, acoustic=number < acoustic)
            if utterance is not None:
                found.append(utterance)
    if not found:
        raise EnvironmentProblem("festival said none of the texts as the front end does", found=texts[0].text)
    write(path, found)
    return len(texts) - len(found)


def _utterance(entry: Text, spoken: festival.Spoken, *, acoustic: bool) -> Utterance | None:
    placed = grid.units(entry.text, spoken.segments)
    if placed is None:
        return None
    samples = speech.load(spoken.audio)
    plan = grid.plan(*placed, speech.pitch(samples, refined=False), speech.PERIOD)
    phones = np.array(phone_ids(plan.phones, "v2"), np.int64)
    plain = Utterance(entry.name, entry.text, phones, plan.keys(), plan.aligned())
    if not acoustic:
        return plain
    target = speech.target(samples, plan)
    audio = np.clip(np.round(target.audio * _LOUDEST), -_LOUDEST, _LOUDEST).astype(np.int16)
    return Utterance(plain.name, plain.text, plain.phones, plain.keys, plain.aligned, audio, target.latent)


def gentle() -> None:
    """Let others go first."""
    if sys.platform != "win32":
        os.nice(1)
