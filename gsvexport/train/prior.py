"""The corpus of the real demo voice: texts in chunks, each put in codes by the package's text encoder, and stored."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from gsvexport.demo import package, units
from gsvexport.errors import EnvironmentProblem, InputError
from gsvexport.train import corpus, ipa
from gsvexport.train.texts import Text

_CHUNK = 500  # texts

_half: package.TextHalf | None = None
_book: units.Codebook | None = None


def make(
    texts: Sequence[Text], book: units.Codebook, folder: Path, *, workers: int, say: Callable[[str], None]
) -> None:
    """Put all texts in codes, into `folder`; what exists is not made again.

    Raises:
        EnvironmentProblem: the package is absent or another one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [(folder / f"{at // _CHUNK:04d}.npz", list(texts[at : at + _CHUNK])) for at in range(0, len(texts), _CHUNK)]
    todo = [job for job in jobs if not job[0].is_file()]
    if not todo:
        return
    package.network()
    done = len(jobs) - len(todo)
    with multiprocessing.get_context("spawn").Pool(workers, initializer=_begin, initargs=(book,)) as pool:
        for lost in pool.imap(_job, todo):
            done += 1
            say(f"corpus: {done} of {len(jobs)} chunks" + (f", {lost} texts cannot be read" if lost else ""))


def _begin(book: units.Codebook) -> None:
    global _half, _book
    corpus.gentle()
    _half, _book = package.TextHalf(), book


def _job(job: tuple[Path, list[Text]]) -> int:
    """Make one chunk; returns how many texts our front end cannot read."""
    path, texts = job
    assert _half is not None
    assert _book is not None
    spelled, lost = [], 0
    for entry in texts:
        try:
            spelled += [(entry, one) for one in ipa.spell(entry.text)]
        except InputError:
            lost += 1
    if not spelled:
        raise EnvironmentProblem("the front end reads none of the texts", found=texts[0].text)
    said = package.ask(_half, [one.ids for _, one in spelled])
    found = []
    for (entry, one), prior in zip(spelled, said, strict=True):
        counts = units.pairs(prior.lengths)
        codes = np.repeat(_book.codes(one.ids, prior.mean), counts)
        aligned = np.repeat(one.aligned, counts)
        found.append(corpus.Utterance(entry.name, entry.text, one.phones, codes[:, None], aligned))
    corpus.write(path, found)
    return lost
