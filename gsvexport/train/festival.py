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
from gsvexport.text.en.phonemes import word as pronunciation
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
    lines = [_SCRIPT]
    for word in sorted({word for text in texts for word in words(text)}):
        lines.append(f'(lex.add.entry \'("{_spelling(word)}" nil ({_syllables(word)})))')
    lines += [f'(say "{_plain(text)}" "{folder}/{number:04d}")' for number, text in enumerate(texts)]
    script = folder / "say.scm"
    script.write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = subprocess.run(["festival", "-b", str(script)], capture_output=True, text=True, check=False)
    found = [folder / f"{number:04d}.part" for number in range(len(texts))]
    if done.returncode or not all(path.is_file() for path in found):
        raise EnvironmentProblem(
            "festival failed", found=(done.stderr.strip() or "no output")[-300:], fix=f"apt-get install {PACKAGES}"
        )
    return [Spoken(path.with_suffix(".wav"), _segments(path)) for path in found]


def words(text: str) -> list[str]:
    """The words of a text as our front end names them, without its signs."""
    return [token for token in normalise(text) if token not in SIGNS]


def _segments(path: Path) -> tuple[Segment, ...]:
    found, start = [], 0.0
    for line in path.read_text(encoding="utf-8").splitlines():
        end, phone = line.split()
        found.append(Segment(phone, start, float(end)))
        start = float(end)
    return tuple(found)


def _plain(text: str) -> str:
    """The text as festival takes it: words that its own rules leave alone, and the signs at which it pauses."""
    said = "".join(
        f" {_spelling(token)}" if token not in SIGNS else token if token in ".?!" else "," for token in normalise(text)
    )
    return said.strip()


def _spelling(word: str) -> str:
    """Festival makes two words of "it's", so it gets another one with the same sound."""
    return word.replace("'", "x")


def _syllables(word: str) -> str:
    """The phones of a word as the syllables of a festival lexicon, "((hh ax) 0) ((l ow) 1)"."""
    phones = pronunciation(word)
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
