"""Our front end's phones → the symbols that the package's voice was trained on (IPA of American English).

So its text encoder can be asked about our texts, and it is known which phone each of its symbols says. Spelling is
looked at for one thing only: function words that are said without stress, which phones alone do not tell ("to", "two").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gsvexport.demo import package
from gsvexport.text.en.normal import normalise
from gsvexport.text.phonemise import SIGNS, Sentence, read
from gsvexport.text.symbols import phone_ids

CONSONANTS = {
    **{"B": "b", "CH": "tʃ", "D": "d", "DH": "ð", "F": "f", "G": "ɡ", "HH": "h", "JH": "dʒ", "K": "k", "L": "l"},
    **{"M": "m", "N": "n", "NG": "ŋ", "P": "p", "R": "ɹ", "S": "s", "SH": "ʃ", "T": "t", "TH": "θ", "V": "v"},
    **{"W": "w", "Y": "j", "Z": "z", "ZH": "ʒ"},
}
VOWELS = {
    **{"AA": "ɑː", "AE": "æ", "AH": "ʌ", "AO": "ɔː", "AW": "aʊ", "AY": "aɪ", "EH": "ɛ", "ER": "ɜː", "EY": "eɪ"},
    **{"IH": "ɪ", "IY": "iː", "OW": "oʊ", "OY": "ɔɪ", "UH": "ʊ", "UW": "uː"},
}
PAUSES = {".": ".", ",": ",", "?": "?", "!": "!", "…": ",", "-": ","}
_WHOLE = {  # words that it says otherwise than their phones suggest: symbols, and the place of the phone of each
    ("AH0", "N", "D"): (("æ", 0), ("n", 1), ("d", 2)),
    ("W", "AA1", "Z"): (("w", 0), ("ʌ", 1), ("z", 2)),
}
_UNSTRESSED = (
    " the a an to at in on and he she it you we they i my your his her its our their is was were are am has had have "
    "can could will would for of by with that this as from or if been than there who i'm it's i'll he's she's that's "
    "we're they're you're i've we've "
)
_HALF = " me him them us so but not should what how put some where which why then up out must may might "
_SIBILANTS = ("S", "Z", "SH", "CH", "JH")


@dataclass(frozen=True)
class Spelled:
    """A sentence: our phone ids [X], the package's symbol ids [S], and for each of these the phone that it says [S]."""

    phones: NDArray[np.int64]
    ids: NDArray[np.int64]
    aligned: NDArray[np.int64]


def spell(text: str) -> list[Spelled]:
    """The sentences of a text. A blank or a space counts to the phone before it.

    Raises:
        InputError: the text cannot be read.
    """
    tokens = normalise(text)
    found, place = [], 0
    for sentence in read(text, "en", "v2"):
        words = [token for token in tokens[place:] if token not in SIGNS]
        count = sum(word.phones[0] not in SIGNS for word in sentence.words)
        found.append(_spelled(sentence, words[:count]))
        while count:
            count -= tokens[place] not in SIGNS
            place += 1
    return found


def _spelled(sentence: Sentence, spellings: list[str]) -> Spelled:
    table = package.symbols()
    symbols: list[tuple[str, int]] = [(package.START, 0)]
    words, place = [word.phones for word in sentence.words], 0
    written = iter(spellings)
    for number, phones in enumerate(words):
        after = words[number + 1] if number + 1 < len(words) else None
        if phones[0] in SIGNS:
            sign = PAUSES[phones[0]]
            symbols.append((sign if after or sign != "," else ".", place))
            if after:
                symbols.append((" ", place))
        else:
            follows = after[0] if after and after[0] not in SIGNS else None
            said = word_symbols(tuple(phones), follows, _stress(tuple(phones), next(written, "")))
            symbols += [(symbol, place + at) for symbol, at in said]
            if follows:
                symbols.append((" ", place + len(phones) - 1))
        place += len(phones)
    symbols.append((package.END, place - 1))
    ids, aligned = [], []
    for symbol, at in symbols:
        ids += [table[symbol], table[package.PAD]]
        aligned += [at, at]
    phones_ids = np.array(phone_ids(sentence.phones, "v2"), np.int64)
    return Spelled(phones_ids, np.array(ids[:-1], np.int64), np.array(aligned[:-1], np.int64))


def _stress(phones: tuple[str, ...], spelling: str) -> str | None:
    """What takes the place of the main stress of a word, or None: function words of one syllable have less of it."""
    if sum(phone[-1].isdigit() for phone in phones) != 1:
        return None
    return "" if f" {spelling} " in _UNSTRESSED else "ˌ" if f" {spelling} " in _HALF else None


def word_symbols(word: tuple[str, ...], after: str | None, stress: str | None) -> list[tuple[str, int]]:
    """The symbols of one word, each with the place of its phone.

    `after` is the next word's first phone, None before a pause; `stress` replaces the mark of the main stress.
    """
    if word in _WHOLE:
        return list(_WHOLE[word])
    main = next((place for place, phone in enumerate(word) if phone[-1] == "1"), None)
    found: list[tuple[str, int]] = []
    for place, phone in enumerate(word):
        if not phone[-1].isdigit():
            symbols = "ɾ" if _tapped(word, place) else CONSONANTS[phone]
        else:
            text, marked = _vowel(word, place, after)
            mark = ""
            if marked and phone[-1] == "1":
                mark = "ˈ" if stress is None else stress
            elif marked and phone[-1] == "2" and (main is None or place < main):
                mark = "ˌ"
            symbols = mark + text
        found += [(symbol, place) for symbol in symbols]
    return found


def _tapped(word: tuple[str, ...], place: int) -> bool:
    """Whether a T is said as in "water": after a vowel or R, before an unstressed vowel, but not as in "button"."""
    if word[place] != "T" or place == 0 or place + 1 == len(word):
        return False
    before, inside = word[place - 1], word[place + 1]
    button = inside[:-1] in ("AH", "IH") and word[place + 2 : place + 3] == ("N",)
    return (before[-1].isdigit() or before == "R") and inside[-1] == "0" and not button


def _vowel(word: tuple[str, ...], place: int, after: str | None) -> tuple[str, bool]:
    """A vowel's symbols, and whether it can bear a mark of stress."""
    name, level = word[place][:-1], word[place][-1]
    inside = word[place + 1] if place + 1 < len(word) else None
    rest, before = word[place + 1 :], word[place - 1] if place else None
    if name == "AH" and level == "0":
        if (rest == ("D",) and before in ("T", "D")) or (rest == ("Z",) and before in _SIBILANTS):
            return "ᵻ", True
        return ("ə" if place else "ɐ"), True
    if name == "IH" and level == "0":
        prefix = place == 1 and word[0] in ("B", "D", "R") and len(word) > 3
        return ("ᵻ" if rest in (("D",), ("Z",)) or prefix else "ɪ"), True
    if name == "ER":
        follows = inside or after
        return ("ɚ" if level == "0" else "ɜː") + ("ɹ" if follows and follows[-1].isdigit() else ""), True
    if name == "IY" and inside == "R":
        return "ɪ", True
    if name == "IY" and (level == "0" or (level == "2" and inside is None)):
        return "i", False
    if name == "AO" and inside in ("NG", "G", "F"):
        return ("ɔ" if inside == "NG" else "ɔː"), True
    return VOWELS[name], True
