"""What several sentences cost beside one: `python -m gsvexport.bench.batching SOURCE_OR_ARTIFACT`.

Times are those of one run, ways of speaking in turn, the shortest of a few rounds: compare them with each other. Beside
each stand processor seconds, which other programs on the machine disturb less.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gsvexport.runtime.batch import ROWS
from gsvexport.runtime.pipeline import LoadedVoice, load
from gsvexport.runtime.sampling import Sampling
from gsvexport.runtime.speech import Manner, latents, whole
from gsvexport.runtime.text import Spoken
from gsvexport.stages import MAX_TOKENS

_STEPS = 40
_PHONES = 40  # of a sentence
_SENTENCES = 4  # of a text


class Taken(NamedTuple):
    """Seconds of the clock and of the processor."""

    wall: float
    processor: float

    @classmethod
    def least(cls, found: Sequence[Taken]) -> Taken:
        """The shortest of each."""
        return cls(min(one.wall for one in found), min(one.processor for one in found))

    def beside(self, other: Taken) -> str:
        """How many times as long as another."""
        return f"{self.wall / other.wall:.2f} x (processor {self.processor / other.processor:.2f} x)"


@contextmanager
def _clock(found: list[Taken]) -> Iterator[None]:
    start, used = time.perf_counter(), time.process_time()
    yield
    found.append(Taken(time.perf_counter() - start, time.process_time() - used))


def steps(voice: LoadedVoice, counts: Sequence[int]) -> dict[int, Taken]:
    """Time of one step by the number of sentences in it; where one is written at a time, of one alone."""
    rows = voice.rows(max(counts))
    random = np.random.Generator(np.random.PCG64(0))
    taken: dict[int, Taken] = {}
    for count in [one for one in counts if one <= rows.most]:
        for _ in range(count):
            given = voice.sentence(_phones(voice, random), None, voice.own_prompt())
            rows.enter(given["phones"], given["bert"], given["prompt"])
        found: list[Taken] = []
        for place in range(_STEPS):
            with _clock(found):
                rows.step([place] * count, [place] * count)
        taken[count] = Taken.least(found)
        for row in reversed(range(count)):
            rows.leave(row)
    return taken


def codes(voice: LoadedVoice, count: int, most: int, rounds: int) -> tuple[Taken, Taken, int]:
    """Time for the codes of `count` sentences one after the other, and in a batch; and how many codes they are.

    Raises:
        AssertionError: they are not the same codes.
    """
    random = np.random.Generator(np.random.PCG64(1))
    said = [(_phones(voice, random), _seeded(voice, seed)) for seed in range(count)]
    prompt = voice.own_prompt()
    alone: list[Taken] = []
    together: list[Taken] = []
    for _ in range(rounds):
        with _clock(alone):
            expected = [voice.tokens(phones, None, prompt, chosen, most) for phones, chosen in said]
        with _clock(together), voice.batch(rows=min(ROWS, count)) as batch:
            written = [batch.submit(phones, None, prompt, chosen, most) for phones, chosen in said]
            found = [one.result() for one in written]
        for one, other in zip(expected, found, strict=True):
            np.testing.assert_array_equal(one, other)
    return Taken.least(alone), Taken.least(together), sum(one.size for one in expected)


def texts(voice: LoadedVoice, most: int, rounds: int) -> dict[str, Taken]:
    """Time for a text of four sentences: one after the other, the next one's codes written while one is voiced, and all
    codes written side by side, then voiced."""
    random = np.random.Generator(np.random.PCG64(2))
    said = [Spoken(_phones(voice, random)) for _ in range(_SENTENCES)]

    def one_by_one() -> None:
        for one in said:
            _speak(voice, [one], Manner(max_tokens=most))

    def overlapping() -> None:
        with voice.batch(rows=1) as batch:
            _speak(voice, said, Manner(max_tokens=most, batch=batch))

    ways: dict[str, Callable[[], None]] = {
        "one after the other": one_by_one,
        "stages overlap": overlapping,
        "side by side": lambda: _speak(voice, said, Manner(max_tokens=most)),
    }
    found: dict[str, list[Taken]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, speak in ways.items():
            with _clock(found[name]):
                speak()
    return {name: Taken.least(times) for name, times in found.items()}


def _speak(voice: LoadedVoice, said: Sequence[Spoken], manner: Manner) -> None:
    for feeds in latents(voice, said, manner, together=True):
        whole(voice, feeds)


def _phones(voice: LoadedVoice, random: np.random.Generator) -> np.ndarray:
    dims = voice.model.dims
    return random.integers(0, min(dims.phones, dims.text_phones), (1, _PHONES))


def _seeded(voice: LoadedVoice, seed: int) -> Sampling:
    given = voice.sampling
    return Sampling(given.top_k, given.top_p, given.temperature, given.repetition_penalty, seed=seed)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("voice", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=100, help="codes of a sentence at most")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    most = min(options.tokens, MAX_TOKENS)
    say = sys.stdout.write
    with load(options.voice, threads=options.threads, any_machine=True) as voice:
        say(f"{options.voice}, {options.threads} threads\n")
        taken = steps(voice, (1, 2, 4, ROWS))
        for count, one in taken.items():
            say(f"step of {count} sentences: {1e3 * one.wall:.2f} ms, {one.beside(taken[1])} of one\n")
        if len(taken) == 1:
            say("this voice writes one sentence at a time here\n")
        for count in (_SENTENCES, ROWS):
            alone, together, total = codes(voice, count, most, options.rounds)
            say(f"{total} codes of {count} sentences in a batch: {together.wall:.2f} s, {together.beside(alone)}\n")
            sys.stdout.flush()
        found = texts(voice, most, options.rounds)
        for name, one in found.items():
            beside = one.beside(found["one after the other"])
            say(f"a text of {_SENTENCES} sentences, {name}: {one.wall:.2f} s, {beside}\n")


if __name__ == "__main__":
    main()
