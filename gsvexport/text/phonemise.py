"""Text → phones. One folder a language, found by its name: it has a `phonemes.py` with

    words(text: str, table: str) -> list[Word]     the words and signs of a run of it, in the symbols of "v1" or "v2"
    unreadable(text: str) -> list[int]             the places of characters that it can neither read nor skip
    UNITS: frozenset[str]                          Latin letters that are units of it after a number

What upstream asks of every language is done here (its `text/cleaner.py`, `TTS_infer_pack/TextPreprocessor.py`).
"""

from __future__ import annotations

import importlib
import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from gsvexport.errors import InputError
from gsvexport.text.runs import AUTO, Run, runs
from gsvexport.text.symbols import phone_ids
from gsvexport.text.words import AFTER_LETTER, ENDS, SIGNS, Word

__all__ = ["AUTO", "LIMIT", "SIGNS", "Sentence", "languages", "phonemise", "read"]

LIMIT = 150  # phones spoken in one go: some 12 s, about what the voices are trained with
LONGEST = 200_000  # characters of a text: some four hours of speech
# The rules of a language look from each digit or letter as far as a run of them goes; none is longer than this.
_RUN = re.compile(r"[!-~]{200}(?=[!-~])")
SHORTEST = 6  # phones of a sentence: a shorter one goes with its neighbour, or begins with a full stop
SHORTEST_RUN = 4  # phones of an English run: a shorter one begins with a comma
SHORTEST_CLAUSE = 4  # characters of a text before its first sign: a shorter one begins with a full stop
_CLAUSE_ENDS = "，。？！,.?!~:：—…"
_DOUBLED = ("ja", "ko", "yue")  # their front ends keep both of two full stops in front
_TABLES = {"ko": ("v2",), "yue": ("v2",)}  # where the phones of a language are; the others are in both


@dataclass(frozen=True)
class Sentence:
    """One sentence as words and signs; its last one is a sign."""

    words: tuple[Word, ...]

    @property
    def phones(self) -> list[str]:
        """The names of its phones."""
        return [phone for word in self.words for phone in word.phones]

    @property
    def runs(self) -> list[tuple[str, list[int], int]]:
        """What BERT reads of it: (text, phones of each of its characters, phones before the run in the sentence).

        A run ends where words without characters stand, which get zero features. The counts are upstream's `word2ph`.
        """
        found: list[tuple[str, list[int], int]] = []
        place, inside = 0, False
        for word in self.words:
            if word.text:
                text, counts, start = found.pop() if inside else ("", [], place)
                found.append((text + word.text, [*counts, *word.counts], start))
            inside = bool(word.text)
            place += len(word.phones)
        return found


def languages() -> tuple[str, ...]:
    """The languages that can be read, sorted; "auto" besides them reads each part of a text in its own."""
    return tuple(sorted(path.parent.name for path in Path(__file__).parent.glob("*/phonemes.py")))


def phonemise(text: str, language: str, version: str, *, limit: int = LIMIT, prompt: bool = False) -> list[list[str]]:
    """The phones of each sentence, by their names in phone table `version` ("v1" or "v2"); see `read`."""
    return [sentence.phones for sentence in read(text, language, version, limit=limit, prompt=prompt)]


def read(text: str, language: str, version: str, *, limit: int = LIMIT, prompt: bool = False) -> list[Sentence]:
    """The sentences of a text, ready to be spoken one after the other; `prompt` is the text of a recording.

    English words are read as English in every language. Sentences longer than `limit` phones are cut, where there is a
    sign if possible, and otherwise between two words. Each ends with a sign; very short ones are joined. A text to be
    spoken that begins with a very short clause gets a full stop in front; a prompt does not.

    Raises:
        InputError: a language that cannot be read, characters that it does not have, or no phones at all.
        EnvironmentProblem: the language's extra is not installed.
    """
    text = _RUN.sub(r"\g<0> ", _bounded(text))
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n")).strip("\n ")
    parts = runs(text, language, _module(language).UNITS if language != AUTO else frozenset())
    _check(parts, language, version)
    parts = parts if prompt else _begun(parts, text)
    words = [word for run in _touching(parts) for word in _words(run, version)]
    if not any(_sounds(word) for word in words):
        raise InputError("the text has no sound in it", found=repr(text[:60]), fix="write at least one word")
    found = []
    for sentence in _sentences(words):
        for piece in _cut(sentence, limit):
            done = _finished(piece)
            if sum(len(word.phones) for word in done) < SHORTEST and (language in _DOUBLED or not done[0].is_sign):
                done.insert(0, _sign(".", done[-1]))
            found.append(Sentence(tuple(done)))
    for one in found:
        phone_ids(one.phones, version)
    return found


def _bounded(text: str) -> str:
    """The text, if it is one.

    Raises:
        InputError: longer than `LONGEST`, or with halves of characters.
    """
    if len(text) > LONGEST:
        raise InputError("the text is too long", found=f"{len(text)} characters", limit=LONGEST, fix="say it in parts")
    half = next((place for place, char in enumerate(text) if "\ud800" <= char <= "\udfff"), None)
    if half is not None:
        what = f"character {half + 1} of the text is none: it was not UTF-8 where it came from"
        raise InputError(
            what, found=ascii(text[half])[1:-1], fix="give UTF-8, or name the language of the terminal (LANG)"
        )
    return text


def _module(language: str) -> ModuleType:
    known = languages()
    if language not in known:
        raise InputError(
            f"text in language '{language}' cannot be turned into phones",
            limit=", ".join(known) + f", {AUTO}",
            fix="give the sentence's phones (phones= in Python, --phones on the command line), "
            "or name the language that the text is in (language=, --language)",
        )
    return importlib.import_module(f"gsvexport.text.{language}.phonemes")


def _check(parts: list[Run], language: str, version: str) -> None:
    """Refuse, all at once, characters that have no reading, each named once with its 1-based places.

    Raises:
        InputError: such characters, or a language that the phone table does not have.
    """
    places: dict[str, list[int]] = {}
    for run in parts:
        if version not in _TABLES.get(run.language, (version,)):
            raise InputError(
                f"phone table {version} has no phones for language '{run.language}'",
                limit=", ".join(_TABLES[run.language]),
                fix="use a voice of v2 or newer",
            )
        for place in _module(run.language).unreadable(run.text):
            places.setdefault(run.text[place], []).append(run.start + place + 1)
    if not places:
        return
    problems = []
    for char, where in places.items():
        shown = ", ".join(map(str, where[:3])) + (f" and {len(where) - 3} more" if len(where) > 3 else "")
        problems.append(f"{char!a} ({unicodedata.name(char, 'no name').lower()}) at {shown}")
    raise InputError(
        f"characters that cannot be read in language '{language}'",
        problems=problems,
        fix="leave them out or write them as words; or name the text's language (--language, language= in Python); "
        "or give the phones instead of a text",
    )


def _begun(parts: list[Run], text: str) -> list[Run]:
    """With a full stop before a text whose first clause is very short."""
    if not text or text[0] in _CLAUSE_ENDS:
        return parts
    first = re.split(f"[{_CLAUSE_ENDS}]", text)[0].strip()
    if len(first) >= SHORTEST_CLAUSE:
        return parts
    return [parts[0]._replace(text="。" + parts[0].text), *parts[1:]]


def _touching(parts: list[Run]) -> Iterator[Run]:
    """The runs, with a mark where a number touches the English letter before it, which makes it a code."""
    letter = False
    for run in parts:
        code = letter and run.language in ("zh", "yue") and run.text[:1].isdigit()
        yield run._replace(text=AFTER_LETTER + run.text) if code else run
        letter = run.language == "en" and run.text[-1:].isalpha()


def _words(run: Run, version: str) -> list[Word]:
    found: list[Word] = _module(run.language).words(run.text, version)
    counted = found[:-1] if found and found[-1].phones == (",",) else found
    if run.language == "en" and counted and sum(len(word.phones) for word in counted) < SHORTEST_RUN:
        found.insert(0, Word((",",)))
    return found


def _sounds(word: Word) -> bool:
    return not word.is_sign and word.phones[0] not in ("UNK", "SP2", "SP3", "停", "空")


def _sentences(words: list[Word]) -> list[list[Word]]:
    """The words, cut after signs that end a sentence; what is too short to be spoken alone goes with its neighbour."""
    found: list[list[Word]] = [[]]
    for place, word in enumerate(words):
        after = words[place + 1] if place + 1 < len(words) else None
        found[-1].append(word)
        ends = word.phones[0] in ENDS and (after is None or _sounds(after))
        if ends and _long_enough(found[-1]) and _long_enough(itertools.islice(words, place + 1, None)):
            found.append([])
    return [sentence for sentence in found if sentence]


def _long_enough(words: Iterable[Word]) -> bool:
    """Whether there are phones enough for a sentence, or none at all."""
    count = 0
    for word in words:
        count += len(word.phones)
        if count >= SHORTEST:
            return True
    return count == 0


def _cut(words: list[Word], limit: int) -> Iterator[list[Word]]:
    """Pieces of at most `limit` phones, their last sign included; a longer word is cut, too."""
    room = limit - 2  # for a sign before and a sign after
    rest = [part for word in words for part in _parts(word, room)]
    start, left = 0, sum(len(word.phones) for word in rest)
    while left > limit - 1:
        ends, place = [], 0
        for word in itertools.islice(rest, start, None):
            place += len(word.phones)
            if place > room:
                break
            ends.append((place, word.is_sign))
        signs = [index for index, (end, sign) in enumerate(ends) if sign and end > room // 2]
        stop = (signs[-1] if signs else len(ends) - 1) + 1
        yield rest[start : start + stop]
        start, left = start + stop, left - ends[stop - 1][0]
    if any(map(_sounds, rest[start:])):
        yield rest[start:]


def _parts(word: Word, room: int) -> list[Word]:
    """A word, or pieces of one that has more phones than there is room for."""
    if len(word.phones) <= room:
        return [word]
    if not word.text:
        return [Word(word.phones[start : start + room]) for start in range(0, len(word.phones), room)]
    found, place = [], 0
    for char, count in zip(word.text, word.counts, strict=True):
        found.append(Word(word.phones[place : place + count], char, (count,)))
        place += count
    return found


def _finished(words: list[Word]) -> list[Word]:
    """With a sign at the end."""
    return list(words) if words[-1].is_sign else [*words, _sign(".", words[-1])]


def _sign(sign: str, beside: Word) -> Word:
    return Word((sign,), sign, (1,)) if beside.text else Word((sign,))
