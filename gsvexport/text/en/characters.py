"""Any text → the characters that English rules know: letters without accents, digits, dashes and signs."""

from __future__ import annotations

import unicodedata

from gsvexport.text.words import refuse

KNOWN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 \n'.,!?…:-/$€£¥&%@+=#°")
_PLAIN = {
    **dict.fromkeys("‘’‛ʼ`´", "'"),
    **dict.fromkeys('"“”„‟«»', ""),  # nobody hears quotation marks
    **dict.fromkeys("()[]{};", ","),
    **dict.fromkeys("—―", " - "),
    **dict.fromkeys("‐‑–−", "-"),
    **{"\t": " ", "\r": " ", "⁄": "/", "。": ".", "、": ","},
    **{"ß": "ss", "æ": "ae", "Æ": "AE", "ø": "o", "Ø": "O", "œ": "oe", "Œ": "OE", "ł": "l", "Ł": "L", "ð": "th"},
}


def plain(text: str) -> str:
    """The text in the characters of `KNOWN`.

    Accents and invisible characters are dropped, quotation marks too; brackets and semicolons become commas.

    Raises:
        InputError: characters that are no English text, each named once with its places.
    """
    refuse(text, lambda char: KNOWN.issuperset(_plain(char)), "English")
    return "".join(map(_plain, text.replace("\r\n", "\n").replace("...", "…")))


def _plain(char: str) -> str:
    if char in KNOWN or char in _PLAIN:
        return _PLAIN.get(char, char)
    parts = unicodedata.normalize("NFKD", char)  # a letter and its accents, a ligature's letters, a wide letter
    return "".join(_PLAIN.get(one, one) for one in parts if unicodedata.category(one) not in ("Mn", "Cf"))
