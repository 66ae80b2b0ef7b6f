"""How good artifacts of a demo voice are, from text, at default sampling, by class of length.

    python -m gsvexport.train.spoken ARTIFACT.gsv… [--seeds 3] [--every N] [--rows ROWS.jsonl] [--minutes M] [--silent]

Whisper says the word errors, DNSMOS P.808 the quality, `gsvexport.runtime.runaway` what ran away and how long the
phones of a text should take. Each recording is a line of ROWS.jsonl as soon as it is known, and what is there is not
said again. All artifacts say a sentence before the next one's turn, with the same seed, and the classes of length take
turns: whatever is there when it is stopped can be compared. Differences are to the artifact that is named first.
`--silent` stops at the codes, which takes a tenth of the time and tells lengths and what ran away.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from gsvexport.runtime.pipeline import LoadedVoice, load
from gsvexport.runtime.runaway import findings, tempo
from gsvexport.stages import MAX_TOKENS
from gsvexport.text.phonemise import phonemise
from gsvexport.text.symbols import phone_ids
from gsvexport.train.sentences import HELDOUT
from gsvexport.verify.paired import Estimate, estimate
from gsvexport.verify.recogniser import Recogniser
from gsvexport.verify.speech import Dnsmos, narrow
from gsvexport.verify.transcript import edits, words

CLASSES = ("1 to 4 words", "5 to 10 words", "11 to 17 words", "60 to 150 phones")  # 25 sentences of each, in order
_ARTICULATE = 0.6  # peak of what is listened to
_PAD = 3200  # samples of silence around it


@dataclass(frozen=True)
class Row:
    """One recording: of which artifact, sentence and seed, what was heard, its word errors of so many words, P808,
    length in s, and what its phones suggest in s."""

    artifact: str
    sentence: int
    seed: int
    heard: str
    errors: int
    words: int
    p808: float | None
    seconds: float
    suggested: float
    notes: tuple[str, ...]

    @property
    def away(self) -> bool:
        """It did not end, repeats itself, or is far too long."""
        return any("missing" not in note for note in self.notes)

    @property
    def short(self) -> bool:
        """It is so short that words may be missing."""
        return any("missing" in note for note in self.notes)


def turns(texts: int, seeds: int, every: int) -> Iterator[tuple[int, int]]:
    """Seed and number of sentence of each turn: every `every`-th sentence of each class, the classes by turns."""
    each = texts // len(CLASSES)
    for seed in range(seeds):
        for place in range(seed % every, each, every):
            yield from ((seed, kind * each + place) for kind in range(len(CLASSES)))


def said(
    voices: Mapping[str, LoadedVoice], texts: Sequence[str], seeds: int, every: int, known: Sequence[Row]
) -> Iterator[Row]:
    """Let each voice say each turn's sentence, and listen; what is `known` is left out."""
    heard, mos = Recogniser(), Dnsmos()
    done = {(row.artifact, row.sentence, row.seed) for row in known}
    for seed, number in turns(len(texts), seeds, every):
        for name, voice in voices.items():
            if (name, number, seed) in done:
                continue
            audio = voice.synthesize(texts[number], seed=100 * seed + number)
            samples = np.asarray(audio.samples, np.float32)
            low = narrow(samples / max(1e-6, float(np.abs(samples).max())) * _ARTICULATE, audio.rate)
            wanted, text = words(texts[number]), heard(np.pad(low, _PAD))
            errors = edits(wanted, words(text))
            seconds, pace = len(samples) / audio.rate, tempo(voice)
            phones = sum(map(len, phonemise(texts[number], voice.model.language, voice.model.symbols)))
            meant = pace.seconds(pace.codes(phones))
            notes = tuple(audio.notes)
            yield Row(name, number, seed, text, errors, len(wanted), float(mos(low)[0]), seconds, meant, notes)


def written(
    voices: Mapping[str, LoadedVoice], texts: Sequence[str], seeds: int, every: int, known: Sequence[Row]
) -> Iterator[Row]:
    """The same without sound: what was written is judged, and nothing is listened to."""
    done = {(row.artifact, row.sentence, row.seed) for row in known}
    for seed, number in turns(len(texts), seeds, every):
        for name, voice in voices.items():
            if (name, number, seed) in done:
                continue
            pace, seconds, meant, notes = tempo(voice), 0.0, 0.0, list[str]()
            for part in phonemise(texts[number], voice.model.language, voice.model.symbols):
                phones = np.array([phone_ids(part, voice.model.symbols)], np.int64)
                sampling = replace(voice.sampling, seed=100 * seed + number)
                codes = voice.tokens(phones, prompt=voice.own_prompt(), sampling=sampling)
                found = findings(codes, phones[0], codes.size < MAX_TOKENS, pace)
                notes += [one.text for one in found]
                seconds += pace.seconds(codes.size)
                meant += pace.seconds(pace.codes(phones.size))
            yield Row(name, number, seed, "", 0, 0, None, seconds, meant, tuple(notes))


def table(rows: Sequence[Row], texts: int) -> str:
    """Of each artifact one line for each class of length, and one for all, with 95 % intervals over sentences.

    "seconds / suggested" is the median, and between what nine tenths of them are.
    """
    lines = [
        "| length | artifact | n | WER | without an error | P808 | seconds / suggested | ran away | too short |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    names = dict.fromkeys(row.artifact for row in rows)
    for place, kind in enumerate((*CLASSES, "all")):
        for name in names:
            some = [row for row in _of(rows, place, texts) if row.artifact == name]
            if not some:
                continue
            listened = [row for row in some if row.words]
            wer = _wer([row.errors for row in listened], listened)
            exact = f"{sum(row.errors == 0 for row in listened)} of {wer.n}"
            known = [row.p808 for row in some if row.p808 is not None]
            quality = f"{np.mean(known):.2f}" if known else "-"
            low, middle, high = np.percentile([row.seconds / row.suggested for row in some], (5, 50, 95))
            away, short = (sum(found) for found in zip(*((row.away, row.short) for row in some), strict=True))
            lines.append(
                f"| {kind} | {name} | {len(some)} | {_interval(wer)} | {exact} | {quality} "
                f"| {middle:.2f}, {low:.2f} to {high:.2f} | {away} | {short} |"
            )
    return "\n".join(lines)


def differences(rows: Sequence[Row], texts: int) -> str:
    """Of each other artifact what is different from the first one's, of the recordings that both made."""
    names = list(dict.fromkeys(row.artifact for row in rows))
    lines = ["| length | beside | n | WER | P808 | length | ran away or too short |", "|---|---|---|---|---|---|---|"]
    first = {(row.sentence, row.seed): row for row in rows if row.artifact == names[0]}
    for place, kind in enumerate((*CLASSES, "all")):
        for name in names[1:]:
            found = [row for row in _of(rows, place, texts) if row.artifact == name]
            pairs = [(before, row) for row in found if (before := first.get((row.sentence, row.seed)))]
            if not pairs:
                continue
            sentences = [row.sentence for _, row in pairs]
            listened = [(before, row) for before, row in pairs if before.words and row.words]
            wer = _wer([row.errors - before.errors for before, row in listened], [row for _, row in listened])
            both = [(one.p808, row.p808, row.sentence) for one, row in pairs if one.p808 and row.p808]
            quality = estimate([after - before for before, after, _ in both], clusters=[place for *_, place in both])
            length = estimate([math.log(row.seconds / before.seconds) for before, row in pairs], clusters=sentences)
            away = estimate([float(bool(row.notes)) - bool(before.notes) for before, row in pairs], clusters=sentences)
            lines.append(
                f"| {kind} | {name} | {len(pairs)} | {_interval(wer, '+')} | {_interval(quality, '+')} "
                f"| {_interval(length, '+')} | {_interval(away, '+')} |"
            )
    return "\n".join(lines)


def _of(rows: Sequence[Row], place: int, texts: int) -> list[Row]:
    """The rows of one class, or of all."""
    return [row for row in rows if place == len(CLASSES) or row.sentence * len(CLASSES) // texts == place]


def _wer(errors: Sequence[int], rows: Sequence[Row]) -> Estimate:
    return estimate(errors, [row.words for row in rows], [row.sentence for row in rows])


def _interval(of: Estimate, sign: str = "") -> str:
    return f"{of.value:{sign}.3f} ({of.low:{sign}.3f} to {of.high:{sign}.3f})" if math.isfinite(of.value) else "-"


def read_rows(path: Path) -> list[Row]:
    """The recordings that a file knows already."""
    if not path.is_file():
        return []
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [Row(**{**row, "notes": tuple(row["notes"])}) for row in found]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m gsvexport.train.spoken", description=__doc__)
    parser.add_argument("artifacts", type=Path, nargs="+")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--every", type=int, default=1, help="only each N-th of the 25 sentences of a class")
    parser.add_argument("--rows", type=Path, help="where each recording is noted (default: beside the first artifact)")
    parser.add_argument("--silent", action="store_true", help="write codes, and make no sound of them")
    parser.add_argument("--threads", type=int, help="cores that graphs may use")
    parser.add_argument("--minutes", type=float, default=math.inf, help="of processor time, after which it stops")
    given = parser.parse_args()
    path = given.rows or given.artifacts[0].with_suffix(".jsonl")
    rows = read_rows(path)
    with ExitStack() as stack, open(path, "a", encoding="utf-8", newline="\n") as out:
        voices = {one.stem: stack.enter_context(load(one, threads=given.threads)) for one in given.artifacts}
        for row in (written if given.silent else said)(voices, HELDOUT, given.seeds, given.every, rows):
            rows.append(row)
            out.write(json.dumps(asdict(row)) + "\n")
            out.flush()
            if time.process_time() > 60 * given.minutes:
                break
    print(table(rows, len(HELDOUT)), differences(rows, len(HELDOUT)), sep="\n\n")  # noqa: T201


if __name__ == "__main__":
    main()
