"""Numbers as Mandarin words. Strings of digits in, characters out."""

from __future__ import annotations

_DIGITS = "零一二三四五六七八九"
_PLACES = ("", "十", "百", "千")
_SCALES = ("", "万", "亿", "万亿")
_LONGEST = 4 * len(_SCALES)


def digits(number: str, *, one: str = "一") -> str:
    """ "2024" → "二零二四". Telephone numbers are read with "幺" for `one`."""
    return "".join(one if digit == "1" else _DIGITS[int(digit)] for digit in number)


def cardinal(number: str) -> str:
    """ "1024" → "一千零二十四", "2000" → "两千"; more than 16, or a 0 in front: digit by digit."""
    if len(number) > _LONGEST or (number[0] == "0" and len(number) > 1):
        return digits(number)
    groups = [int(number[max(0, end - 4) : end]) for end in range(len(number), 0, -4)]  # the lowest first
    found, skipped = "", False
    for value, scale in reversed(list(zip(groups, _SCALES, strict=False))):
        if value:
            if scale == "万亿" and groups[2]:
                scale = "万"  # of the 亿 that follow
            zero = "零" if found and (skipped or value < 1000) else ""
            two = "两" if value == 2 and scale and not found else ""
            found += zero + (two or _below_10000(value, first=not found)) + scale
        skipped = value == 0
    return found or "零"


def decimal(number: str) -> str:
    """ "3.14" → "三点一四"; whole numbers as `cardinal`."""
    whole, _, part = number.partition(".")
    return cardinal(whole or "0") + (f"点{digits(part)}" if part else "")


def _below_10000(value: int, *, first: bool) -> str:
    found, gap = "", False
    for place in reversed(range(4)):
        digit = value // 10**place % 10
        if digit:
            two = digit == 2 and place == 3 and first
            found += ("零" if gap and found else "") + ("两" if two else _DIGITS[digit]) + _PLACES[place]
        gap = digit == 0
    return found[1:] if first and found.startswith("一十") else found
