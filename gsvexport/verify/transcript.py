"""What counts as the same words: one rule for the text that was to be said and for the text that was heard.

`words` and `letters` read both sides in the same way:

1. English and Mandarin are written out by the front end that the voice reads with: "10 %" is "ten percent", "Dr." is
   "doctor", "twenty-one" two words, "p.m." and "PM" are "pm". What the front end cannot read is left out.
2. Case, accents, punctuation and the other signs go; NFKC makes wide and narrow characters alike.
3. English contractions are opened ("don't" - "do not", "it's" - "it is"), some abbreviations too ("Mr" - "mister"),
   numbers lose their "and" and "a" ("a hundred and five" - "one hundred five"), and British spellings become American
   ("colour" - "color", "realise" - "realize", "centre" - "center", "grey" - "gray").
4. Letters are counted without spaces, so "rain coat" and "raincoat" differ in words and not in letters.

Homophones, names, and kanji for kana stay errors: of the recogniser, on both sides of a pair.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence

from gsvexport.text.en import characters as english
from gsvexport.text.en import normal as english_rules
from gsvexport.text.runs import runs
from gsvexport.text.zh import characters as mandarin
from gsvexport.text.zh import normal as mandarin_rules
from gsvexport.text.zh import phonemes as mandarin_phonemes
from gsvexport.text.zh.simplify import simplified

UNSPACED = ("ja", "ko", "yue", "zh")  # no spaces, or (Korean) as one likes: letters count, words do not


def _mandarin(text: str) -> list[str]:
    found: list[str] = []
    for run in runs(text, "zh", mandarin_rules.UNITS):
        plain = mandarin.plain(simplified(run.text))
        found += english_rules.normalise(run.text) if run.language == "en" else mandarin_rules.normalise(plain)
    return found


def _mandarin_lacks(char: str) -> bool:
    return bool(mandarin_phonemes.unreadable(char)) and bool(english.unreadable(char))


_READERS: dict[str, tuple[Callable[[str], object], Callable[[str], list[str]]]] = {  # what it lacks; how it reads
    "en": (english.unreadable, english_rules.normalise),
    "zh": (_mandarin_lacks, _mandarin),
}
_IS = "it|he|she|that|what|there|here|where|who|how"
_OUR = "arm|ard|behavi|clam|col|endeav|fav|flav|glam|harb|hon|hum|lab|neighb|od|parl|rum|sav|splend|tum|vap|vig"
_CONTRACTIONS = (
    (r"\b(?:can't|cannot)\b", "can not"),
    (r"\bwon't\b", "will not"),
    (r"\bshan't\b", "shall not"),
    (r"\b(\w+)n't\b", r"\1 not"),
    (r"\blet's\b", "let us"),
    (rf"\b({_IS})'s\b", r"\1 is"),  # elsewhere 's may be a genitive
    (r"\b(\w+)'re\b", r"\1 are"),
    (r"\b(\w+)'ll\b", r"\1 will"),
    (r"\b(\w+)'ve\b", r"\1 have"),
    (r"\bi'm\b", "i am"),
)
_SPELLINGS = (
    (r"\bmr\b", "mister"),
    (r"\bmrs\b", "missus"),
    (r"\bdr\b", "doctor"),
    (r"\bokay\b", "ok"),
    (r"\ba (hundred|thousand|million|billion)\b", r"one \1"),
    (r"\b(hundred|thousand|million|billion) and\b", r"\1"),
    (rf"\b({_OUR})our", r"\1or"),
    (r"(?<=\w{3})is(?=(?:e|ed|es|er|ers|ing|ation|ations)\b)", "iz"),  # "promise", too, on both sides
    (r"(?<=\w{2})ys(?=(?:e|ed|es|er|ers|ing)\b)", "yz"),
    (r"\b(cent|met|lit|fib|theat|kilomet|centimet|millimet|somb|spect|meag)re(?=s?\b)", r"\1er"),
    (r"\b(travel|cancel|label|level|model|signal|fuel|marvel|counsel|jewel|quarrel)l(?=ed|ing|er)", r"\1"),
    (r"\bgrey", "gray"),
    (r"\b(catal|dial|anal)ogue", r"\1og"),
    (r"\b(def|off|lic)ence(?=s?\b)", r"\1ense"),
    (r"\bprogramme(?=s?\b)", "program"),
    (r"\btyre(?=s?\b)", "tire"),
)
_RULES = [(re.compile(pattern), put) for pattern, put in (*_CONTRACTIONS, *_SPELLINGS)]


def words(text: str, language: str = "en") -> list[str]:
    """The words of a text, in lower case, as the rule of this module has them. In a language without spaces: runs."""
    text = _written_out(text, language)
    if language == "en":
        text = text.replace("-", " ")
        text = re.sub(r"(?:~[a-z]\s+)+~[a-z]\b", lambda found: re.sub(r"[~\s]", "", found[0]), text)  # p m: pm
        for pattern, put in _RULES:
            text = pattern.sub(put, text)
    return [one for one in ("".join(map(_letter, part)) for part in text.split()) if one]


def letters(text: str, language: str = "en") -> list[str]:
    """The letters, digits and characters of a text, without spaces and signs, as the rule of this module has them."""
    return list("".join(words(text, language)))


def edits(wanted: Sequence[str], heard: Sequence[str]) -> int:
    """Fewest words (or letters) to put in, leave out or exchange (Levenshtein)."""
    row = list(range(len(heard) + 1))
    for count, one in enumerate(wanted, 1):
        diagonal, row[0] = row[0], count
        for place, other in enumerate(heard, 1):
            diagonal, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, diagonal + (one != other))
    return row[-1]


def _written_out(text: str, language: str) -> str:
    """The text in lower case and, where there is a front end, as that reads it; signs may be left, between spaces."""
    if language not in _READERS:
        return "".join(
            " " if unicodedata.category(char)[0] in "PSZC" else char
            for char in unicodedata.normalize("NFKC", text).casefold()
        )
    lacks, read = _READERS[language]
    text = "".join(" " if lacks(char) else char for char in text)
    return unicodedata.normalize("NFKC", " ".join(read(text))).casefold()


def _letter(char: str) -> str:
    """A letter, mark or digit as it is; of anything else nothing (an apostrophe is not heard)."""
    return char if unicodedata.category(char)[0] in "LMN" else ""
