"""Written Japanese → clauses to read and signs: dates, times, money, numbers, units.

Open JTalk reads whole numbers, dates and counters itself; what it does not know, the rules write out. They run in the
order of `_RULES`; each sees what the earlier ones left.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

Match = re.Match[str]

# for a character class: kana with their marks, iteration marks and kanji
LETTERS = (
    "\u3005-\u3007\u303b\u3041-\u3096\u309d\u309e\u30a1-\u30fa\u30fc-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
)
_UNKNOWN = "\ue000"  # stands for a sign that voices know as UNK
_STOP = "\ue001"  # a full stop, as 。 is, between whatever it stands
# Signs that a voice has heard as UNK: upstream's front end knows no other name for them.
_UNKNOWN_SIGNS = '「」『』《》〈〉【】〔〕［］｛｝（）()[]{}“”‘’„«»〝〟"—―─♪♫♡♥★☆※●○■□◆◇▲△▼▽→←↑↓|｜_©®™✓✔*＊•'
_SIGNS = {"、": ",", "，": ",", "､": ",", "；": ",", ";": ",", "：": ",", "！": "!", "？": "?", "⁉": "?", "‼": "!"}
_SIGNS |= {"‥": "…", "⋯": "…", "…": "…", ",": ",", ".": ".", "!": "!", "?": "?", "-": "-", _STOP: ".", _UNKNOWN: "UNK"}
_PLAIN = {
    **dict.fromkeys(_UNKNOWN_SIGNS, _UNKNOWN),
    **dict.fromkeys("‛`´'", ""),
    **dict.fromkeys("‐‑–−﹣－", "-"),
    **dict.fromkeys("～〜∼", "~"),
    **{
        "。": _STOP,
        "｡": _STOP,
        "．": ".",
        "･": "・",
        "·": "・",
        "㎞": "km",
        "㎏": "kg",
        "㎝": "cm",
        "㎜": "mm",
        "㎡": "m²",
    },
    **{
        "\t": " ",
        "\r": " ",
        "\u3000": _UNKNOWN,
        "￥": "¥",
        "％": "%",
        "／": "/",
        "＋": "+",
        "＝": "=",
        "＆": "&",
        "＠": "@",
    },
    **{"＃": "#", "＄": "$", "℉": "°F"},
}
_KNOWN = re.compile(rf"[{LETTERS}A-Za-z0-9 \n.,!?…:\-/$€£¥&%@+=#°℃²³×÷±<>~・^〒⁄{re.escape(''.join(_SIGNS))}]*")
_READ = {
    **{
        "&": "アンド",
        "+": "プラス",
        "=": "イコール",
        "#": "シャープ",
        "@": "アットマーク",
        "/": "スラッシュ",
        "±": "プラスマイナス",
    },
    **{
        "×": "かける",
        "÷": "わる",
        "%": "パーセント",
        "°": "度",
        "℃": "度",
        "~": _UNKNOWN,
        ":": "：",
        "<": "小なり",
        ">": "大なり",
    },
    **{"¥": "円", "$": "ドル", "€": "ユーロ", "£": "ポンド", "²": "の二乗", "³": "の三乗", "^": ""},
}
_UNITS = {
    **{
        "km/h": "キロメートル毎時",
        "m/s": "メートル毎秒",
        "km": "キロメートル",
        "cm": "センチメートル",
        "mm": "ミリメートル",
        "m": "メートル",
    },
    **{"kg": "キログラム", "mg": "ミリグラム", "g": "グラム", "t": "トン", "ml": "ミリリットル", "mL": "ミリリットル"},
    **{
        "L": "リットル",
        "l": "リットル",
        "dl": "デシリットル",
        "cc": "シーシー",
        "ha": "ヘクタール",
        "km²": "平方キロメートル",
    },
    **{"m²": "平方メートル", "cm²": "平方センチメートル", "m³": "立方メートル", "KB": "キロバイト", "MB": "メガバイト"},
    **{
        "GB": "ギガバイト",
        "TB": "テラバイト",
        "Hz": "ヘルツ",
        "kHz": "キロヘルツ",
        "MHz": "メガヘルツ",
        "GHz": "ギガヘルツ",
    },
    **{
        "W": "ワット",
        "kW": "キロワット",
        "kWh": "キロワット時",
        "V": "ボルト",
        "A": "アンペア",
        "mAh": "ミリアンペア時",
    },
    **{"kcal": "キロカロリー", "cal": "カロリー", "hPa": "ヘクトパスカル", "dB": "デシベル", "ms": "ミリ秒", "s": "秒"},
}
UNITS = frozenset(_UNITS) | {"m2", "m3", "km2", "cm2"}
_MONEY = {"¥": "円", "$": "ドル", "€": "ユーロ", "£": "ポンド"}

_NUMBER = r"\d+(?:\.\d+)?"
_TO = r"\s?[-~]\s?"
_UNIT = "|".join(sorted(_UNITS, key=len, reverse=True))


def plain(char: str) -> str | None:
    """The characters that the rules know for one; None where there are none."""
    if char in _PLAIN:
        return _PLAIN[char]
    if _KNOWN.fullmatch(char):
        return char
    parts = unicodedata.normalize("NFKC", char)  # a wide letter, a half-width kana, ㈱, ½
    if not _KNOWN.fullmatch(parts):
        parts = unicodedata.normalize("NFKD", char)  # a letter with an accent
    parts = "".join(_PLAIN.get(one, one) for one in parts if unicodedata.category(one) not in ("Mn", "Cf", "Cc"))
    return parts if _KNOWN.fullmatch(parts) else None


def normalise(text: str) -> list[tuple[str, bool]]:
    """Clauses without signs (False), and signs in the symbols of the tables (True). Spaces cut clauses.

    Characters that have no reading are left out.
    """
    text = re.sub("[\uff66-\uff9f]+", lambda match: unicodedata.normalize("NFKC", match[0]), text)
    text = "".join(plain(char) or "" for char in text)
    for pattern, put in _RULES:
        text = pattern.sub(put, text)
    text = re.sub(r"([!?…,.\-])[!?…,.\- ]+", r"\1", text)  # of half-width signs in a row the first; wide ones all
    found: list[tuple[str, bool]] = []
    for token in _TOKENS.findall(text):
        if token in _SIGNS:
            found.append((_SIGNS[token], True))
        elif token := token.lstrip("ー・"):
            found.append((token, False))
    return found


def _digit_by_digit(digits: str) -> str:
    return "".join(_DIGITS[int(digit)] for digit in digits)


def _telephone(match: Match) -> str:
    return "、".join(_digit_by_digit(part) for part in re.findall(r"\d+", match[0]))


def _date(match: Match) -> str:
    return f"{match[1]}年{int(match[3])}月{int(match[4])}日"


def _time(match: Match) -> str:
    hour, minute, second = (None if part is None else int(part) for part in match.groups())
    return f"{hour}時" + (f"{minute}分" if minute or second else "") + (f"{second}秒" if second else "")


def _decimal(match: Match) -> str:
    """3.14 → 3点イチヨン: digits after the point one by one."""
    return f"{match[1]}点{_digit_by_digit(match[2])}"


def _scaled(match: Match) -> str:
    """$5M → 5百万ドル, in Japanese scales."""
    value = round(float(match[2]) * {"K": 10**3, "M": 10**6, "B": 10**9}[match[3]])
    return f"{value}{_MONEY[match[1]]}"


def _address(match: Match) -> str:
    return "の".join(match[0].split("-"))


_DIGITS = ("ゼロ", "イチ", "ニー", "サン", "ヨン", "ゴー", "ロク", "ナナ", "ハチ", "キュー")
_COUNTED = "[桁つ個]"

_RULES: list[tuple[re.Pattern[str], str | Callable[[Match], str]]] = [
    (re.compile(pattern), put)
    for pattern, put in (
        (r"(?<=[^\s.,!?…:\ue001-])[ ]*\n\s*", "\ue001"),  # a line without an end
        (r"\s+", " "),
        (r"(?<!\d)\d{1,3}(?:,\d{3})+(?!\d)", lambda m: m[0].replace(",", "")),
        (r"〒\s?(?=\d{3}-\d{4})", "郵便番号、"),
        ("〒", "郵便番号"),
        (r"(?<![\d-])\d{3}-\d{4}(?![\d-])", _telephone),
        (r"(?<![\d.])((?:1[89]|20)\d\d)([-/.])(1[0-2]|0?[1-9])\2(3[01]|[12]\d|0?[1-9])(?![\d.])", _date),
        (
            r"(?<!\d)\ue000?0\d{1,4}[\ue000 -]{0,2}\d{1,4}-\d{3,4}(?!\d)|(?<!\d)0(?:120|800)-\d{2,3}-\d{3,4}(?!\d)",
            _telephone,
        ),
        (
            rf"((?:番号|コード|ワード|内線)[はが：: ]?)(\d+)(?![\d,.]|{_COUNTED})",
            lambda m: m[1] + _digit_by_digit(m[2]),
        ),
        (r"(?<![\d:.,])0\d+(?![\d.:])(?!月|日|時|分|秒)", lambda m: _digit_by_digit(m[0])),
        (r"(?<!\d)0(?=\d[月日時分秒])", ""),
        (r"(?<!\d)\d{1,4}-\d{1,3}-\d{1,4}(?![\d-])", _address),
        (r"(?<![\d:])([01]?\d|2[0-9]):([0-5]\d)(?::([0-5]\d))?(?![\d:])", _time),
        (r"(?<![\d:])(\d+):(\d+)(?![\d:])", r"\1対\2"),
        (rf"([¥$€£])\s?({_NUMBER}){_TO}[¥$€£]?({_NUMBER})", lambda m: f"{m[2]}から{m[3]}{_MONEY[m[1]]}"),
        (rf"([¥$€£])\s?({_NUMBER})\s?([KMB])(?![A-Za-z])", _scaled),
        (rf"([¥$€£])\s?({_NUMBER})\s?([百千万億兆]+)?", lambda m: f"{m[2]}{m[3] or ''}{_MONEY[m[1]]}"),
        (r"(?<!\d)24/7(?!\d)", "24時間年中無休"),
        (r"(?<![\d/])(\d{1,3})[/⁄](\d{1,3})(?![\d/])", r"\2分の\1"),
        (r"(?<=\d)分の(?=\d)", "ぶんの"),  # not minutes
        (r"(\d+)-(\d+)(?=で[勝負終敗優])|(?<=スコアは)(\d+)-(\d+)", lambda m: "対".join(filter(None, m.groups()))),
        (rf"({_NUMBER}){_TO}({_NUMBER})\s?({_UNIT})(?![A-Za-z])", lambda m: f"{m[1]}から{m[2]}{_UNITS[m[3]]}"),
        (rf"({_NUMBER})\s?({_UNIT})(?![A-Za-z])", lambda m: m[1] + _UNITS[m[2]]),
        (r"(?<=\d)\s?°[CF]", "度"),
        (r"(?<![\d.])\d+(?:\.\d+){2,}", lambda m: m[0].replace(".", "テン")),  # a version
        (rf"(?<=\d[%℃円日月年時分人度歳回個ドル]){_TO}(?=\d)|(?<=\d){_TO}(?=\d)", "から"),
        (r"(?<![A-Za-z\d.])-(?=\d)", "マイナス"),
        (r"(?<![\d.])(\d+)\.(\d+)(?![\d.])", _decimal),
        (r"(?<=[A-Za-z])\.(?=[A-Za-z])", "ドット"),
        (r"[&+=#@×÷%°℃²³±<>^/¥$€£~:]", lambda m: _READ[m[0]]),
    )
]
_TOKENS = re.compile(rf"[{LETTERS}A-Za-z0-9・]+|[{''.join(re.escape(sign) for sign in _SIGNS)}]")
