"""Written English → words to pronounce and punctuation.

The rules run in the order of `RULES`; each sees what the earlier ones left. They know no grammar: "1984" is a year
wherever it stands, as upstream reads it, and "St." before a name is a saint unless a name stands before it, too.
Numbers, money, dates and times are in `quantities`, abbreviations in `abbreviations`.
"""

from __future__ import annotations

import re

from gsvexport.text.en import abbreviations, capitals, quantities
from gsvexport.text.en.characters import STOP, plain
from gsvexport.text.en.rules import Rule, apply, filled
from gsvexport.text.en.spelling import LETTER, spell
from gsvexport.text.words import SIGNS, merged

_SIGNS = {"&": "and", "%": "percent", "@": "at", "+": "plus", "=": "equals", "#": "number", "°": "degrees"}
_SIGNS |= {"×": "times", "÷": "divided by", "±": "plus or minus", "<": "less than", ">": "greater than", "^": ""}
_SIGNS |= {
    "$": "dollar",
    "€": "euro",
    "£": "pound",
    "¥": "yen",
    "*": "",
    "²": "squared",
    "³": "cubed",
    "/": "",
    ":": "",
}
_TOKENS = re.compile(rf"{LETTER}[a-z](?:'?s\b)?|[a-z']+(?:-[a-z']+)*|[,.!?-]")


def _sign(sign: str) -> str:
    return _SIGNS[sign]


_BEFORE: list[Rule] = [
    (re.compile(pattern), put)
    for pattern, put in (
        (rf"(?<=[^\s.,!?:{STOP}-])[ ]*\n\s*", ". "),  # a line without an end
        (r"\s+", " "),
        (r"\.{2,}", "."),
        (r"-{2,}", "-"),
        (r"(?<=[\d%C])\s?~\s?(?=[$€£¥]?\d)", "-"),
        ("~", " "),
        (r"\bhttps?://", ""),
        (r"\b([A-Z]+)&([A-Z]+)\b", filled(" {} and {} ", (spell, 1), (spell, 2))),
        (r"(?<=[\w.])@(?=\w+\.\w)", " at "),
        (r"(?<=[a-z]{2})\.(?=[a-z]{2,})|(?<=www)\.", " dot "),
        (r"(?<= dot com)/|(?<= dot org)/", " slash "),
    )
]
_AFTER: list[Rule] = [
    (re.compile(pattern), put)
    for pattern, put in (
        (r"[&%@+=#°/$€£¥×÷±<>^*²³:]", filled(" {} ", (_sign, 0))),
        (r"(?<=\w)\.(?=\w)", " dot "),
        (r"(?<![\w'])-(?=\w)|(?<=[\d~])-|-(?=[~\d])", " "),
        (STOP, "."),
    )
]
RULES = (*_BEFORE, *abbreviations.RULES, *quantities.RULES, *capitals.RULES, *_AFTER)


def normalise(text: str) -> list[str]:
    """The words in lower case, "~x" for a letter said by its name, and the signs , . ! ? - between them.

    Of several signs in a row the strongest is kept.
    """
    text = plain(text)
    if not re.search("[a-z]", text) and re.search("[A-Z]{2}.*[^A-Za-z'].*[A-Z]{2}", text):
        text = text.lower()  # all of it shouts
    tokens = _TOKENS.findall(apply(RULES, text).lower())
    return merged([token for token in tokens if token.strip("'-") or token in SIGNS])
