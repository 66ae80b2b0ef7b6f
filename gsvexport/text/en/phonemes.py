"""English → ARPABET with stress, as CMUdict writes it.

As in upstream's front end, a word that CMUdict does not have is spelled where it is very short, else taken apart into
words that are written together, and what is no such thing is read by g2p_en's network. Of the words that are written
alike and spoken differently ("read", "live", "use"), `heteronyms` knows the most frequent ones.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

from gsvexport.text.en.characters import unreadable
from gsvexport.text.en.heteronyms import heteronym, with_s
from gsvexport.text.en.letters import sound_out
from gsvexport.text.en.lexicon import pronounce
from gsvexport.text.en.normal import normalise
from gsvexport.text.en.predict import predict
from gsvexport.text.en.segment import segment
from gsvexport.text.en.spelling import LETTER
from gsvexport.text.words import SIGNS, Word

__all__ = ["UNITS", "unreadable", "words"]

Phones = tuple[str, ...]

UNITS: frozenset[str] = frozenset()
_NAMES = (
    "EY1;B IY1;S IY1;D IY1;IY1;EH1 F;JH IY1;EY1 CH;AY1;JH EY1;K EY1;EH1 L;EH1 M;EH1 N;OW1;P IY1;K Y UW1;AA1 R;EH1 S;"
    "T IY1;Y UW1;V IY1;D AH1 B AH0 L Y UW0;EH1 K S;W AY1;Z IY1"
)
_LETTERS = dict(zip("abcdefghijklmnopqrstuvwxyz", (tuple(name.split()) for name in _NAMES.split(";")), strict=True))
_LETTER_WORDS = {**_LETTERS, "a": ("AH0",)}
_SPELLED = 3  # letters of an unknown word that is spelled
_LONGEST = 40  # letters of one that is taken apart; longer ones are no words


def words(text: str, table: str) -> list[Word]:
    """The words and signs of a text; the phones are the same in both tables."""
    tokens = normalise(text)
    found: list[Word] = []
    for place in reversed(range(len(tokens))):
        token = tokens[place]
        phones = (token,) if token in SIGNS else heteronym(tokens, place) or word(token)
        found.append(Word(phones))
    return found[::-1]


@functools.lru_cache(4096)
def word(spelling: str) -> Phones:
    """The phones of one word in lower case, or of a letter by its name ("~b", plural "~bs")."""
    if spelling.startswith(LETTER):
        name = _LETTERS[spelling[1]]
        return with_s(name) if len(spelling) > 2 else name
    if known := _known(spelling) or _known(spelling := spelling.strip("'-")):
        return known
    if spelling.endswith("'s"):
        return with_s(word(spelling[:-2]))
    letters = re.sub("[^a-z]", "", spelling)
    if len(letters) <= _SPELLED:
        return tuple(phone for letter in letters for phone in _LETTERS[letter])
    if len(letters) > _LONGEST:
        return sound_out(letters)
    parts = segment(letters)
    if len(parts) == 1:
        return predict(spelling) or sound_out(letters)
    return tuple(phone for one in parts for phone in (_LETTERS[one] if len(one) == 1 else word(one)))


def _known(spelling: str) -> Phones | None:
    return (_names().get(spelling) or pronounce(spelling)) if len(spelling) > 1 else _LETTER_WORDS.get(spelling)


@functools.cache
def _names() -> dict[str, Phones]:
    lines = (Path(__file__).parent / "names.txt").read_text(encoding="utf-8").splitlines()
    return {name: tuple(phones) for name, *phones in map(str.split, lines) if name != "#"}
