"""Abbreviations, and full stops that end no sentence."""

from __future__ import annotations

import re

from gsvexport.text.en.characters import STOP
from gsvexport.text.en.numbers import cardinal, ordinal, roman
from gsvexport.text.en.quantities import MONTHS
from gsvexport.text.en.rules import Match, Rule, filled
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


def _title(short: str) -> str:
    return _BEFORE_NAMES[short].capitalize()


def _short_month(short: str) -> str:
    return _SHORT_MONTHS[short]


def _short_day(short: str) -> str:
    return _DAYS[short]


def _before_number(short: str) -> str:
    return _BEFORE_NUMBERS[short.lower()]


def _at_end(short: str) -> str:
    return _AT_ENDS[short.lower()]


RULES: list[Rule] = [
    (re.compile(pattern), put)
    for pattern, put in (
        (rf"(^{STOP}?|[.!?] |\n)(\d{{1,2}})\. (?=[A-Z])", filled("{}{}, ", (str, 1), (ordinal, 2))),  # 1. Lift the lid
        (rf"\b({'|'.join(_BEFORE_NAMES)})\.(?!\w)", filled("{}", (_title, 1))),
        (rf"\b({'|'.join(_SHORT_MONTHS)})\.(?=,? ?\d| \d|,)", filled("{}", (_short_month, 1))),
        (rf"\b({'|'.join(sorted(_SHORT_MONTHS.keys() - {'May', 'Mar'}))})\.(?!\w)", filled("{}", (_short_month, 1))),
        (rf"\b((?i:{'|'.join(_BEFORE_NUMBERS)}))\. ?(?=\d)", filled("{} ", (_before_number, 1))),
        (rf"\b({'|'.join(_DAYS)})\.(?!\w)", filled("{}", (_short_day, 1))),
        (r"(?<=day)\s?-\s?(?=[A-Z]?[a-z]+day\b)", " to "),
        (r"\bTel\.", "telephone"),
        (r"\b([BM])\.Sc\b\.?", filled(f"{{}} {spell('sc')}", (spell, 1))),
        (r"\bWWII\b", "world war two"),
        (r"\bWWI\b", "world war one"),
        (r"\bPh\.? ?D\b\.?" + _ENDING, f"{spell('phd')}."),
        (r"\bPh\.D\b\.?", spell("phd")),
        (rf"\b((?i:{'|'.join(_AT_ENDS)}))\.{_ENDING}", filled("{}.", (_at_end, 1))),
        (rf"\b((?i:{'|'.join(_AT_ENDS)}))\.(?!\w)", filled("{}", (_at_end, 1))),
        (r"\b(?!(?:The|In|At|To|From|Near|Of) )([A-Z][a-z]+) St\.(?= [A-Z]|\s*$)", r"\1 street."),
        (r"\bSt\. ?(?=[A-Z])", "saint "),
        (r"\bSt\.", "street"),
        (r"\b[Ee]\.g\.,?", "for example"),
        (r"\b[Ii]\.e\.,?", "that is"),
        (rf"\b({_NUMBERED}) ([IVXLC]+)\b(?!')", _numbered),
        (rf"\b({_RULERS}) ((?=[IVX]{{2}}|[VX]|I[,.;:!?)])[IVX]+)\b", _ruler),
        (r"\b([A-Z][a-z]+) (III?|IV|VI{1,3}|IX|XI{1,3}|XIV|XV)\b(?!')", _numbered),
        (r"(?<![A-Za-z])([ap])\. ?m\.(?=\s+[A-Z]|\s*$)", filled(f"{{}} {spell('m')}.", (spell, 1))),
        (r"\b((?:[A-Za-z]\. ?)+[A-Za-z])\.(?=\s*$)", filled(" {}.", (spell, 1))),
        (r"\b((?:[A-Za-z]\.)+[A-Za-z])\b\.?", filled(" {} ", (spell, 1))),
        (r"\b([A-Z])\. ?(?=[A-Z](?:[a-z]|\.))", filled(" {} ", (spell, 1))),  # J. K. Rowling
        (r"\b(?:w/o)(?!\w)", "without"),
        (r"\bw/(?= )", "with"),
    )
]
