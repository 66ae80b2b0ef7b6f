"""Written Korean → Hangul, spaces and signs: units, money, dates, times, ranges, telephone numbers.

Numbers before a counter stay digits: which kind of numeral it takes is seen when its word is known.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from gsvexport.text.ko.numbers import decimal, digits, sino

Match = re.Match[str]

_STOP = "\x01"  # a full stop, as 。 is, between whatever it stands
PAUSE = "停"  # what voices have heard for signs that upstream's front end does not know
_UNKNOWN_SIGNS = "\"'“”‘’„«»「」『』《》〈〉()（）[]［］{}【】〔〕;；—―─|｜_♪♫♡♥★☆※●○■□◆◇▲△▼▽→←↑↓•©®™✓✔〒§`´"
_PLAIN = {
    **dict.fromkeys(_UNKNOWN_SIGNS, PAUSE),
    **dict.fromkeys("‐‑–−﹣－", "-"),
    **dict.fromkeys("～〜∼", "~"),
    **{
        "。": _STOP,
        "｡": _STOP,
        "．": ".",
        "，": ",",
        "、": ",",
        "：": ":",
        "！": "!",
        "？": "?",
        "·": ",",
        "・": ",",
        "ㆍ": ",",
    },
    **{
        "\t": " ",
        "\r": " ",
        "\u3000": " ",
        "％": "%",
        "￦": "₩",
        "℃": "°C",
        "‥": "…",
        "⋯": "…",
        "㎞": "km",
        "㎏": "kg",
        "㎝": "cm",
    },
    **{"㎜": "mm", "㎡": "m²", "⁄": "/", "￥": "¥"},
}
_HANGUL = "\uac00-\ud7a3\u3131-\u3163"
_KNOWN = re.compile(rf"[{_HANGUL}A-Za-z0-9 \n.,!?…:\-/$€£¥₩&%@+=#°²³×÷±<>~^*{PAUSE}{_STOP}]*")
_UNITS = {
    **{
        "km/h": "킬로미터 매 시",
        "m/s": "미터 매 초",
        "km": "킬로미터",
        "cm": "센티미터",
        "mm": "밀리미터",
        "m": "미터",
        "kg": "킬로그램",
    },
    **{
        "mg": "밀리그램",
        "g": "그램",
        "t": "톤",
        "ml": "밀리리터",
        "mL": "밀리리터",
        "L": "리터",
        "l": "리터",
        "km²": "제곱킬로미터",
    },
    **{
        "m²": "제곱미터",
        "m³": "세제곱미터",
        "KB": "킬로바이트",
        "MB": "메가바이트",
        "GB": "기가바이트",
        "TB": "테라바이트",
    },
    **{
        "Hz": "헤르츠",
        "kHz": "킬로헤르츠",
        "MHz": "메가헤르츠",
        "GHz": "기가헤르츠",
        "W": "와트",
        "kW": "킬로와트",
        "V": "볼트",
        "cc": "씨씨",
    },
    **{"kcal": "킬로칼로리", "mAh": "밀리암페어시", "dB": "데시벨"},
}
UNITS = frozenset(_UNITS) | {"m2", "m3", "km2"}
_MONEY = {"$": "달러", "€": "유로", "£": "파운드", "¥": "엔", "₩": "원"}
_READ = {
    "&": "앤드",
    "+": "더하기",
    "=": "은",
    "#": "샵",
    "@": "골뱅이",
    "/": "슬래시",
    "×": "곱하기",
    "÷": "나누기",
    "%": "퍼센트",
}
_READ |= {
    "°": "도",
    "±": "플러스마이너스",
    "<": "작다",
    ">": "크다",
    "~": "",
    "^": "",
    "*": "",
    "²": "제곱",
    "³": "세제곱",
    ":": ",",
}
_READ |= dict(_MONEY)
_CODES = "번호[는은가]?|코드[는은가]?|암호[는은가]?|비번[은이]?|호출[은이]?"

_NUMBER = r"\d+(?:\.\d+)?"
_TO = r"\s?[-~]\s?"
_UNIT = "|".join(re.escape(unit) for unit in sorted(_UNITS, key=len, reverse=True))


def plain(char: str) -> str | None:
    """The characters that the rules know for one; None where there are none."""
    if char in _PLAIN:
        return _PLAIN[char]
    if _KNOWN.fullmatch(char):
        return char
    for form in ("NFKC", "NFKD"):  # a wide letter; a letter with an accent, ½
        parts = unicodedata.normalize(form, char)
        parts = "".join(_PLAIN.get(one, one) for one in parts if unicodedata.category(one) not in ("Mn", "Cf", "Cc"))
        if _KNOWN.fullmatch(parts):
            return parts
    return None


def normalise(text: str) -> str:
    """Hangul, whole numbers before counters, spaces, and the signs , . ! ? … - 停."""
    text = re.sub(r"(?<!\d)\d{1,3}(?:,\d{3})+(?!\d)", lambda match: match[0].replace(",", ""), text)
    text = "".join(plain(char) or "" for char in text)
    for pattern, put in _RULES:
        text = pattern.sub(put, text)
    text = re.sub(r"([,.!?…-])[,.!?…-]+", r"\1", text).replace(_STOP, ".")
    return re.sub(rf"[^{_HANGUL}0-9 ,.!?…{PAUSE}-]", "", text)


def _telephone(match: Match) -> str:
    return "-".join(digits(part) for part in re.findall(r"\d+", match[0]))


def _date(match: Match) -> str:
    return f"{match[1]}년 {int(match[3])}월 {int(match[4])}일"


def _time(match: Match) -> str:
    return f"{int(match[1])}시" + (f" {int(match[2])}분" if int(match[2]) else "")


def _score(match: Match) -> str:
    return " 대 ".join(sino(one) for one in match.groups() if one)


def _money(match: Match) -> str:
    sign, low, high, scale = match.groups()
    said = f"{decimal(low)}에서 {decimal(high)}" if high else decimal(low)
    return said + (scale or "") + _MONEY[sign]


def _measured(match: Match) -> str:
    minus, low, high, unit = match.groups()
    return (
        ("영하 " if minus and unit[0] == "°" else "마이너스 " if minus else "")
        + (f"{decimal(low)}에서 {decimal(high)}" if high else decimal(low))
        + (_UNITS.get(unit) or "도")
    )


_RULES: list[tuple[re.Pattern[str], str | Callable[[Match], str]]] = [
    (re.compile(pattern), put)
    for pattern, put in (
        (rf"(?<=[^\s.,!?…:{_STOP}-])[ ]*\n\s*", f"{_STOP} "),  # a line without an end
        (r"\s+", " "),
        (
            r"(?<![\d.])((?:1[5-9]|20)\d\d)([-/.])\s?(1[0-2]|0?[1-9])\2\s?(3[01]|[12]\d|0?[1-9])(?![\d])\.?(?=\s|$|[^\d.])",
            _date,
        ),
        (r"(?<!\d)\d{2,4}-\d{3,4}-\d{4}(?!\d)|(?<!\d)\d{4}-\d{4}(?!\d)", _telephone),
        (r"(?<!\d)(?:119|112|114|1330|120)(?=에|로|번|에서)", lambda m: digits(m[0])),
        (rf"((?:{_CODES})[ :]?)(\d{{3,}})(?![\d,.]*\d|[개명원])", lambda m: m[1] + digits(m[2])),
        (r"(?<![\d:])([01]?\d|2[0-4]):([0-5]\d)(?![\d:])", _time),
        (r"(?<![\d.])(\d+)(?:대 ?|-)(\d+)(?=로\s?[이졌끝승비패지])|(?<!\d)(\d+)대(\d+)(?!\d)", _score),
        (r"(\d+)(?=번\s(?:버스|출구|교실|창구|문제|선수|트랙|홈|게이트|국도))", lambda m: sino(m[1])),
        (r"(?<![\d:])(\d+):(\d+)(?![\d:])", lambda m: f"{sino(m[1])} 대 {sino(m[2])}"),
        (rf"([$€£¥₩])\s?({_NUMBER})(?:{_TO}[$€£¥₩]?({_NUMBER}))?(?:\s?([백천만억조]+))?", _money),
        (rf"(?<![\d.A-Za-z])(-)?({_NUMBER})(?:{_TO}({_NUMBER}))?\s?({_UNIT}|°\s?[CF]?)(?![A-Za-z])", _measured),
        (r"24/7", "연중무휴"),
        (r"(?<![\d/])(\d{1,3})/(\d{1,3})(?![\d/])", lambda m: f"{sino(m[2])}분의 {sino(m[1])}"),
        (r"(?<![\d.])\d+(?:\.\d+){2,}", lambda m: "점".join(sino(part) for part in m[0].split("."))),  # a version
        (rf"(?<=\d[%년월일시분개명원도세]){_TO}(?=\d)|(?<=\d){_TO}(?=\d)", "에서 "),
        (r"(?<![A-Za-z\d.])-(?=\d)", "마이너스 "),
        (r"\d*\.\d+", lambda m: decimal(m[0])),
        (r"(?<!\d)10월", "시월"),
        (r"(?<!\d)6월", "유월"),
        (r"(?<!\d)1번째", "첫번째"),
        (r"[&+=#@×÷%°±<>^/$€£¥₩~*²³:]", lambda m: _READ[m[0]]),
    )
]
