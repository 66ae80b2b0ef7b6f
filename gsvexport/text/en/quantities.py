"""Numbers with what stands beside them: dates, times, money, units, ranges, fractions, telephone numbers."""

from __future__ import annotations

import re

from gsvexport.text.en.numbers import cardinal, digits, fraction, ordinal, plural, year
from gsvexport.text.en.rules import Match, Rule, filled
from gsvexport.text.en.spelling import spell

MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_UNITS = {"km": "kilometer", "cm": "centimeter", "mm": "millimeter", "kg": "kilogram", "mg": "milligram", "lb": "pound"}
_UNITS |= {
    "ms": "millisecond",
    "ml": "milliliter",
    "hz": "hertz",
    "khz": "kilohertz",
    "mhz": "megahertz",
    "lbs": "pound",
}
_UNITS |= {"ghz": "gigahertz", "kb": "kilobyte", "mb": "megabyte", "gb": "gigabyte", "tb": "terabyte", "oz": "ounce"}
_UNITS |= {"mph": "mile per hour", "km/h": "kilometer per hour", "kw": "kilowatt", "kwh": "kilowatt hour", "ft": "foot"}
_UNITS |= {
    "sq ft": "square foot",
    "kcal": "kilocalorie",
    "kph": "kilometer per hour",
    "m/s": "meter per second",
    "yd": "yard",
    "mi": "mile",
    "tsp": "teaspoon",
}
_UNITS |= {"tbsp": "tablespoon", "gal": "gallon", "qt": "quart", "sec": "second", "secs": "second", "min": "minute"}
_UNITS |= {
    "hr": "hour",
    "hrs": "hour",
    "mins": "minute",
    "°c": "degree celsius",
    "°f": "degree fahrenheit",
    "°": "degree",
}
_UNITS |= {
    "m²": "square meter",
    "km²": "square kilometer",
    "cm²": "square centimeter",
    "m³": "cubic meter",
    "mbps": "megabit per second",
}
_LETTERS = {"h": "hour", "m": "meter", "g": "gram", "l": "liter", "L": "liter", "W": "watt", "V": "volt"}
_MONEY = {"$": ("dollar", "cent"), "€": ("euro", "cent"), "£": ("pound", "penny"), "¥": ("yen", "sen")}
_PLURALS = {word: word for word in ("yen", "sen", "hertz", "kilohertz", "megahertz", "gigahertz")}
_PLURALS |= {
    "penny": "pence",
    "foot": "feet",
    "kilowatt hour": "kilowatt hours",
    "inch": "inches",
    "square foot": "square feet",
}
_PLURALS |= {
    f"{first} {unit}": f"{first} {unit}s"
    for first in ("square", "cubic")
    for unit in ("meter", "kilometer", "centimeter")
}
_SCALES = {"k": "thousand", "m": "million", "mn": "million", "b": "billion", "bn": "billion", "t": "trillion"}
_PERIODS = {"mo": "month", "yr": "year", "hr": "hour"}

_NUMBER = r"\d{1,3}(?:,\d{3})+|\d+"
_DECIMAL = rf"(?:{_NUMBER})(?:\.\d+)?"
_HALF_DAY = r"\s?([AaPp])\.?\s?[Mm]\b(?:\.(?!\s+[A-Z]|\s*$))?"  # its dot stays when a sentence ends there
_TIME = r"(\d\d?):([0-5]\d)"
_UNIT = "|".join(re.escape(unit) for unit in sorted(_UNITS, key=len, reverse=True))


def _number(number: str) -> str:
    """A number, with or without thousands' commas and decimals."""
    whole, _, part = number.partition(".")
    return cardinal(whole.replace(",", "") or "0") + (f" point {digits(part)}" if part else "")


def _alone(match: Match) -> str:
    return (
        f" {year(match[0])} "
        if re.fullmatch(r"[12]\d{3}", match[0]) and match[0] != "1000"
        else f" {_number(match[0])} "
    )


def _several(unit: str) -> str:
    first, space, rest = unit.partition(" ")  # miles per hour, degrees celsius
    return _PLURALS.get(unit) or plural(first) + space + rest


def _counted(number: str, unit: str) -> str:
    words = _number(number)
    return f" {words} {unit if words == 'one' else _several(unit)} "


def _unit(match: Match) -> str:
    number, hyphen, unit, dot = match.groups()
    name = _LETTERS.get(unit) or _UNITS[unit.lower()]
    return (f" {_number(number)} {name} " if hyphen == "-" else _counted(number, name)) + (dot or "")


def _unit_range(match: Match) -> str:
    low, high, unit = match.groups()
    return f" {_number(low)} to {_number(high)} {_several(_LETTERS.get(unit) or _UNITS[unit.lower()])} "


def _money(match: Match) -> str:
    minus, sign, whole, part, scale = match.groups()
    unit, small = _MONEY[sign]
    found = " minus " if minus else ""
    if scale:
        scale = _SCALES.get(scale.lower(), scale)
        return f"{found} {_number(whole + (part or ''))} {scale} {_several(unit)} "
    if part in (None, ".00") or len(part) != 3:
        return found + _counted(whole + ("" if part in (None, ".00") else part), unit)
    cents = _counted(str(int(part[1:])), small)
    return found + (cents if whole == "0" else f"{_counted(whole, unit)} and {cents}")


def _money_range(match: Match) -> str:
    sign, low, high, scale = match.groups()
    scale = f" {_SCALES.get(scale.lower(), scale)}" if scale else ""
    return f" {_number(low)} to {_number(high)}{scale} {_several(_MONEY[sign][0])} "


def _time(match: Match) -> str:
    hour, minute, half = match.groups()
    if minute == "00":
        said = "" if half else "o'clock" if 0 < int(hour) < 13 else "hundred"
    else:
        said = f"oh {digits(minute[1])}" if minute[0] == "0" else cardinal(minute)
    return f" {cardinal(str(int(hour)))} {said} {spell(half + 'm') if half else ''} "


def _iso_date(match: Match) -> str:
    return _day_of(match[2], match[3], match[1])


def _american_date(match: Match) -> str:
    return _day_of(match[1], match[2], match[3])


def _day_of(month: str, day: str, of_year: str) -> str:
    """The month, the day and the year, as they are said."""
    return f" {_month(month)} {_day(day)}, {year(of_year)} "


def _month(number: str) -> str:
    return MONTHS[int(number) - 1]


def _day(number: str) -> str:
    return ordinal(str(int(number)))


def _fraction(match: Match) -> str:
    whole, above, below = match.groups()
    if not whole and int(above) >= int(below):
        return f" {cardinal(above)} out of {cardinal(below)} "
    if whole:
        many, _, parts = fraction(above, below).partition(" ")
        return f" {cardinal(whole)} and {'a' if above == '1' else many} {parts} "
    return f" {fraction(above, below)} "


def _telephone(match: Match) -> str:
    return " " + ", ".join(digits(part) for part in re.findall(r"\d+", match[0])) + " "


def _version(match: Match) -> str:
    return f" {' point '.join(map(cardinal, match[0].split('.')))} "


def _cents(number: str) -> str:
    return _counted(str(int(number)), "cent")


def _inches(number: str) -> str:
    return _counted(number, "inch")


def _place(number: str) -> str:
    return ordinal(number.replace(",", ""))


def _years(number: str) -> str:
    return plural(year(number))


def _tens(number: str) -> str:
    return plural(cardinal(number))


def _unit_name(short: str) -> str:
    return _UNITS[short]


def _period(short: str) -> str:
    return _PERIODS[short]


RULES: list[Rule] = [
    (re.compile(pattern), put)
    for pattern, put in (
        (r"(?<![\d-])([12]\d{3})-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])(?![\d-])", _iso_date),
        (r"(?<![\d/])(0?[1-9]|1[0-2])/(0?[1-9]|[12]\d|3[01])/([12]\d{3})(?![\d/])", _american_date),
        (
            r"(?<=\bon )(0?[1-9]|1[0-2])/(0?[1-9]|[12]\d|3[01])(?![\d/])(?<!9/11)",
            filled("{} {}", (_month, 1), (_day, 2)),
        ),
        (r"(?<=\d[ap]m)\s?-\s?(?=\d)|(?<=\d [ap]m)\s?-\s?(?=\d)", " to "),
        (r"(?<=:[0-5]\d)(\s?[AaPp]\.?[Mm]\.?)?\s?-\s?(?=\d\d?:[0-5]\d)", r"\1 to "),
        (rf"\b{_TIME}(?:{_HALF_DAY})?(?!\d)", _time),
        (
            rf"\b(\d\d?)\s?-\s?(\d\d?){_HALF_DAY}",
            filled(f" {{}} to {{}} {{}} {spell('m')} ", (cardinal, 1), (cardinal, 2), (spell, 3)),
        ),
        (r"(?<![\d:])(\d+):(\d+)(?![\d:])", filled(" {} to {} ", (cardinal, 1), (cardinal, 2))),
        (rf"\b(\d\d?){_HALF_DAY}", filled(f" {{}} {{}} {spell('m')} ", (cardinal, 1), (spell, 2))),
        (r"(?<![\d-])(?:\+?1[- ])?(?:\d{3} \s*)?\d{3}-\d{4}(?![\d-])|\b(?:1-)?(?:\d{3}-)+\d{4}\b", _telephone),
        (r"(?<!\d)0\d{2,4} +\d{3,4} \d{3,4}(?!\d)", _telephone),
        (r"\$\.(\d\d)(?!\d)", filled("{}", (_cents, 1))),
        (r"(?<![\d$€£¥.,#])(?:911|411|999|112)(?![\d.,]*\d|%)(?= |[.!?,]|$)", filled(" {} ", (digits, 0))),
        (
            r"\b((?i:code|pin|password|passcode|zip)(?: is|:)? )(\d{3,})(?![\d,.]*\d)",
            filled("{} {} ", (str, 1), (digits, 2)),
        ),
        (
            (
                rf"([$€£¥])\s?({_DECIMAL})\s?-\s?[$€£¥]?({_DECIMAL})"
                r"(?:\s?(million|billion|thousand|[KkMB](?![A-Za-z])))?"
            ),
            _money_range,
        ),
        (
            (
                rf"((?<![\w.])-)?([$€£¥]) ?({_NUMBER})(\.\d+)?"
                r"(?: ?(hundred|thousand|million|billion|trillion|(?:mn|bn|[KkMmBbT])(?![A-Za-z]))\b)?"
            ),
            _money,
        ),
        (r"(?<![\w.])-(?=[\d.])", " minus "),
        (r"(?<=\d)\s?x\s?(?=\d)", " by "),
        (r"\b24/7\b", " twenty-four seven "),
        (r"(?<![\d/.])(?:(\d+) )?(\d{1,2})/(\d{1,2})(?![\d/])(?<!9/11)", _fraction),
        (rf"({_NUMBER})(?:st|nd|rd|th)\b", filled(" {} ", (_place, 1))),
        (r"\b([12]\d\d0)'?s\b", filled(" {} ", (_years, 1))),
        (r"'?\b([2-9]0)'?s\b", filled(" {} ", (_tens, 1))),
        (r"(?<![\d.])\d+(?:\.\d+){2,}", _version),
        (
            rf"({_DECIMAL})(?:\s?°[CF]?)?\s?-\s?({_DECIMAL})\s?((?i:{_UNIT})|[mglL])(?![A-Za-z])\.?(?!\s*$)",
            _unit_range,
        ),
        (
            rf"({_DECIMAL}|\.\d+)([ -])?((?i:{_UNIT})|[mglLWVh])(?![A-Za-z²³'-])(?:\.(?=\s+[a-z\d])|(\.)(?=\s|$))?",
            _unit,
        ),
        (r"(?<=\d)%?\s?[-–]\s?(?=\d+(?:\.\d+)?%)", " to "),
        (r"(?<=\d)-(?=\d)", " to "),
        (r"(?<=\d) - (?=\d)", " minus "),
        (r"(?<=\d)\s?\*\s?(?=\d)|(?<=\d)x\b(?!\s?\d)", " times "),
        (r"(?<=\d) / (?=\d)", " divided by "),
        (r"\b(\d+) in\.(?=\s+[a-z])", filled("{}", (_inches, 1))),
        (r"\b(\d+) in\.$", filled("{}.", (_inches, 1))),
        (r"\b(tsp|tbsp|oz)\b\.?", filled("{}", (_unit_name, 1))),
        (r"(?<=\w)\s?/(?=(?:month|mo|year|yr|day|week|hour|hr|person|night|kg|lb)\b)", " per "),
        (r"(?<= per )(?:mo|yr|hr)\b", filled("{}", (_period, 0))),
        (r"(?<=[A-Za-z])-(?=\d)", " "),
        (r"(?<=[A-Za-z])(?=\d)|(?<=\d)(?=[A-Za-z])", " "),
        (r"(?<!\w)\.(\d+)", filled(" point {} ", (digits, 1))),
        (rf"(?:{_NUMBER})\.\d+", _alone),
        (_NUMBER, _alone),
    )
]
