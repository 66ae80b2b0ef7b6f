"""Text → phones. One folder a language, found by its name: it has a `phonemes.py` with

    sentences(text: str, table: str) -> list[list[Word]]

the sentences of a text as words and signs, in the symbols of phone table `table` ("v1" or "v2"). What upstream asks of
every language is done here.
"""

from __future__ import annotations

import importlib
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gsvexport.errors import InputError
from gsvexport.text.symbols import phone_ids
from gsvexport.text.words import SIGNS, Word

__all__ = ["LIMIT", "SIGNS", "Sentence", "languages", "phonemise", "read"]

LIMIT = 150  # phones spoken in one go: some 12 s, about what the voices are trained with
SHORTEST = {"en": (4, ",")}  # upstream puts a comma before fewer English phones than that
LONGEST = 200_000  # characters of a text: some four hours of speech
# The rules of a language look from each digit or letter as far as a run of them goes; none is longer than this.
_RUN = re.compile(r"[!-~]{200}(?=[!-~])")
SHORTEST_OTHER = (6, ".")  # and a full stop in other languages


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
    """The languages that can be read, sorted."""
    return tuple(sorted(path.parent.name for path in Path(__file__).parent.glob("*/phonemes.py")))


def phonemise(text: str, language: str, version: str, *, limit: int = LIMIT) -> list[list[str]]:
    """The phones of each sentence, by their names in phone table `version` ("v1" or "v2"); see `read`."""
    return [sentence.phones for sentence in read(text, language, version, limit=limit)]


def read(text: str, language: str, version: str, *, limit: int = LIMIT) -> list[Sentence]:
    """The sentences of a text, ready to be spoken one after the other.

    Sentences longer than `limit` phones are cut, where there is a sign if possible, and otherwise between two words.
    Each ends with a sign, and one that is very short begins with one (upstream's `text/cleaner.py`, `TTS.py`).

    Raises:
        InputError: a language that cannot be read, characters that it does not have, or no phones at all.
        EnvironmentProblem: the language's extra is not installed.
    """
    known = languages()
    if language not in known:
        raise InputError(
            f"text in language '{language}' cannot be turned into phones",
            limit=", ".join(known),
            fix="give the sentence's phones (phones= in Python, --phones on the command line), "
            "or name the language that the text is in (language=, --language)",
        )
    if len(text) > LONGEST:
        raise InputError("the text is too long", found=f"{len(text)} characters", limit=LONGEST, fix="say it in parts")
    half = next((place for place, char in enumerate(text) if "\ud800" <= char <= "\udfff"), None)
    if half is not None:
        what = f"character {half + 1} of the text is none: it was not UTF-8 where it came from"
        raise InputError(
            what, found=ascii(text[half])[1:-1], fix="give UTF-8, or name the language of the terminal (LANG)"
        )
    text = _RUN.sub(r"\g<0> ", text)
    module = importlib.import_module(f"gsvexport.text.{language}.phonemes")
    shortest, before = SHORTEST.get(language, SHORTEST_OTHER)
    found = []
    for sentence in module.sentences(text, version):
        for piece in _cut(sentence, limit):
            words = _finished(piece)
            if words and sum(len(word.phones) for word in words) < shortest:
                words.insert(0, _sign(before, words[-1]))
            if words:
                found.append(Sentence(tuple(words)))
    if not found:
        raise InputError("the text has no sound in it", found=repr(text[:60]), fix="write at least one word")
    for one in found:
        phone_ids(one.phones, version)
    return found


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
            ends.append((place, word.phones[0] in SIGNS))
        signs = [index for index, (end, sign) in enumerate(ends) if sign and end > room // 2]
        stop = (signs[-1] if signs else len(ends) - 1) + 1
        yield rest[start : start + stop]
        start, left = start + stop, left - ends[stop - 1][0]
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
    """Without signs in front, and with one at the end; nothing where only signs are."""
    while words and words[0].phones[0] in SIGNS:
        words = words[1:]
    if words and words[-1].phones[0] not in SIGNS:
        return [*words, _sign(".", words[-1])]
    return list(words)


def _sign(sign: str, beside: Word) -> Word:
    return Word((sign,), sign, (1,)) if beside.text else Word((sign,))
