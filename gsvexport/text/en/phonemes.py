"""English → ARPABET with stress, as CMUdict writes it.

A word is looked up as it stands. One that CMUdict does not have is tried without its ending (-s, -'s, -ed, -ing, -ly),
then as two words written together, and at last sounded out by rule. Of the words that are written alike and spoken
differently ("read", "live", "use"), `heteronyms` knows the most frequent ones.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

from gsvexport.text.en.heteronyms import heteronym, with_s
from gsvexport.text.en.letters import VOWELS, sound_out
from gsvexport.text.en.lexicon import pronounce
from gsvexport.text.en.normal import LETTER, normalise
from gsvexport.text.words import SIGNS, Word, in_sentences

Phones = tuple[str, ...]

_NAMES = (
    "EY1;B IY1;S IY1;D IY1;IY1;EH1 F;JH IY1;EY1 CH;AY1;JH EY1;K EY1;EH1 L;EH1 M;EH1 N;OW1;P IY1;K Y UW1;AA1 R;EH1 S;"
    "T IY1;Y UW1;V IY1;D AH1 B AH0 L Y UW0;EH1 K S;W AY1;Z IY1"
)
_LETTERS = dict(zip("abcdefghijklmnopqrstuvwxyz", (tuple(name.split()) for name in _NAMES.split(";")), strict=True))
_PART = 4  # letters of the shorter of two words written together; shorter ones would be found everywhere


def sentences(text: str, table: str) -> list[list[Word]]:
    """The sentences of a text; the phones are the same in both tables.

    Raises:
        InputError: characters that are no English text, each named once with its places.
    """
    tokens = normalise(text)
    words: list[Word] = []
    for place in reversed(range(len(tokens))):
        token = tokens[place]
        phones = (token,) if token in SIGNS else heteronym(tokens, place) or word(token)
        if token == "the" and words and words[-1].phones[0].rstrip("012") in VOWELS:
            phones = ("DH", "IY0")
        words.append(Word(phones))
    return in_sentences(words[::-1])


@functools.lru_cache(4096)
def word(spelling: str) -> Phones:
    """The phones of one word in lower case, or of a letter by its name ("~b", plural "~bs")."""
    if spelling.startswith(LETTER):
        name = _LETTERS[spelling[1]]
        return with_s(name) if len(spelling) > 2 else name
    known = pronounce(spelling) or pronounce(spelling := spelling.strip("'"))
    if known:
        return known
    if not re.search("[aeiouy]", spelling):  # "html": no more than its letters can be said
        return tuple(phone for letter in spelling if letter in _LETTERS for phone in _LETTERS[letter])
    return (
        _inflected(spelling, pronounce) or _compound(spelling) or _inflected(spelling, sound_out) or sound_out(spelling)
    )


def _inflected(spelling: str, say: Callable[[str], Phones | None]) -> Phones | None:
    """A stem, said by `say`, and one of the regular endings; None when there is no such ending or stem."""
    for ending, add, restored in _ENDINGS:
        stem = spelling.removesuffix(ending)
        if stem == spelling or len(stem) < 2 or not re.search("[aeiouy]", stem):
            continue
        for candidate in restored(stem):
            if phones := say(candidate):
                return add(phones)
    return None


def _stems(stem: str) -> list[str]:
    """What "stopp", "mak", "tri" and "walk" may come from, the likeliest first."""
    if re.search(r"([bdgklmnprt])\1$", stem):
        return [stem[:-1], stem] if not stem.endswith("ll") else [stem, stem[:-1]]
    if stem.endswith("i"):
        return [stem[:-1] + "y"]
    if re.search(r"([^aeiouy][aeiouy][bcdgklmnprstvz]|[cgvz]|[aeiouy]s|u)$", stem):
        return [stem + "e", stem]
    return [stem, stem + "e"]


def _plain_s(stem: str) -> list[str]:
    if stem.endswith(("s", "u", "i")):  # "glass", "virus" and "axis" are no plurals
        return []
    return [stem[:-2] + "y", stem] if stem.endswith("ie") else [stem]


def _with_d(phones: Phones) -> Phones:
    if phones[-1] in ("T", "D"):
        return (*phones, "IH0", "D")
    return (*phones, "T" if phones[-1] in ("P", "K", "F", "TH", "S", "SH", "CH") else "D")


_ENDINGS: tuple[tuple[str, Callable[[Phones], Phones], Callable[[str], list[str]]], ...] = (
    ("'s", with_s, lambda stem: [stem]),
    ("es", with_s, lambda stem: [stem] if re.search(r"(s|x|z|ch|sh)$", stem) else []),
    ("s", with_s, _plain_s),
    ("ed", _with_d, _stems),
    ("ing", lambda phones: (*phones, "IH0", "NG"), _stems),
    ("ly", lambda phones: (*phones, "L", "IY0") if phones[-1] != "L" else (*phones, "IY0"), lambda stem: [stem]),
)


def _compound(spelling: str) -> Phones | None:
    """Two known words written together, the longest first one; the second keeps a weaker stress."""
    for cut in range(len(spelling) - _PART, _PART - 1, -1):
        first, second = pronounce(spelling[:cut]), pronounce(spelling[cut:])
        if first and second:
            return first + tuple(
                phone[:-1] + "2" if phone[:-1] in VOWELS and phone[-1] == "1" else phone for phone in second
            )
    return None
