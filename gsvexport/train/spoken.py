"""How good an artifact of a demo voice is, from text, at default sampling, by class of length.

    python -m gsvexport.train.spoken ARTIFACT.gsv [--seeds 3] [--every N] [--rows ROWS.jsonl]

Whisper says the word errors, DNSMOS P.808 the quality, `gsvexport.runtime.runaway` what ran away. Each recording is a
line of ROWS.jsonl as soon as it is known, and what is there is not said again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from gsvexport.runtime.pipeline import LoadedVoice, load
from gsvexport.train.sentences import HELDOUT
from gsvexport.verify.recogniser import Recogniser
from gsvexport.verify.speech import Dnsmos, narrow
from gsvexport.verify.transcript import edits, words

CLASSES = ("1 to 4 words", "5 to 10 words", "11 to 17 words", "60 to 150 phones")  # 25 sentences of each, in order
HEADER = "| length | n | WER | without an error | P808 | ran away | too short |\n|---|---|---|---|---|---|---|"
_ARTICULATE = 0.6  # peak of what is listened to
_PAD = 3200  # samples of silence around it


@dataclass(frozen=True)
class Row:
    """One recording: which sentence and seed, what was heard, its word errors of so many words, P808, length in s."""

    sentence: int
    seed: int
    heard: str
    errors: int
    words: int
    p808: float
    seconds: float
    notes: tuple[str, ...]


def said(voice: LoadedVoice, texts: Sequence[str], seeds: int, every: int, known: Sequence[Row]) -> Iterator[Row]:
    """Say every `every`-th text with each seed, and listen; what is `known` is left out."""
    heard, mos = Recogniser(), Dnsmos()
    done = {(row.sentence, row.seed) for row in known}
    for seed in range(seeds):
        for number in range(seed % every, len(texts), every):
            if (number, seed) in done:
                continue
            audio = voice.synthesize(texts[number], seed=100 * seed + number)
            samples = np.asarray(audio.samples, np.float32)
            low = narrow(samples / max(1e-6, float(np.abs(samples).max())) * _ARTICULATE, audio.rate)
            wanted, text = words(texts[number]), heard(np.pad(low, _PAD))
            errors = edits(wanted, words(text))
            seconds = len(samples) / audio.rate
            yield Row(number, seed, text, errors, len(wanted), float(mos(low)[0]), seconds, tuple(audio.notes))


def table(rows: Sequence[Row], texts: int) -> str:
    """One line for each class of length, and one for all."""
    lines = [HEADER]
    for place, name in enumerate((*CLASSES, "all")):
        some = [row for row in rows if place == len(CLASSES) or row.sentence * len(CLASSES) // texts == place]
        if not some:
            continue
        wer = sum(row.errors for row in some) / sum(row.words for row in some)
        exact = sum(row.errors == 0 for row in some)
        short = sum(any("missing" in note for note in row.notes) for row in some)
        away = sum(any("missing" not in note for note in row.notes) for row in some)
        quality = float(np.mean([row.p808 for row in some]))
        lines.append(f"| {name} | {len(some)} | {wer:.3f} | {exact} | {quality:.2f} | {away} | {short} |")
    return "\n".join(lines)


def read_rows(path: Path) -> list[Row]:
    """The recordings that a file knows already."""
    if not path.is_file():
        return []
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [Row(**{**row, "notes": tuple(row["notes"])}) for row in found]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m gsvexport.train.spoken", description=__doc__)
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--every", type=int, default=1, help="only each N-th of the 100 sentences")
    parser.add_argument("--rows", type=Path, help="where each recording is noted (default: beside the artifact)")
    given = parser.parse_args()
    path = given.rows or given.artifact.with_suffix(".jsonl")
    rows = read_rows(path)
    with load(given.artifact) as voice, open(path, "a", encoding="utf-8", newline="\n") as out:
        for row in said(voice, HELDOUT, given.seeds, given.every, rows):
            rows.append(row)
            out.write(json.dumps(asdict(row)) + "\n")
            out.flush()
    print(table(rows, len(HELDOUT)))  # noqa: T201


if __name__ == "__main__":
    main()
