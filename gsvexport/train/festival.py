"""Speech to imitate: Debian's festival with the voice of festvox-us-slt-hts, which is told how to say every word.

Festival gets the pronunciations of `gsvexport.text.en`, and pauses at signs only. So what it says is, phone for phone,
what `gsvexport say` later asks of the voice for the same text.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from gsvexport.errors import EnvironmentProblem
from gsvexport.text.en.letters import VOWELS
from gsvexport.text.en.normal import normalise
from gsvexport.text.en.phonemes import Phones, words
from gsvexport.text.phonemise import SIGNS

VOICE = "cmu_us_slt_arctic_hts"
PACKAGES = "festival festvox-us-slt-hts"
PAUSE = "pau"
_VOICES = Path("/usr/share/festival/voices")
# What may begin an English syllable, so that the others stay with the vowel before (NG, and clusters not listed).
_LISTED = """B BL BR BY CH D DH DR DW DY F FL FR FY G GL GR GW HH HHY HHW JH K KL KR KW KY L M MY N NY P PL PR PY R S SF
SH SHR SK SKL SKR SKW SKY SL SM SN SP SPL SPR SPY ST STR SW T TH THR THW TR TW TY V VY W Y Z ZH"""
_ONSETS = frozenset(_LISTED.split())
_SCRIPT = f"""\
(voice_{VOICE})
(Parameter.set 'Phrase_Method 'cart_tree)
(set! phrase_cart_tree simple_phrase_cart_tree)
(lex.create "front_end")
(lex.set.phoneset "radio")
(lex.set.lts.method 'cmu_lts_function)
(lex.select "front_end")
(mapcar (lambda (sign) (lex.add.entry (list sign 'punc nil))) '("." "," "?" "!"))
(define (say text base)
 (let ((u (utt.synth (eval (list 'Utterance 'Text text)))) (out (fopen (string-append base ".part") "w")))
  (utt.save.wave u (string-append base ".wav") 'riff)
  (mapcar (lambda (s) (format out "%s %s\\n" (item.feat s "end") (item.name s))) (utt.relation.items u 'Segment))
  (fclose out)))
"""


@dataclass(frozen=True)
class Segment:
    """A phone by festival's name, and where it lies, in seconds."""

    phone: str
    start: float
    end: float


@dataclass(frozen=True)
class Spoken:
    """A recording and its segments. `audio` is a WAV file of 32 kHz."""

    audio: Path
    segments: tuple[Segment, ...]


def require_festival() -> None:
    """Raises: EnvironmentProblem: festival or its voice is not installed."""
    missing = [] if shutil.which("festival") else ["festival"]
    if not any(_VOICES.glob(f"*/{VOICE}")):
        missing.append("festvox-us-slt-hts")
    if missing:
        raise EnvironmentProblem(
            f"the speech to train on needs Debian's {' and '.join(missing)}",
            found="not installed",
            fix=f"apt-get install {PACKAGES}",
        )


def festival_phone(symbol: str) -> str:
    """Our symbol ("AH0") as festival's voice names it ("ax")."""
    return "ax" if symbol == "AH0" else symbol.rstrip("012").lower()


def speak(texts: Sequence[str], folder: Path) -> list[Spoken]:
    """Each text spoken into `folder`, in order.

    Raises:
        EnvironmentProblem: festival fails.
    """
    spellings: dict[tuple[str, Phones], str] = {}
    said = [_plain(text, spellings) for text in texts]
    entries = [f'(lex.add.entry \'("{spelling}" nil ({_syllables(key[1])})))' for key, spelling in spellings.items()]
    says = [f'(say "{text}" "{folder}/{number:04d}")' for number, text in enumerate(said)]
    lines = [_SCRIPT, *entries, *says]
    script = folder / "say.scm"
    script.write_bytes(("\n".join(lines) + "\n").encode())
    done = subprocess.run(["festival", "-b", str(script)], capture_output=True, encoding="utf-8", check=False)
    found = [folder / f"{number:04d}.part" for number in range(len(texts))]
    if done.returncode or not all(path.is_file() for path in found):
        raise EnvironmentProblem(
            "festival failed", found=(done.stderr.strip() or "no output")[-300:], fix=f"apt-get install {PACKAGES}"
        )
    return [Spoken(path.with_suffix(".wav"), _segments(path)) for path in found]


def _segments(path: Path) -> tuple[Segment, ...]:
    found, start = [], 0.0
    for line in path.read_text(encoding="utf-8").splitlines():
        end, phone = line.split()
        found.append(Segment(phone, start, float(end)))
        start = float(end)
    return tuple(found)


def _plain(text: str, spellings: dict[tuple[str, Phones], str]) -> str:
    """The text as festival takes it: words that its own rules leave alone, and the signs at which it pauses.

    Words get a spelling for each of their pronunciations, kept in `spellings`. Apostrophes go, because festival makes
    two words of "it's".
    """
    tokens = normalise(text)
    spoken = [word.phones for word in words(text, "v2")]
    said = ""
    for token, phones in zip(tokens, spoken, strict=True):
        if token in SIGNS:
            said += token if token in ".?!" else ","
            continue
        others = sum(1 for spelling, _ in spellings if spelling == token)
        spelling = spellings.setdefault((token, phones), token.replace("'", "x") + "x" * others)
        said += f" {spelling}"
    return said.strip()


def _syllables(phones: Phones) -> str:
    """The phones of a word as the syllables of a festival lexicon, "((hh ax) 0) ((l ow) 1)"."""
    nuclei = [place for place, phone in enumerate(phones) if phone[:-1] in VOWELS]
    starts = [0]
    for before, nucleus in pairwise(nuclei):
        start = before + 1
        while start < nucleus and "".join(phones[start:nucleus]) not in _ONSETS:
            start += 1
        starts.append(start)
    written = []
    for start, end in zip(starts, [*starts[1:], len(phones)], strict=True):
        syllable = phones[start:end]
        stressed = any(phone[-1] in "12" for phone in syllable)
        written.append(f"(({' '.join(map(festival_phone, syllable))}) {int(stressed)})")
    return " ".join(written)
