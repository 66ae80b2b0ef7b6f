"""Words in capitals: spelled, as upstream spells them all, unless they are said as words or only loud."""

from __future__ import annotations

import re

from gsvexport.text.en.lexicon import pronounce
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
_NAME = re.compile(rf"\b(?:{'|'.join(_NAMES)})(?=\b|s)")


def spoken_capitals(text: str) -> str:
    """The text with capitals spelled, and words apart that are written together ("YouTube", "OpenAI")."""
    text = _NAME.sub(lambda match: _NAMES[match[0]], text)
    text = re.sub(r"\b([A-F])-(?=[\s.,!?]|$)", r"\1 minus", text)  # a grade
    text = re.sub(r"(?<=[A-Za-z])-(?=[A-Z])", " - ", text)  # Yo-Yo, USB-C: upstream sets capitals apart
    text = re.sub(r"\b([A-Z]{2,})('?s)?\b", lambda match: _capitals(match[1], match[2] or ""), text)
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
    text = re.sub(r"(?<=[A-Z])(?=[A-Z][a-z])", " ", text)
    text = re.sub(r"\b([A-Z]{2,})('?s)?\b", lambda match: _capitals(match[1], match[2] or ""), text)
    return re.sub(rf"(?<![\w'{LETTER}])A(?![\w'])", f"{LETTER}a", text)


def _capitals(word: str, ending: str) -> str:
    if word in _WORDS or (word not in _SPELLED and _is_loud(word)):
        return word.lower() + ending
    return f" {spell(word)}{ending} "


def _is_loud(word: str) -> bool:
    """Whether it is a word of the language in capitals: a long one that the dictionary has, or a very frequent one."""
    small = word.lower()
    if not re.search("[aeiouy]", small) or pronounce(small) is None:
        return False
    return len(word) > 3 or (frequency(small) or -99) > _LOUD
