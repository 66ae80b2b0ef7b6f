"""Words in capitals: spelled, as upstream spells them all, unless they are said as words or only loud."""

from __future__ import annotations

import re

from gsvexport.text.en.lexicon import pronounce
from gsvexport.text.en.rules import Match, Rule, filled
from gsvexport.text.en.segment import frequency
from gsvexport.text.en.spelling import LETTER, spell

# Spelled, though they are words in small letters
_SPELLED = frozenset(
    [
        "US",
        "IT",
        "AI",
        "ID",
        "IP",
        "UN",
        "EU",
        "OS",
        "AM",
        "PM",
        "LA",
        "TV",
        "LED",
        "WHO",
        "IRA",
        "IOU",
        "ASAP",
        "FAQ",
        "SAT",
        "IRS",
        "CIA",
        "PR",
        "HR",
        "AC",
        "DC",
        "MS",
        "PA",
        "MA",
        "VA",
        "AD",
        "BC",
        "CE",
        "ET",
        "AB",
        "BA",
        "MD",
        "ALS",
        "CAD",
        "EST",
        "MIT",
        "SAP",
        "ERP",
        "ICE",
        "POS",
        "VAT",
        "ARM",
        "SOS",
    ]
)
_WORDS = frozenset(
    [
        "NASA",
        "NATO",
        "AIDS",
        "PIN",
        "SIM",
        "RAM",
        "SCUBA",
        "LASER",
        "RADAR",
        "OPEC",
        "UNICEF",
        "UNESCO",
        "NAFTA",
        "ASEAN",
        "SARS",
        "COVID",
        "GIF",
        "JPEG",
        "JSON",
        "ROM",
    ]
)
_LOUD = -3.9  # the logarithm of how often a short word comes, from which on its capitals are only loud: NOT, YOU
_ROMAN = re.compile("(?=[MDCLXVI])M{0,3}(CM|CD|D?C{0,3})(XC|XL|L?X{0,3})(IX|IV|V?I{0,3})")
_NAMES = {"TikTok": "tiktok", "JavaScript": "javascript", "WiFi": "wi-fi", "Wi-Fi": "wi-fi", "PyTorch": "pytorch"}
_NAMES |= {"WhatsApp": "whatsapp", "TypeScript": "typescript", "MySQL": "mysql", "McDonald": "mcdonald"}


def _name(word: str) -> str:
    return _NAMES[word]


def _capitals(match: Match) -> str:
    word, ending = match[1], match[2] or ""
    if word in _WORDS or (word not in _SPELLED and _is_loud(word)):
        return word.lower() + ending
    return f" {spell(word)}{ending} "


def _is_loud(word: str) -> bool:
    """Whether it is a word of the language in capitals: a long one that the dictionary has, or a very frequent one."""
    small = word.lower()
    if not re.search("[aeiouy]", small) or pronounce(small) is None:
        return False
    return len(word) > 3 or (frequency(small) or -99) > _LOUD


# Words that are written together ("YouTube", "OpenAI") come apart.
RULES: list[Rule] = [
    (re.compile(pattern), put)
    for pattern, put in (
        (rf"\b(?:{'|'.join(_NAMES)})(?=\b|s)", filled("{}", (_name, 0))),
        (r"\b([A-F])-(?=[\s.,!?]|$)", r"\1 minus"),  # a grade
        (r"(?<=[A-Za-z])-(?=[A-Z])", " - "),  # Yo-Yo, USB-C: upstream sets capitals apart
        (r"\b([A-Z]{2,})('?s)?\b", _capitals),
        (r"(?<=[a-z])(?=[A-Z])", " "),
        (r"(?<=[A-Z])(?=[A-Z][a-z])", " "),
        (r"\b([A-Z]{2,})('?s)?\b", _capitals),
        (rf"(?<![\w'{LETTER}])A(?![\w'])", f"{LETTER}a"),
    )
]
