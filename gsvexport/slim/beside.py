"""What a user would take instead: artifacts beside the Piper voice of the extra "demo-voice", in one run, as a table.

    python -m gsvexport.slim.beside ARTIFACT.gsv… [--threads 2] [--rounds 3] [--sentences 8]

All say the same sentences, one voice after the other and in turned order in every second round. RTF is seconds for a
second of that voice's own speech, from phones on: by the clock, and by the processor where others use it, too. The
first sound is that of `stream`, by the clock. Piper runs as it is in its package, with the symbols that our front end's
phones stand for; its first sound is the whole sentence's.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gsvexport.demo import Sentence, package, sentences
from gsvexport.errors import GsvError
from gsvexport.runtime.pipeline import load

_SCALES = (0.667, 1.0, 0.8)  # Piper's own: noise, pace, noise of the lengths


@dataclass(frozen=True)
class Voice:
    """How one speaks: `speak` says a sentence and returns seconds of speech, `begin` returns at its first sound."""

    speak: Callable[[Sentence], float]
    begin: Callable[[Sentence], object]


@dataclass(frozen=True)
class Pace:
    """Of each sentence of one voice: RTF by the clock and by the processor, and seconds to the first sound."""

    clock: list[float]
    processor: list[float]
    first: list[float]


def piper(threads: int) -> Voice:
    """The package's voice as a whole.

    Raises: as `package.network`.
    """
    import onnxruntime

    from gsvexport.train import ipa

    options: Any = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(package.network().SerializeToString(), options)

    def speak(sentence: Sentence) -> float:
        samples = 0
        for one in ipa.spell(sentence.text):
            ids = np.array([one.ids], np.int64)
            feeds = {"input": ids, "input_lengths": np.array([ids.shape[1]]), "scales": np.array(_SCALES, np.float32)}
            samples += session.run(None, feeds)[0].size
        return samples / package.RATE

    return Voice(speak, speak)


def ours(path: Path, threads: int) -> Voice:
    """An artifact.

    Raises: as `load`.
    """
    voice = load(path, threads=threads)

    def speak(sentence: Sentence) -> float:
        audio = voice.synthesize(phones=sentence.phones)
        return len(audio.samples) / audio.rate

    def begin(sentence: Sentence) -> object:
        return next(iter(voice.stream(phones=sentence.phones)))

    return Voice(speak, begin)


def measured(voices: Sequence[Voice], said: Sequence[Sentence], rounds: int) -> list[Pace]:
    """Every sentence by every voice, `rounds` times; each voice says the first one once before."""
    found = [Pace([], [], []) for _ in voices]
    for voice in voices:
        voice.speak(said[0])
        voice.begin(said[0])
    for number in range(rounds):
        for one in said:
            for voice, pace in list(zip(voices, found, strict=True))[:: 1 if number % 2 == 0 else -1]:
                clock, processor = time.perf_counter(), time.process_time()
                seconds = voice.speak(one)
                pace.processor.append((time.process_time() - processor) / seconds)
                pace.clock.append((time.perf_counter() - clock) / seconds)
                clock = time.perf_counter()
                voice.begin(one)
                pace.first.append(time.perf_counter() - clock)
    return found


def table(names: Sequence[str], paces: Sequence[Pace]) -> str:
    """Medians with the inner three quarters, and processor seconds beside the first voice's, sentence by sentence."""
    lines = ["| voice | RTF by the clock | in processor seconds | of the first | first sound, s | n |"]
    lines.append("|---|---|---|---|---|---|")
    for name, pace in zip(names, paces, strict=True):
        ratios = [one / first for one, first in zip(pace.processor, paces[0].processor, strict=True)]
        cells = (_middle(pace.clock), _middle(pace.processor), _middle(ratios), _middle(pace.first))
        lines.append(f"| {' | '.join((name, *cells))} | {len(ratios)} |")
    return "\n".join([*lines, ""])


def _middle(values: Sequence[float]) -> str:
    low, high = np.quantile(values, (0.125, 0.875))
    return f"{statistics.median(values):.3g} ({low:.3g} to {high:.3g})"


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifacts", type=Path, nargs="+")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sentences", type=int, default=8)
    options = parser.parse_args()
    try:
        voices = [piper(options.threads), *(ours(path, options.threads) for path in options.artifacts)]
        names = ["Piper", *(path.stem for path in options.artifacts)]
        sys.stdout.write(table(names, measured(voices, sentences()[: options.sentences], options.rounds)))
    except GsvError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
