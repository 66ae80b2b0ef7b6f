"""Written Mandarin → clauses of Han characters and signs: dates, times, money, numbers, units.

The rules run in the order of `_RULES`; each sees what the earlier ones left. Cantonese has the same numbers and uses
them, too.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from gsvexport.text.words import AFTER_LETTER, merged
from gsvexport.text.zh.characters import HAN, STOP
from gsvexport.text.zh.numbers import cardinal, decimal, digits

Match = re.Match[str]

_UNITS = {
    **{"km/h": "千米每小时", "m/s": "米每秒", "km²": "平方千米", "cm²": "平方厘米", "m²": "平方米", "m³": "立方米"},
    **{
        "cm³": "立方厘米",
        "km": "千米",
        "cm": "厘米",
        "mm": "毫米",
        "kg": "千克",
        "mg": "毫克",
        "ml": "毫升",
        "mL": "毫升",
    },
    **{
        "kWh": "千瓦时",
        "Hz": "赫兹",
        "kHz": "千赫",
        "MHz": "兆赫",
        "GHz": "吉赫",
        "ms": "毫秒",
        "min": "分钟",
        "kW": "千瓦",
    },
    **{
        "db": "分贝",
        "dB": "分贝",
        "m": "米",
        "g": "克",
        "t": "吨",
        "L": "升",
        "l": "升",
        "s": "秒",
        "h": "小时",
        "W": "瓦",
    },
    **{
        "V": "伏",
        "A": "安",
        "kcal": "千卡",
        "cal": "卡",
        "hPa": "百帕",
        "kPa": "千帕",
        "mAh": "毫安时",
        "ha": "公顷",
        "cc": "毫升",
    },
}
_PLAIN_SQUARES = {"m2": "平方米", "m3": "立方米", "cm2": "平方厘米", "cm3": "立方厘米", "km2": "平方千米"}
UNITS = frozenset(_UNITS) | frozenset(_PLAIN_SQUARES)
_UNITS |= _PLAIN_SQUARES
_MONEY = {"$": "美元", "€": "欧元", "£": "英镑", "¥": "元"}
_SCALES = {"K": "千", "k": "千", "M": "百万", "B": "十亿", "W": "万", "w": "万"}
_SIGNS = {"&": "和", "+": "加", "=": "等于", "×": "乘", "÷": "除", "<": "小于", ">": "大于", "%": "百分号", "±": "正负"}
_SIGNS |= {
    "@": "艾特",
    "#": "井号",
    "°": "度",
    "℃": "度",
    "‰": "千分号",
    "²": "平方",
    "³": "立方",
    "/": ",",
    "^": "",
    "*": "",
}
_SIGNS |= {"$": "美元", "€": "欧元", "£": "英镑", "¥": "元", "~": "…", ":": ","}
# What 2 is 两 before: measure words. Before dates, floors and the like it is 二.
_MEASURES = (
    "个位只隻条张把件本杯瓶座台辆次天年周种家双对间份块片遍层岁分钟小时秒米支枝千克公里斤吨升元倍代头匹首篇步口根朵棵颗"
)
_MEASURES += "名亿万千勺局盘场群堆碗罐箱袋包盒道节"
# After these a number is a code, said digit by digit; before those, too, from three digits on.
_CODES = (
    "密码|验证码|校验码|编号|编码|代码|尾号|账号|帐号|卡号|学号|工号|单号|订单号|热线|电话|邮编|口令|房间号|车牌号?"
)
_CODES += "|航班|车次|型号|[打拨](?:打|通)?|QQ号?|号码"
_NAMED = "室|号房间?|号线|路公交车?|路车|次列车|次航班|号航班|次高铁|房间?(?!子|屋|价|租)"
_SOME_YEARS = "了过近约有达用花等满前后来内间的多以余"  # 21年 is a time beside them, else 2021

_NUMBER = r"\d+(?:\.\d+)?"
_TO = r"\s?[-~]\s?"
_UNIT = "|".join(re.escape(unit) for unit in sorted(_UNITS, key=len, reverse=True))


def normalise(text: str, *, all_signs: bool = False) -> list[str]:
    """Clauses of Han characters, and the signs , . ! ? … - between them, of a `plain` text.

    Of several signs in a row the strongest is kept, or all but repeated ellipses. Letters that are no units are left
    out.
    """
    for pattern, put in _RULES:
        text = pattern.sub(put, text)
    tokens = _TOKENS.findall(re.sub("…+", "…", text.replace(" ", "").replace(STOP, ".")))
    return tokens if all_signs else merged(tokens)


def _date(match: Match) -> str:
    year, _, month, day = match.groups()
    return f"{digits(year)}年{cardinal(str(int(month)))}月{cardinal(str(int(day)))}日"


def _month_day(match: Match) -> str:
    return f"{cardinal(str(int(match[1])))}月" + (f"{cardinal(str(int(match[2])))}{match[3]}" if match[2] else "")


def _time(match: Match) -> str:
    hour, minute, second = (None if part is None else int(part) for part in match.groups())
    assert hour is not None and minute is not None  # noqa: PT018 - the pattern's groups
    found = ("两" if hour == 2 else cardinal(str(hour))) + "点"
    if second is None and minute == 30:
        return found + "半"
    if minute or second is not None:
        found += ("零" if 0 < minute < 10 else "") + cardinal(str(minute)) + "分"
    return found + (("零" if 0 < second < 10 else "") + f"{cardinal(str(second))}秒" if second is not None else "")


def _share(match: Match) -> str:
    minus, low, high, sign = match.groups()
    whole = "百分之" if sign == "%" else "千分之"
    return ("负" if minus else "") + whole + decimal(low) + (f"至{whole}{decimal(high)}" if high else "")


def _money(match: Match) -> str:
    minus, sign, low, high, scale = match.groups()
    said = f"{decimal(low)}到{decimal(high)}" if high else ("两" if low == "2" else decimal(low))
    return ("负" if minus else "") + said + _SCALES.get(scale or "", scale or "") + _MONEY[sign]


def _degrees(match: Match) -> str:
    minus, number = match.groups()
    return ("零下" if minus else "") + decimal(number) + "度"


def _counted(match: Match) -> str:
    minus, number, high, unit = match.groups()
    said = f"{decimal(number)}到{decimal(high)}" if high else "两" if number == "2" else decimal(number)
    return ("负" if minus else "") + said + _UNITS[unit]


def _code(match: Match) -> str:
    return digits(re.sub(r"\D", "", match[0]), one="幺")


def _after_code(match: Match) -> str:
    return match[1] + ",".join(digits(part, one="幺") for part in re.split(r"[- ]+", match[2]))


def _telephone(match: Match) -> str:
    return ",".join(digits(part, one="幺") for part in re.findall(r"\d+", match[0]))


def _fraction(match: Match) -> str:
    whole, above, below = match.groups()
    if not whole and int(above) > int(below):
        return f"{cardinal(above)},{cardinal(below)}"  # a blood pressure
    return (f"{cardinal(whole)}又" if whole else "") + f"{cardinal(below)}分之{cardinal(above)}"


def _score(match: Match) -> str:
    return "比".join(cardinal(one) for one in match.groups() if one)


def _alone(match: Match) -> str:
    return digits(match[0]) if len(match[0]) > 12 else decimal(match[0])


_RULES: list[tuple[re.Pattern[str], str | Callable[[Match], str]]] = [
    (re.compile(pattern), put)
    for pattern, put in (
        (rf"{AFTER_LETTER}(\d{{3,}})(?![\d.]|[个元年月])", lambda m: digits(m[1], one="幺")),
        (rf"(?<=[^\s.,!?…:{STOP}-])[ ]*\n\s*", STOP),  # a line without an end
        (r"\s+", " "),
        (r"(?<![\d.])((?:1[5-9]|20)\d\d)([-/.])(1[0-2]|0?[1-9])\2(3[01]|[12]\d|0?[1-9])(?![\d.])", _date),
        (
            r"(?<!\d)(\d{4}|\d\d)(年)?\s?[-~]\s?(\d{4}|\d\d)(?=年)",
            lambda m: f"{digits(m[1])}{m[2] or ''}到{digits(m[3])}",
        ),
        (r"(?<!\d)(\d{4})(?=年)", lambda m: digits(m[1])),
        (
            rf"(?<!\d)(?<![{_SOME_YEARS}])(\d\d)(?=年(?![{_SOME_YEARS}]))|(?<=公元前)\d{{2,3}}(?=年)",
            lambda m: digits(m[0]),
        ),
        (r"(?<![\d.])(0?[1-9]|1[0-2])月(?:(0?[1-9]|[12]\d|3[01])([日号]))?", _month_day),
        (r"(?<!\d)1[3-9]\d[- ]?\d{4}[- ]?\d{4}(?!\d)", _code),
        (
            r"(?<!\d)(?:0\d{2,3}-\d{7,8}|[48]00-\d{3,4}-?\d{3,4}|\d{3,4}[- ]\d{4}(?:-\d{4})?)(?!\d)",
            _telephone,
        ),
        (
            r"(?<!\d)(?:110|119|120|122|10086|10010|10000|12306|12345|114|911)(?=报警|急救|火警|电话|热线|来|查|都|[,.!?…\x01]|$)",
            _code,
        ),
        (rf"((?:{_CODES})(?:是|为|系|:|,|\s)?)(\d[\d-]{{2,}})(?![\d.]|[个元位人])", _after_code),
        (rf"(?<![\d.])\d{{3,}}(?={_NAMED})", _code),
        (r"(?<=号)\d{5,}(?![\d.])", _code),
        (r"(?<![\d:])\d0(?=后(?![来面]))", lambda m: digits(m[0])),  # born in the eighties
        (r"(?<=\d:[0-5]\d)(?:-|~)(?=\d{1,2}:[0-5]\d)", "至"),
        (r"(?<![\d:])([01]?\d|2[0-4]):([0-5]\d)(?::([0-5]\d))?(?![\d:])", _time),
        (r"(?<![\d:])(\d+):(\d+)(?![\d:])", lambda m: f"{cardinal(m[1])}比{cardinal(m[2])}"),
        (
            r"(?<=[比分输赢胜负以])(\d+)-(\d+)(?![\d.])|(?<=分[是为系])(\d+)-(\d+)(?![\d.])|(?<![\d.])(\d+)-(\d+)(?=的?比分|获胜|取胜|战胜|击败|领先|[胜负])",
            _score,
        ),
        (rf"(?<![A-Za-z\d.])(-?)({_NUMBER})%?(?:{_TO}({_NUMBER}))?\s?([%‰])", _share),
        (
            rf"(?<![\d.])(-)?([$€£¥])\s?({_NUMBER})(?:{_TO}[$€£¥]?({_NUMBER}))?(?:\s?([百千万亿]+|[KkMBWw](?![A-Za-z])))?",
            _money,
        ),
        (rf"(?<=\d)(?:°\s?[CF]|℃)?{_TO}(?=-?{_NUMBER}\s?(?:°|℃))", "度至"),
        (rf"(?<![A-Za-z\d])(-?)({_NUMBER})\s?(?:°\s?[CF]|℃)", _degrees),
        (rf"(?<![\d.])(-)?({_NUMBER})(?:{_TO}({_NUMBER}))?\s?({_UNIT})(?![A-Za-z])", _counted),
        (
            rf"(?<=[{HAN}])/(?=小时|分钟?|秒|天|日|周|月|年|人|次|个|件|斤|公斤|千克|平方米|米|升|吨|台|套|位|份|晚|节)",
            "每",
        ),
        (r"(?<!\d)24/7(?!\d)", "全天候"),
        (r"(?<=\d)/(?=\d+\s?=)", "除以"),
        (r"(?<![\d/])(?:(\d+)又)?(\d{1,3})/(\d{1,3})(?![\d/])", _fraction),
        (r"(?<![\d.])\d+(?:\.\d+){2,}", lambda m: "点".join(cardinal(part) for part in m[0].split("."))),  # a version
        (r"(?<=\d)-(?=\d+(?:\.\d+)?\s?(?:=|等于|是多少|得))", "减"),
        (rf"(?<=\d){_TO}(?=\d)", "到"),
        (r"(?<![A-Za-z\d.])-(?=\d)", "负"),
        (r"(?<=\d)\s?\*\s?(?=\d)", "乘"),
        (rf"(?<![\d.第])2(?=[{_MEASURES}])(?!分之|月|号|日|[百十])", "两"),
        (r"(?<![\d.])2(?=点)", "两"),
        (r"(?:\d*\.\d+|\d+)", _alone),
        (r"(?<=[A-Za-z0-9])\.(?=[A-Za-z0-9])", "点"),
        (r"[&+=×÷<>%@#°℃‰²³/$€£¥~:±^*]", lambda m: _SIGNS[m[0]]),
        (r"-+", ""),
    )
]
_TOKENS = re.compile(rf"[{HAN}]+|[,.!?…-]")
