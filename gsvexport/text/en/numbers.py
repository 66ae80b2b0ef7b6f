"""Numbers as English words: cardinals, ordinals, years, and digits one by one. Strings of digits in, words out."""

from __future__ import annotations

import re

_SMALL = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ["-", "-", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_SCALES = ("", "thousand", "million", "billion", "trillion")
_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
_ROMAN = {"C": 100, "XC": 90, "L": 50, "XL": 40, "X": 10, "IX": 9, "V": 5, "IV": 4, "I": 1}
_LONGEST = 3 * len(_SCALES)  # digits; longer ones are no quantities that a listener takes in


def digits(number: str) -> str:
    """ "2025" → "two zero two five"."""
    return " ".join(_SMALL[int(digit)] for digit in number)


def cardinal(number: str) -> str:
    """ "1234" → "one thousand, two hundred thirty-four"; more than 15, or a 0 in front: digit by digit.

    The commas are upstream's (its inflect): voices pause there.
    """
    if len(number) > _LONGEST or (number[0] == "0" and len(number) > 1):
        return digits(number)
    value, found = int(number), ""
    for scale in reversed(range(len(_SCALES))):
        group, value = divmod(value, 1000**scale)
        if group:
            between = "" if not found else ", " if group >= 100 or scale else " "
            found += f"{between}{_hundreds(group)} {_SCALES[scale]}".rstrip()
    return found or _SMALL[0]


def ordinal(number: str) -> str:
    """ "21" → "twenty-first"."""
    words = cardinal(number)
    last = re.split("[ -]", words)[-1]
    regular = last[:-1] + "ieth" if last.endswith("y") else last + "th"
    return words[: len(words) - len(last)] + _ORDINALS.get(last, regular)


def fraction(above: str, below: str) -> str:
    """ "3", "8" → "three eighths"."""
    if below == "2":
        return f"{cardinal(above)} {'half' if above == '1' else 'halves'}"
    part = "quarter" if below == "4" else ordinal(below)
    return f"{cardinal(above)} {part if above == '1' else plural(part)}"


def year(number: str) -> str:
    """Four digits the way years are said: "1984" → "nineteen eighty-four", "1905" → "nineteen oh five"."""
    century, rest = number[:2], number[2:]
    if century[1] == "0" and rest[0] == "0":  # 2000 to 2009, 1000 to 1009
        return cardinal(number)
    if rest == "00":
        return f"{cardinal(century)} hundred"
    return f"{cardinal(century)} {'oh ' + _SMALL[int(rest[1])] if rest[0] == '0' else cardinal(rest)}"


def roman(numeral: str) -> str:
    """ "XIV" → "14"; nothing for letters that are no number."""
    value, rest = 0, numeral
    for letters, worth in _ROMAN.items():
        while rest.startswith(letters):
            value, rest = value + worth, rest[len(letters) :]
    return str(value) if value and not rest else ""


def plural(words: str) -> str:
    """ "nineteen ninety" → "nineteen nineties", as in "the 1990s"."""
    if words.endswith("y"):
        return words[:-1] + "ies"
    return words + ("es" if words.endswith(("x", "s")) else "s")


def _hundreds(value: int) -> str:
    hundreds, rest = divmod(value, 100)
    words = [_SMALL[hundreds], "hundred"] if hundreds else []
    if rest >= 20:
        words.append(_TENS[rest // 10])
        rest %= 10
        if rest:
            words[-1] += f"-{_SMALL[rest]}"
    elif rest:
        words.append(_SMALL[rest])
    return " ".join(words)
