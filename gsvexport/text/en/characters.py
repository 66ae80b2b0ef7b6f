"""Any text → the characters that English rules know: letters without accents, digits and signs.

Upstream's front end makes no pause of brackets, dashes, ellipses, colons and semicolons, so voices do not, either.
"""

from __future__ import annotations

import re
import unicodedata

STOP = "\x01"  # a full stop, as 。 is, between whatever it stands
KNOWN = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 \n'.,!?:-/$€£¥&%@+=#°×÷±<>^*~²³" + STOP
)
_PLAIN = {
    **dict.fromkeys("‘’‛ʼ`´", "'"),
    **dict.fromkeys('"“”„‟«»「」『』《》〈〉', ""),  # nobody hears quotation marks
    **dict.fromkeys("()[]{};（）［］｛｝【】〔〕；…‥⋯—―_|｜•·・●○■□◆◇★☆♪♫♡♥→←↑↓※✓✔†‡§¶©®™〒", " "),
    **dict.fromkeys("‐‑–−﹣－", "-"),
    **dict.fromkeys("～〜", "~"),
    **{"\t": " ", "\r": " ", "⁄": "/", "。": STOP, "｡": STOP, "、": ",", "，": ",", "：": ":", "！": "!", "？": "?"},
    **{"ß": "ss", "æ": "ae", "Æ": "Ae", "ø": "o", "Ø": "O", "œ": "oe", "Œ": "Oe", "ł": "l", "Ł": "L", "ð": "th"},
    **{"￥": "¥", "℃": "°C", "℉": "°F", "＊": "*", "％": "%", "＆": "&"},
}
_ACCENTED = re.compile("(?i)r[ée]sum[é]")  # what another word is without its accent


def plain(text: str) -> str:
    """The text in the characters of `KNOWN`. Accents and invisible characters are dropped, quotation marks too."""
    text = _ACCENTED.sub("resumee", text.replace("\r\n", "\n"))
    text = re.sub("(?<=[0-9])(?=[½⅓⅔¼¾⅛⅜⅝⅞])", " ", text)
    return "".join(map(_plain, text))


def unreadable(text: str) -> list[int]:
    """The places of characters that can neither be read nor skipped."""
    return [place for place, char in enumerate(text) if not KNOWN.issuperset(_plain(char))]


def _plain(char: str) -> str:
    if char in KNOWN or char in _PLAIN:
        return _PLAIN.get(char, char)
    parts = unicodedata.normalize("NFKD", char)  # a letter and its accents, a ligature's letters, a wide letter
    return "".join(_PLAIN.get(one, one) for one in parts if unicodedata.category(one) not in ("Mn", "Cf", "Cc"))
