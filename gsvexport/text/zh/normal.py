"""Written Mandarin → characters to read, English runs and punctuation: dates, times, money, numbers, units, signs.

The rules run in the order of `_RULES`; each sees what the earlier ones left. Digits are Mandarin wherever they stand,
except between English words.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from gsvexport.text.words import merged
from gsvexport.text.zh.characters import HAN
from gsvexport.text.zh.numbers import cardinal, decimal, digits

Match = re.Match[str]

_UNITS = {
    **{"km/h": "公里每小时", "m/s": "米每秒", "km²": "平方公里", "cm²": "平方厘米", "m²": "平方米", "m³": "立方米"},
    **{"km": "公里", "cm": "厘米", "mm": "毫米", "kg": "公斤", "mg": "毫克", "ml": "毫升", "mL": "毫升", "kW": "千瓦"},
    **{"kWh": "千瓦时", "Hz": "赫兹", "kHz": "千赫", "MHz": "兆赫", "GHz": "吉赫", "ms": "毫秒", "min": "分钟"},
    **{"°C": "摄氏度", "℃": "摄氏度", "°F": "华氏度", "°": "度", "m": "米", "g": "克", "t": "吨", "L": "升", "s": "秒"},
    **{"h": "小时", "W": "瓦", "V": "伏", "A": "安"},
}
_MONEY = {"$": "美元", "€": "欧元", "£": "英镑", "¥": "元"}
_SIGNS = {"&": "和", "+": "加", "=": "等于", "×": "乘以", "÷": "除以", "<": "小于", ">": "大于", "%": "百分号"}
_SIGNS |= {"@": "艾特", "#": "井号", "°": "度", "℃": "摄氏度", "‰": "千分号", "²": "平方", "³": "立方", "/": ","}
_SIGNS |= {"$": "美元", "€": "欧元", "£": "英镑", "¥": "元", "~": "…", ":": ","}
# What 2 is 两 before: measure words. Before dates, floors and the like it is 二.
_MEASURES = "个位只条张把件本杯瓶座台辆次天年周种家双对间份块片遍层岁分钟小时秒米公里斤吨克升元倍代头匹首篇步口根朵棵颗"

_NUMBER = r"\d+(?:\.\d+)?"
_TO = r"\s?[-~]\s?"
_UNIT = "|".join(re.escape(unit) for unit in sorted(_UNITS, key=len, reverse=True))


def normalise(text: str) -> list[str]:
    """Runs of Han characters, runs of English words, and the signs , . ! ? … - between them, of a `plain` text.

    Of several signs in a row the strongest is kept.
    """
    for pattern, put in _RULES:
        text = pattern.sub(put, text)
    return merged([token.strip() for token in _TOKENS.findall(text)])


def _date(match: Match) -> str:
    year, _, month, day = match.groups()
    return f"{digits(year)}年{cardinal(str(int(month)))}月{cardinal(str(int(day)))}日"


def _time(match: Match) -> str:
    hour, minute, second = (None if part is None else int(part) for part in match.groups())
    assert hour is not None and minute is not None  # noqa: PT018 - the pattern's groups
    found = ("两" if hour == 2 else cardinal(str(hour))) + "点"
    if minute or second is not None:
        found += ("零" if 0 < minute < 10 else "") + cardinal(str(minute)) + "分"
    return found + (f"{cardinal(str(second))}秒" if second is not None else "")


def _share(match: Match) -> str:
    minus, low, high, sign = match.groups()
    whole = "百分之" if sign == "%" else "千分之"
    return ("负" if minus else "") + whole + decimal(low) + (f"到{whole}{decimal(high)}" if high else "")


def _money(match: Match) -> str:
    sign, number, scale = match.groups()
    return _counted(number, (scale or "") + _MONEY[sign])


def _degrees(match: Match) -> str:
    minus, number, unit = match.groups()
    return ("零下" if minus else "") + decimal(number) + _UNITS[unit.replace(" ", "")]


def _counted(number: str, unit: str) -> str:
    return ("两" if number == "2" else decimal(number)) + unit


def _telephone(match: Match) -> str:
    return ",".join(digits(part, one="幺") for part in re.split(r"[- ]+", match[0]))


def _mobile(match: Match) -> str:
    number = re.sub(r"\D", "", match[0])
    return ",".join(digits(part, one="幺") for part in (number[:3], number[3:7], number[7:]))


def _alone(match: Match) -> str:
    return digits(match[0]) if len(match[0]) > 12 else decimal(match[0])


_RULES: list[tuple[re.Pattern[str], str | Callable[[Match], str]]] = [
    (re.compile(pattern), put)
    for pattern, put in (
        (r"(?<=[^\s.,!?…:-])[ ]*\n\s*", ". "),  # a line without an end
        (r"\s+", " "),
        (r"(?<!\d)\d{1,3}(?:,\d{3})+(?!\d)", lambda m: m[0].replace(",", "")),
        (r"(?<![\d.])((?:19|20)\d\d)([-/.])(1[0-2]|0?[1-9])\2(3[01]|[12]\d|0?[1-9])(?![\d.])", _date),
        (r"(?<!\d)(\d{4})\s?[-~]\s?(\d{4})(?=年)", lambda m: f"{digits(m[1])}到{digits(m[2])}"),
        (r"(?<!\d)(\d{4})(?=年)", lambda m: digits(m[1])),
        (r"(?<!\d)1[3-9]\d[- ]?\d{4}[- ]?\d{4}(?!\d)", _mobile),
        (r"(?<!\d)0\d{2,3}-\d{7,8}(?!\d)|(?<!\d)[48]00-\d{3}-?\d{4}(?!\d)", _telephone),
        (r"(?<=[打拨])\d{3,6}(?!\d)", _telephone),
        (r"(?<![\d:])([01]?\d|2[0-4]):([0-5]\d)(?::([0-5]\d))?(?![\d:])", _time),
        (r"(?<![\d:])(\d+):(\d+)(?![\d:])", lambda m: f"{cardinal(m[1])}比{cardinal(m[2])}"),
        (rf"(?<![A-Za-z\d.])(-?)({_NUMBER})%?(?:{_TO}({_NUMBER}))?\s?([%‰])", _share),
        (rf"([$€£¥])\s?({_NUMBER})(?:{_TO}\d+)?\s?([百千万亿]+)?", _money),
        (rf"(?<![A-Za-z\d])(-?)({_NUMBER})\s?(°\s?C|℃|°\s?F)", _degrees),
        (rf"({_NUMBER})\s?({_UNIT})(?![A-Za-z])", lambda m: _counted(m[1], _UNITS[m[2]])),
        (r"(?<![\d/])(\d{1,3})/(\d{1,3})(?![\d/])", lambda m: f"{cardinal(m[2])}分之{cardinal(m[1])}"),
        (r"(?<![\d.])\d+(?:\.\d+){2,}", lambda m: "点".join(cardinal(part) for part in m[0].split("."))),  # a version
        (rf"(?<=\d){_TO}(?=\d)", "到"),
        (r"(?<![A-Za-z\d.])-(?=\d)", "负"),
        (rf"(?<![\d.])2(?=[{_MEASURES}])(?!分之)", "两"),
        (r"(?<=[A-Za-z]) \d+ (?=[A-Za-z])", lambda m: m[0].replace(" ", "_")),  # between English words: English
        (r"(?<![_\d])(?:\d*\.\d+|\d+)(?![_\d])", _alone),
        (r"(?<=[A-Za-z0-9])\.(?=[A-Za-z0-9])", "点"),
        (r"[&+=×÷<>%@#°℃‰²³/$€£¥~:]", lambda m: _SIGNS[m[0]]),
        (r"(?<=[A-Za-z])-(?=[A-Za-z一二三四五六七八九零十])", " "),
    )
]
_TOKENS = re.compile(rf"[{HAN}](?:[{HAN} ]*[{HAN}])?|[A-Za-z](?:[A-Za-z'_0-9 ]*[A-Za-z'])?|[,.!?…-]")
