"""Abbreviations, and full stops that end no sentence."""

from __future__ import annotations

import re
from collections.abc import Callable

from gsvexport.text.en.characters import STOP
from gsvexport.text.en.numbers import cardinal, ordinal, roman
from gsvexport.text.en.quantities import MONTHS, Match, Rule
from gsvexport.text.en.spelling import spell

_BEFORE_NAMES = {"Mr": "mister", "Mrs": "missus", "Ms": "miz", "Dr": "doctor", "Prof": "professor", "Gen": "general"}
_BEFORE_NAMES |= {"Capt": "captain", "Lt": "lieutenant", "Sgt": "sergeant", "Rev": "reverend", "Hon": "honorable"}
_BEFORE_NAMES |= {
    "Mt": "mount",
    "Ft": "fort",
    "Gov": "governor",
    "Sen": "senator",
    "Col": "colonel",
    "Rep": "representative",
}
_BEFORE_NAMES |= {"Maj": "major", "Adm": "admiral", "Cmdr": "commander", "Pres": "president", "Messrs": "messers"}
_AT_ENDS = {
    "inc": "incorporated",
    "ltd": "limited",
    "co": "company",
    "corp": "corporation",
    "etc": "etcetera",
    "bros": "brothers",
}
_AT_ENDS |= {"jr": "junior", "sr": "senior", "ave": "avenue", "rd": "road", "blvd": "boulevard", "dept": "department"}
_AT_ENDS |= {
    "vs": "versus",
    "approx": "approximately",
    "govt": "government",
    "univ": "university",
    "assn": "association",
}
_AT_ENDS |= {"est": "established", "misc": "miscellaneous", "max": "maximum", "ext": "extension"}
_BEFORE_NUMBERS = {
    "no": "number",
    "nos": "numbers",
    "fig": "figure",
    "figs": "figures",
    "vol": "volume",
    "ch": "chapter",
}
_BEFORE_NUMBERS |= {
    "sec": "section",
    "eq": "equation",
    "p": "page",
    "pp": "pages",
    "art": "article",
    "ver": "version",
    "apt": "apartment",
}
_NUMBERED = "Chapter|Part|Volume|Book|Act|Scene|Section|Article|Appendix|Phase|Stage|Type|Class|War|Bowl|Table|Figure"
_RULERS = "Henry|Louis|George|Edward|Richard|William|Charles|James|Elizabeth|Mary|Catherine|John|Paul|Pius|Benedict"
_RULERS += "|Francis|Gregory|Leo|Innocent|Alexander|Nicholas|Frederick|Philip|Peter|Ivan|Napoleon|Wilhelm|Otto|Gustav"
_DAYS = {
    day[:3].capitalize(): day for day in ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
}
_DAYS |= {"Tues": "tuesday", "Thur": "thursday", "Thurs": "thursday"}
_SHORT_MONTHS = {month[:3].capitalize(): month for month in MONTHS} | {"Sept": "september"}
_ENDING = r"(?=\s+[A-Z]|\s*$)"


def _numbered(match: Match) -> str:
    number = roman(match[2])
    return f"{match[1]} {cardinal(number)}" if number else match[0]


def _ruler(match: Match) -> str:
    number = roman(match[2])
    return f"{match[1]} the {ordinal(number)}" if number else match[0]


def _listed(match: Match) -> str:
    return f"{match[1]}{ordinal(match[2])}, "


def _expand(table: dict[str, str], *, dot: str = "") -> Callable[[Match], str]:
    return lambda match: table[match[1].lower()] + dot


RULES: list[Rule] = [
    (re.compile(pattern), put)
    for pattern, put in (
        (rf"(^{STOP}?|[.!?] |\n)(\d{{1,2}})\. (?=[A-Z])", _listed),  # 1. Lift the lid
        (rf"\b({'|'.join(_BEFORE_NAMES)})\.(?!\w)", lambda m: _BEFORE_NAMES[m[1]].capitalize()),
        (rf"\b({'|'.join(_SHORT_MONTHS)})\.(?=,? ?\d| \d|,)", lambda m: _SHORT_MONTHS[m[1]]),
        (rf"\b({'|'.join(set(_SHORT_MONTHS) - {'May', 'Mar'})})\.(?!\w)", lambda m: _SHORT_MONTHS[m[1]]),
        (rf"\b((?i:{'|'.join(_BEFORE_NUMBERS)}))\. ?(?=\d)", lambda m: f"{_BEFORE_NUMBERS[m[1].lower()]} "),
        (rf"\b({'|'.join(_DAYS)})\.(?!\w)", lambda m: _DAYS[m[1]]),
        (r"(?<=day)\s?-\s?(?=[A-Z]?[a-z]+day\b)", " to "),
        (r"\bTel\.", "telephone"),
        (r"\b([BM])\.Sc\b\.?", lambda m: spell(m[1] + "sc")),
        (r"\bWWII\b", "world war two"),
        (r"\bWWI\b", "world war one"),
        (r"\bPh\.? ?D\b\.?" + _ENDING, f"{spell('phd')}."),
        (r"\bPh\.D\b\.?", spell("phd")),
        (rf"\b((?i:{'|'.join(_AT_ENDS)}))\.{_ENDING}", _expand(_AT_ENDS, dot=".")),
        (rf"\b((?i:{'|'.join(_AT_ENDS)}))\.(?!\w)", _expand(_AT_ENDS)),
        (r"\b(?!(?:The|In|At|To|From|Near|Of) )([A-Z][a-z]+) St\.(?= [A-Z]|\s*$)", r"\1 street."),
        (r"\bSt\. ?(?=[A-Z])", "saint "),
        (r"\bSt\.", "street"),
        (r"\b[Ee]\.g\.,?", "for example"),
        (r"\b[Ii]\.e\.,?", "that is"),
        (rf"\b({_NUMBERED}) ([IVXLC]+)\b(?!')", _numbered),
        (rf"\b({_RULERS}) ((?=[IVX]{{2}}|[VX]|I[,.;:!?)])[IVX]+)\b", _ruler),
        (r"\b([A-Z][a-z]+) (III?|IV|VI{1,3}|IX|XI{1,3}|XIV|XV)\b(?!')", _numbered),
        (r"(?<![A-Za-z])([ap])\. ?m\.(?=\s+[A-Z]|\s*$)", lambda m: f"{spell(m[1] + 'm')}."),
        (r"\b((?:[A-Za-z]\. ?)+[A-Za-z])\.(?=\s*$)", lambda m: f" {spell(m[1])}."),
        (r"\b((?:[A-Za-z]\.)+[A-Za-z])\b\.?", lambda m: f" {spell(m[1])} "),
        (r"\b([A-Z])\. ?(?=[A-Z](?:[a-z]|\.))", lambda m: f" {spell(m[1])} "),  # J. K. Rowling
        (r"\b(?:w/o)(?!\w)", "without"),
        (r"\bw/(?= )", "with"),
    )
]
