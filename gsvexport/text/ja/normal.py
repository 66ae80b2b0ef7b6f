"""Written Japanese → runs to read, English words and punctuation: dates, times, money, numbers, units, signs.

Open JTalk reads whole numbers, decimals, dates and counters itself. The rules run in the order of `_RULES`; each sees
what the earlier ones left.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from gsvexport.text.words import merged, refuse

Match = re.Match[str]

# for a character class: kana with their marks, iteration marks and kanji
LETTERS = "\u3005-\u3007\u303b\u3041-\u3096\u309d\u309e\u30a1-\u30fa\u30fc-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_KNOWN = re.compile(rf"[{LETTERS}A-Za-z0-9 \n'.,!?…:\-/$€£¥&%@+=#°℃×÷~・]*")
_PLAIN = {
    **dict.fromkeys("‘’‛`´", "'"),
    **dict.fromkeys('"“”„‟«»「」『』《》〈〉〝〟', ""),  # nobody hears quotation marks
    **dict.fromkeys("()[]{};；（）［］｛｝【】〔〕、，､;♪★☆※●■◆→_*|｜", ", "),
    **dict.fromkeys("—―─", " - "),
    **dict.fromkeys("‐‑–−﹣－", "-"),
    **dict.fromkeys("～〜∼", "~"),
    **{"。": ".", "．": ".", "｡": ".", "‥": "…", "⋯": "…", "･": "・", "·": "・", "•": "・"},
    **{"\t": " ", "\r": " ", "\u3000": " ", "：": ":", "！": "!", "？": "?", "￥": "¥", "％": "%", "／": "/"},
}
_SIGNS = {
    **{"&": "アンド", "+": "プラス", "=": "イコール", "#": "シャープ", "@": "アットマーク", "/": "スラッシュ"},
    **{"×": "かける", "÷": "わる", "%": "パーセント", "°": "度", "℃": "度", "~": "…", ":": ","},
    **{"¥": "円", "$": "ドル", "€": "ユーロ", "£": "ポンド"},
}
_UNITS = {
    **{"km/h": "キロ", "km": "キロメートル", "cm": "センチメートル", "mm": "ミリメートル", "m": "メートル"},
    **{"kg": "キログラム", "mg": "ミリグラム", "g": "グラム", "t": "トン", "ml": "ミリリットル", "L": "リットル"},
    **{"KB": "キロバイト", "MB": "メガバイト", "GB": "ギガバイト", "TB": "テラバイト"},
    **{"Hz": "ヘルツ", "GHz": "ギガヘルツ", "W": "ワット"},
}
_MONEY = {"¥": "円", "$": "ドル", "€": "ユーロ", "£": "ポンド"}

_NUMBER = r"\d+(?:\.\d+)?"
_TO = r"\s?[-~]\s?"
_UNIT = "|".join(sorted(_UNITS, key=len, reverse=True))


def normalise(text: str, readable: Callable[[str], bool]) -> list[str]:
    """Runs of Japanese, runs of English words, and the signs , . ! ? … - between them.

    Of several signs in a row the strongest is kept. Capitals and single letters stay in the Japanese run, which gives
    them their Japanese names. `readable` tells whether a kanji has a reading.

    Raises:
        InputError: characters that are no Japanese text, each named once with its places.
    """
    text = unicodedata.normalize("NFC", text)  # kana and their voicing marks
    text = re.sub("[\uff66-\uff9f]+", lambda match: unicodedata.normalize("NFKC", match[0]), text)
    refuse(text, lambda char: _KNOWN.fullmatch(_plain(char)) is not None and readable(char), "Japanese")
    text = "".join(map(_plain, text.replace("\r\n", "\n").replace("...", "…")))
    for pattern, put in _RULES:
        text = pattern.sub(put, text)
    return merged([token.strip() for token in _TOKENS.findall(text) if token.strip()])


def _plain(char: str) -> str:
    if char in _PLAIN or _KNOWN.fullmatch(char):
        return _PLAIN.get(char, char)
    parts = unicodedata.normalize("NFKC", char)  # a wide letter, a half-width kana, ㈱, ½
    if not _KNOWN.fullmatch(parts):
        parts = unicodedata.normalize("NFKD", char)  # a letter with an accent
    return "".join(_PLAIN.get(one, one) for one in parts if unicodedata.category(one) not in ("Mn", "Cf"))


def _telephone(match: Match) -> str:
    return ",".join("".join(_DIGITS[int(digit)] for digit in part) for part in match[0].split("-"))


def _date(match: Match) -> str:
    return f"{match[1]}年{int(match[3])}月{int(match[4])}日"


def _time(match: Match) -> str:
    return f"{int(match[1])}時" + (f"{int(match[2])}分" if int(match[2]) else "")


_DIGITS = ("ゼロ", "イチ", "ニー", "サン", "ヨン", "ゴー", "ロク", "ナナ", "ハチ", "キュー")

_RULES: list[tuple[re.Pattern[str], str | Callable[[Match], str]]] = [
    (re.compile(pattern), put)
    for pattern, put in (
        (r"(?<=[^\s.,!?…:-])[ ]*\n\s*", ". "),  # a line without an end
        (r"\s+", " "),
        (r"(?<!\d)\d{1,3}(?:,\d{3})+(?!\d)", lambda m: m[0].replace(",", "")),
        (r"(?<![\d.])((?:19|20)\d\d)([-/.])(1[0-2]|0?[1-9])\2(3[01]|[12]\d|0?[1-9])(?![\d.])", _date),
        (r"(?<!\d)0\d{1,3}-\d{2,4}-\d{3,4}(?!\d)", _telephone),
        (r"(?<![\d:])([01]?\d|2[0-4]):([0-5]\d)(?![\d:])", _time),
        (rf"([¥$€£])\s?({_NUMBER})\s?([百千万億]+)?", lambda m: f"{m[2]}{m[3] or ''}{_MONEY[m[1]]}"),
        (r"(?<![\d/])(\d{1,3})/(\d{1,3})(?![\d/])", r"\2分の\1"),
        (rf"({_NUMBER})\s?({_UNIT})(?![A-Za-z])", lambda m: m[1] + _UNITS[m[2]]),
        (r"(?<=\d)\s?°C", "度"),
        (r"(?<![\d.])\d+(?:\.\d+){2,}", lambda m: m[0].replace(".", "テン")),  # a version
        (rf"(?<=\d[%円日月年時分人度]){_TO}(?=\d)|(?<=\d){_TO}(?=\d)", "から"),
        (r"(?<![A-Za-z\d.])-(?=\d)", "マイナス"),
        (r"(?<=[\u3041-\u3096\u30a1-\u30fa])~", "ー"),  # そう～
        (r"(?<=\d)\.(?=\d)", "点"),
        (r"(?<=[A-Za-z])\.(?=[A-Za-z])", "ドット"),
        (r"[&+=#@×÷%°℃/¥$€£~:]", lambda m: _SIGNS[m[0]]),
        (r"(?<=[A-Za-z])-(?=[A-Za-z0-9])", " "),
    )
]
_ENGLISH = r"[A-Za-z]*[a-z][A-Za-z']+(?: +[A-Za-z']+)*|[A-Za-z']+(?: +[A-Za-z']+)+"
_TOKENS = re.compile(rf"{_ENGLISH}|(?:[{LETTERS}0-9・ ]|[A-Z](?![a-z']))+|[a-z](?![a-z'])|[,.!?…-]")
