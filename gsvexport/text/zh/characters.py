"""Any text → the characters that Mandarin rules know: Han characters, half-width letters, digits and signs.

As in upstream's front end, brackets, dashes and quotation marks are no pauses.
"""

from __future__ import annotations

import re
import unicodedata

from gsvexport.text.words import AFTER_LETTER

HAN = "\u3007\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"  # for a character class
STOP = "\x01"  # a full stop, as 。 is, between whatever it stands
GREEK = dict(
    zip(
        "αβγδεζηθικλμνξοπρστυφχψω",
        [
            "阿尔法",
            "贝塔",
            "伽玛",
            "德尔塔",
            "艾普西龙",
            "捷塔",
            "依塔",
            "西塔",
            "艾欧塔",
            "喀帕",
            "拉姆达",
            "缪",
            "拗",
            "克西",
            "欧米克伦",
            "派",
            "肉",
            "西格玛",
            "套",
            "宇普西龙",
            "服艾",
            "器",
            "普赛",
            "欧米伽",
        ],
        strict=True,
    )
)
_KNOWN = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 \n'.,!?…:-/$€£¥&%‰@+=#°℃²³<>×÷±~^*"
    + STOP
    + AFTER_LETTER
)
_PLAIN = {
    **dict.fromkeys("‘’‛ʼ`´'", ""),
    **dict.fromkeys(
        '"“”„‟«»「」『』《》〈〉〝〞（）［］｛｝【】〔〕〖〗()[]{}—―─_|｜♪♫♡♥★☆※●○■□◆◇▲△▼▽→←↑↓•©®™✓✔〒§', ""
    ),
    **dict.fromkeys(";；、，､·・", ","),
    **dict.fromkeys("‐‑–−﹣－", "-"),
    **dict.fromkeys("～〜∼", "~"),
    **{"。": STOP, "｡": STOP, "．": ".", "＊": "*", "＋": "+", "＝": "=", "／": "/", "＠": "@", "＃": "#", "＆": "&"},
    **{"\t": " ", "\r": " ", "\u3000": " ", "：": ":", "！": "!", "？": "?", "￥": "¥", "％": "%", "∶": ":", "⋯": "…"},
    **{"㎡": "m²", "℉": "°F", "⁄": "/", "°C": "℃", "㎞": "km", "㎏": "kg", "㎝": "cm", "㎜": "mm", "〇": "零"},
    **GREEK,
    **{letter.upper(): name for letter, name in GREEK.items()},
    "µ": "微",
    "Ω": "欧姆",
}
_HAN = re.compile(f"[{HAN}]")


def plain(text: str) -> str:
    """The text in known characters; accents of letters and invisible characters are dropped, and commas in numbers."""
    text = re.sub(r"(?<!\d)\d{1,3}(?:,\d{3})+(?!\d)", lambda match: match[0].replace(",", ""), text)
    text = re.sub(r"(?<=\d)(?=[½⅓⅔¼¾])", "又", text)
    return re.sub(r"\.{2,}", ".", "".join(map(_plain, text)))


def is_known(char: str) -> bool:
    """Whether a character that is no Han one can be read or skipped."""
    return char in _PLAIN or _KNOWN.issuperset(_plain(char))


def _plain(char: str) -> str:
    if char in _KNOWN or char in _PLAIN or _HAN.match(char):
        return _PLAIN.get(char, char)
    parts = unicodedata.normalize("NFKD", char)  # a wide letter, a letter and its accents, ½
    return "".join(_PLAIN.get(one, one) for one in parts if unicodedata.category(one) not in ("Mn", "Cf", "Cc"))
