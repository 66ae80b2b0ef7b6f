"""Pinyin → the two symbols of a syllable in the table: an initial, and a final with its tone."""

from __future__ import annotations

import re

from gsvexport.text.symbols import symbols

_SYLLABLE = re.compile(r"(zh|ch|sh|[bpmfdtnlgkhjqxrzcsyw])?([a-zêü]+)([1-5])")
_HUMMED = {
    "n": ("EE", "en"),
    "ng": ("EE", "en"),
    "m": ("m", "u"),
    "hm": ("h", "en"),
    "hng": ("h", "eng"),
    "ê": ("EE", "ei"),
}


def split(syllable: str) -> tuple[str, str] | None:
    """ "zhuang1" → ("zh", "uang1"); None for what is no syllable that the table can write.

    The table spells what is heard (upstream's opencpop-strict.txt): ü is v, also after j, q, x and y; the i of "zi" is
    i0 and that of "zhi" is ir; "ye" and "yan" end in E and En. A syllable without an initial takes one from its vowel:
    AA, EE or OO.
    """
    base, tone = syllable[:-1], syllable[-1:]
    if base in _HUMMED and tone in "12345":
        initial, final = _HUMMED[base]
        return initial, final + tone
    match = _SYLLABLE.fullmatch(syllable)
    if match is None:
        return None
    initial, final, tone = match.groups()
    final = final.replace("ü", "v")
    if initial in ("j", "q", "x", "y") and final.startswith("u"):
        final = "v" + final[1:]
    if final == "i" and initial in ("z", "c", "s"):
        final = "i0"
    elif final == "i" and initial in ("zh", "ch", "sh", "r"):
        final = "ir"
    elif initial == "y" and final in ("e", "an"):
        final = {"e": "E", "an": "En"}[final]
    found = initial or final[0].upper() * 2, final + tone
    return found if set(found).issubset(symbols("v1")) else None
