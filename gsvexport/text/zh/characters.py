"""Any text → the characters that Mandarin rules know: Han characters, half-width letters, digits and signs."""

from __future__ import annotations

import unicodedata

from gsvexport.text.words import refuse

HAN = "\u3007\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"  # for a character class
_KNOWN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 \n'.,!?…:-/$€£¥&%‰@+=#°℃²³<>×÷~")
_PLAIN = {
    **dict.fromkeys("‘’‛ʼ`´", "'"),
    **dict.fromkeys('"“”„‟«»「」『』《》〈〉〝〞', ""),  # nobody hears quotation marks
    **dict.fromkeys("()[]{};；（）［］｛｝【】〔〕〖〗、，｡､·•・|｜_*", ", "),
    **dict.fromkeys("—―─", " - "),
    **dict.fromkeys("‐‑–−﹣－", "-"),
    **dict.fromkeys("～〜∼", "~"),
    **dict.fromkeys("。．", "."),
    **{"\t": " ", "\r": " ", "\u3000": " ", "：": ":", "！": "!", "？": "?", "￥": "¥", "％": "%", "∶": ":", "⋯": "…"},
    **{"㎡": "m²", "℉": "°F", "⁄": "/"},
}


def plain(text: str, readable: str) -> str:
    """The text in known characters; `readable` holds the Han characters of it that have a reading.

    Accents of letters and invisible characters are dropped, quotation marks too; brackets and semicolons become commas.

    Raises:
        InputError: characters that are no Mandarin text, each named once with its places.
    """
    known = _KNOWN | set(readable)
    refuse(text, lambda char: known.issuperset(_plain(char, known)), "Mandarin")
    joined = "".join(_plain(char, known) for char in text.replace("\r\n", "\n"))
    return joined.replace("...", "…").replace("…  - ", "…")


def _plain(char: str, known: frozenset[str] | set[str]) -> str:
    if char in known or char in _PLAIN:
        return _PLAIN.get(char, char)
    parts = unicodedata.normalize("NFKD", char)  # a wide letter, a letter and its accents, ½
    return "".join(_PLAIN.get(one, one) for one in parts if unicodedata.category(one) not in ("Mn", "Cf"))
