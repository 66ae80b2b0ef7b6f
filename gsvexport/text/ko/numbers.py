"""Numbers as Korean words: Sino-Korean ones, the native ones before many counters, and digits one by one."""

from __future__ import annotations

_DIGITS = "영일이삼사오육칠팔구"
_PLACES = ("", "십", "백", "천")
_SCALES = ("", "만", "억", "조")
_ONES = ("", "한", "두", "세", "네", "다섯", "여섯", "일곱", "여덟", "아홉")
_TENS = ("", "열", "스물", "서른", "마흔", "쉰", "예순", "일흔", "여든", "아흔")


def digits(number: str) -> str:
    """ "010" → "영일영"."""
    return "".join(_DIGITS[int(digit)] for digit in number)


def sino(number: str) -> str:
    """ "1234" → "천이백삼십사"; more than 16, or a 0 in front: digit by digit."""
    if len(number) > 16 or (number[0] == "0" and len(number) > 1):
        return digits(number)
    found = ""
    for scale, name in reversed(list(enumerate(_SCALES))):
        group = int(number) // 10000**scale % 10000
        if group:
            said = "".join(_place(group // 10**place % 10, place) for place in (3, 2, 1, 0))
            found += ("" if name == "만" and group == 1 and not found else said) + name
    return found or _DIGITS[0]


def _place(digit: int, place: int) -> str:
    if not digit:
        return ""
    return ("" if digit == 1 and place else _DIGITS[digit]) + _PLACES[place]


def native(number: str) -> str:
    """ "23" → "스물세", as before a counter; hundreds and more are Sino-Korean."""
    value = int(number)
    if not value or len(number) > 16:
        return sino(number)
    last = "스무" if value % 100 == 20 else _TENS[value % 100 // 10] + _ONES[value % 10]
    return (sino(str(value - value % 100)) if value >= 100 else "") + last


def decimal(number: str) -> str:
    """ "3.14" → "삼점일사"."""
    whole, _, part = number.partition(".")
    return sino(whole or "0") + (f"점{digits(part)}" if part else "")
