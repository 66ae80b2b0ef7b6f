"""Written English → words to pronounce and punctuation: abbreviations, times, money, numbers, acronyms, signs.

The rules run in the order of `_RULES`; each sees what the earlier ones left. They know no grammar: "1984" is a year
wherever it stands, and "St." before a name is a saint unless a name stands before it, too.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from gsvexport.text.en.characters import plain
from gsvexport.text.en.lexicon import pronounce
from gsvexport.text.en.numbers import cardinal, digits, ordinal, plural, roman, year
from gsvexport.text.words import merged

Match = re.Match[str]

LETTER = "~"  # before a letter that is said by its name; `plain` lets no such character through
_BEFORE_NAMES = {"Mr": "mister", "Mrs": "missus", "Ms": "miz", "Dr": "doctor", "Prof": "professor", "Gen": "general"}
_BEFORE_NAMES |= {"Capt": "captain", "Lt": "lieutenant", "Sgt": "sergeant", "Rev": "reverend", "Hon": "honorable"}
_BEFORE_NAMES |= {"Mt": "mount", "Ft": "fort", "Gov": "governor", "Sen": "senator", "Col": "colonel"}
_BEFORE_NAMES |= {"vs": "versus", "approx": "approximately", "Jan": "january", "Feb": "february", "Aug": "august"}
_BEFORE_NAMES |= {"Sept": "september", "Oct": "october", "Nov": "november", "Dec": "december"}
_AT_ENDS = {"inc": "incorporated", "ltd": "limited", "co": "company", "corp": "corporation", "etc": "et cetera"}
_AT_ENDS |= {"jr": "junior", "sr": "senior", "ave": "avenue", "rd": "road", "blvd": "boulevard", "dept": "department"}
_UNITS = {"km": "kilometer", "cm": "centimeter", "mm": "millimeter", "kg": "kilogram", "mg": "milligram", "lb": "pound"}
_UNITS |= {"ms": "millisecond", "ml": "milliliter", "hz": "hertz", "khz": "kilohertz", "mhz": "megahertz"}
_UNITS |= {"ghz": "gigahertz", "kb": "kilobyte", "mb": "megabyte", "gb": "gigabyte", "tb": "terabyte"}
_UNITS |= {"mph": "mile per hour", "km/h": "kilometer per hour", "kw": "kilowatt", "kwh": "kilowatt hour", "ft": "foot"}
_UNITS |= {"hr": "hour", "hrs": "hour", "mins": "minute", "°c": "degree celsius", "°f": "degree fahrenheit"}
_MONEY = {"$": ("dollar", "cent"), "€": ("euro", "cent"), "£": ("pound", "penny"), "¥": ("yen", "sen")}
_PLURALS = {word: word for word in ("yen", "sen", "hertz", "kilohertz", "megahertz", "gigahertz")}
_PLURALS |= {"penny": "pence", "foot": "feet", "kilowatt hour": "kilowatt hours"}
_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_NUMBERED = "Chapter|Part|Volume|Book|Act|Scene|Section|Article|Appendix|Phase|Stage|Type|Class|War|Bowl|Table|Figure"
_RULERS = "Henry|Louis|George|Edward|Richard|William|Charles|James|Elizabeth|Mary|Catherine|John|Paul|Pius|Benedict"
_RULERS += "|Francis|Gregory|Leo|Innocent|Alexander|Nicholas|Frederick|Philip|Peter|Ivan|Napoleon|Wilhelm|Otto|Gustav"
_FRACTIONS = {"1/2": "one half", "1/3": "one third", "2/3": "two thirds", "1/4": "one quarter", "3/4": "three quarters"}
_SIGNS = {"&": "and", "%": "percent", "@": "at", "+": "plus", "=": "equals", "#": "number", "°": "degrees"}
_SIGNS |= {"/": "slash", "$": "dollar", "€": "euro", "£": "pound", "¥": "yen"}
_SPELLED = {"US", "IT", "AI", "ID", "IP", "UN", "EU", "OS", "AM", "LA", "TV"}  # in small letters they are other words


def normalise(text: str) -> list[str]:
    """The words in lower case, "~x" for a letter said by its name, and the signs , . ! ? … - between them.

    Of several signs in a row the strongest is kept.

    Raises:
        InputError: characters that are no English text, each named once.
    """
    text = plain(text)
    if not re.search("[a-z]", text):
        text = re.sub(r"\b(?:US|IT|AM|LA|UN)\b", lambda match: match[0].lower(), text)  # all of it shouts
    for pattern, put in _RULES:
        text = pattern.sub(put, text)
    tokens = re.findall(r"~[a-z](?:'?s\b)?|[a-z']+|[,.!?…-]", text.lower())
    return merged([token for token in tokens if token.strip("'")])


def spell(letters: str) -> str:
    """ "USA" → "~u ~s ~a"."""
    return " ".join(LETTER + one for one in letters.lower() if one.isalpha())


def _number(number: str) -> str:
    """A number, with or without thousands' commas and decimals."""
    whole, _, part = number.partition(".")
    return cardinal(whole.replace(",", "")) + (f" point {digits(part)}" if part else "")


def _alone(match: Match) -> str:
    if re.fullmatch(r"1[1-9]\d\d|20\d\d", match[0]):
        return f" {year(match[0])} "
    return f" {_number(match[0])} "


def _counted(number: str, unit: str) -> str:
    words = _number(number)
    first, space, rest = unit.partition(" ")  # miles per hour, degrees celsius
    several = _PLURALS.get(unit) or plural(first) + space + rest
    return f" {words} {unit if words == 'one' else several} "


def _money(match: Match) -> str:
    sign, whole, part, scale = match.groups()
    unit, small = _MONEY[sign]
    if scale:
        return f" {_number(whole + (part or ''))} {scale} {_PLURALS.get(unit) or plural(unit)} "
    if part in (None, ".00") or len(part) != 3:
        return _counted(whole + (part or "").replace(".00", ""), unit)
    cents = _counted(str(int(part[1:])), small)
    return cents if whole == "0" else f"{_counted(whole, unit)} and {cents}"


def _time(match: Match) -> str:
    hour, minute, half = match.groups()
    if minute == "00":
        said = "" if half else "o'clock" if 0 < int(hour) < 13 else "hundred"
    else:
        said = f"oh {digits(minute[1])}" if minute[0] == "0" else cardinal(minute)
    return f" {cardinal(str(int(hour)))} {said} {spell(half + 'm') if half else ''} "


def _date(match: Match) -> str:
    """2025-03-05: the month, the day and the year, as they are said."""
    return f" {_MONTHS[int(match[2]) - 1]} {ordinal(str(int(match[3])))} , {year(match[1])} "


def _numbered(match: Match) -> str:
    number = roman(match[2])
    return f"{match[1]} {cardinal(number)}" if number else match[0]


def _ruler(match: Match) -> str:
    number = roman(match[2])
    return f"{match[1]} the {ordinal(number)}" if number else match[0]


def _camel(match: Match) -> str:
    """iPhone, OpenAI: two words, unless the dictionary has them as one (McDonald)."""
    return match[0] if pronounce(match[0].lower()) else re.sub("(?<=[a-z])(?=[A-Z])", " ", match[0])


def _acronym(match: Match) -> str:
    """Capitals are spelled out when they are no word: without a vowel, short and unheard of, or one of a few."""
    word = match[1]
    unheard = len(word) < 5 and pronounce(word.lower()) is None
    return f" {spell(word)}{match[2] or ''}" if word in _SPELLED or unheard or _unspeakable(word) else match[0]


def _unspeakable(word: str) -> bool:
    return not re.search("[aeiouy]", word.lower())


def _expand(table: dict[str, str], *, dot: str = "") -> Callable[[Match], str]:
    return lambda match: table[match[1].lower()] + dot


_NUMBER = r"\d{1,3}(?:,\d{3})+|\d+"
_HALF_DAY = r"\s?([AaPp])\.?[Mm]\b(?:\.(?!\s+[A-Z]|\s*$))?"  # its dot stays when a sentence ends there
_ENDING = r"(?=\s+[A-Z]|\s*$)"

_RULES: list[tuple[re.Pattern[str], str | Callable[[Match], str]]] = [
    (re.compile(pattern), put)
    for pattern, put in (
        (r"(?<=[^\s.,!?…-])[ ]*\n\s*\n", ". "),  # a heading, or a paragraph without an end
        (r"\s+", " "),
        (rf"\b({'|'.join(_BEFORE_NAMES)})\.(?!\w)", lambda m: _BEFORE_NAMES[m[1]]),
        (rf"\b((?i:{'|'.join(_AT_ENDS)}))\.{_ENDING}", _expand(_AT_ENDS, dot=".")),
        (rf"\b((?i:{'|'.join(_AT_ENDS)}))\.(?!\w)", _expand(_AT_ENDS)),
        (r"\b(?!(?:The|In|At|To|From|Near|Of) )([A-Z][a-z]+) St\.(?= [A-Z]|\s*$)", r"\1 street."),
        (r"\bSt\.(?= [A-Z])", "saint"),
        (r"\bSt\.", "street"),
        (r"\bNo\. ?(?=\d)", "number "),
        (r"\b[Ee]\.g\.,?", "for example,"),
        (r"\b[Ii]\.e\.,?", "that is,"),
        (r"(?<![\d-])(1[1-9]\d\d|20\d\d)-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])(?![\d-])", _date),
        (rf"\b({_NUMBERED}) ([IVXLC]+)\b(?!')", _numbered),
        (rf"\b({_RULERS}) ((?=[IVX]{{2}}|[VX]|I[,.;:!?)])[IVX]+)\b", _ruler),
        (rf"\b(\d\d?):([0-5]\d)(?:{_HALF_DAY})?(?!\d)", _time),
        (rf"\b(\d\d?){_HALF_DAY}", lambda m: f" {cardinal(m[1])} {spell(m[2] + 'm')} "),
        (r"\b((?:[A-Za-z]\.)+[A-Za-z])\b(?:\.(?!\s*$))?", lambda m: f" {spell(m[1])} "),
        (r"\b([A-HJ-Z])\.(?= [A-Z][a-z])", lambda m: f" {spell(m[1])} "),
        (rf"([$€£¥]) ?({_NUMBER})(\.\d+)?(?: ?(hundred|thousand|million|billion|trillion)\b)?", _money),
        (r"(?<![\d/])([1-3]/[2-4])(?![\d/])", lambda m: f" {_FRACTIONS.get(m[1], m[1])} "),
        (rf"({_NUMBER})(?:st|nd|rd|th)\b", lambda m: f" {ordinal(m[1].replace(',', ''))} "),
        (r"\b(1[1-9]\d0|20[1-9]0)'?s\b", lambda m: f" {plural(year(m[1]))} "),
        (r"\b([2-9]0)'?s\b", lambda m: f" {plural(cardinal(m[1]))} "),
        (r"\b(?:\d{3}-)+\d{4}\b", lambda m: f" {' , '.join(map(digits, m[0].split('-')))} "),  # a telephone number
        (r"(?<![\d.])\d+(?:\.\d+){2,}", lambda m: f" {' point '.join(map(cardinal, m[0].split('.')))} "),  # a version
        (r"(?<=\d)-(?=\d)", " to "),
        (r"(?<![\w.])-(?=[\d$])", " minus "),
        (rf"({_NUMBER}|\d*)(\.\d+)? ?((?i:{'|'.join(sorted(_UNITS, key=len, reverse=True))}))\b", lambda m: _unit(m)),
        (r"(?<=[A-Za-z])(?=\d)|(?<=\d)(?=[A-Za-z])", " "),
        (r"(?<!\w)\.(\d+)", lambda m: f" point {digits(m[1])} "),
        (rf"(?:{_NUMBER})\.\d+", _alone),
        (_NUMBER, _alone),
        (r"\b[A-Za-z]*[a-z][A-Z][A-Za-z]*", _camel),
        (r"\b([A-Z]{2,6})('?s)?\b", _acronym),
        (r"[&%@+=#°/$€£¥]", lambda m: f" {_SIGNS[m[0]]} "),
        (r"(?<=\w)\.(?=\w)", " dot "),
        (r":", ","),
        (r" -+ |--+", " — "),
        (r"-", " "),
        (r"—", "-"),
    )
]


def _unit(match: Match) -> str:
    whole, part, unit = match.groups()
    return _counted(whole + (part or ""), _UNITS[unit.lower()]) if whole else match[0]
