"""English texts that were never written: of numbers, money, dates, abbreviations, unknown words, and of anything."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator


def _words(text: str) -> list[str]:
    return text.split(" ")


_UNITS = _words(
    "km cm kg mg ms ml Hz GHz MB GB lbs oz mph km/h kWh ft m/s min hrs °C °F ° % m² sq\u00a0ft L W V h m g x"
)
_SHORT = _words(
    "Mr. Mrs. Dr. Prof. St. Mt. Inc. Ltd. Co. etc. vs. No. Fig. p. vol. approx. Jr. Ave. e.g. i.e. a.m. p.m. "
    "Ph.D. U.S. Mon. Thurs. Jan. Sept. Tel. B.Sc. w/ w/o Chapter\u00a0IV Henry\u00a0VIII Louis\u00a0XIV War\u00a0II"
)
_LOUD = _words(
    "NASA USA IT'S GPU GPUs CEO's NOT YOU WHO LED HTML5 USB-C iPhone OpenAI McDonald AT&T Q&A R&B Wi-Fi X-ray MP3s IOU"
)
_WORDS = _words(
    "the a quick brown fox jumps over lazy dogs and then they close the door to record live music near content people "
    "use lead wind tear minute read used to present objects increase by house close perfect its lives he she it we of"
)
_ODD = _words(
    "don't 'tis dogs' rock'n'roll o'clock y'all well-known mother-in-law café naïve résumé Ærø ﬁne x'y ''-'' -'- ''"
)
_SIGNS = [
    *_words(', . ! ? ... — ; : ?! \n \n\n ) " ’ “ ” / * …'),
    *(" - ", " (", " & ", " @ ", " + "),
]
_FIRST = _words("b br ch d fl gr j k l m pr qu s sh str t th v w z")
_MONTHS = _words("January March Aug. Sept. Oct. December")
_MIDDLE = _words("a e i o u ai ea oo ou y")
_LAST = [*_words("b ck d ft g l m nd ng p rt s st t x ve"), ""]


def texts(count: int, seed: int = 0) -> list[str]:
    """As many texts; equal seeds give equal ones."""
    draw = random.Random(seed)
    return [one(draw) for one in draw.choices([_sentence, _soup], [9, 1], k=count)]


def _sentence(draw: random.Random) -> str:
    parts = list(_parts(draw))
    text = " ".join(parts)
    if draw.random() < 0.04:
        text = text.upper()
    return text[0].upper() + text[1:] + draw.choice(["", ".", ".", ".", "!", "?", "..."])


def _parts(draw: random.Random) -> Iterator[str]:
    for _ in range(draw.choice([1, 2, 4, 6, 9, 14, 40])):
        part = draw.choices(KINDS, WEIGHTS)[0](draw)
        yield part + (draw.choice(_SIGNS) if draw.random() < 0.12 else "")


def _soup(draw: random.Random) -> str:
    """Characters of all kinds in any order, with a word at the end."""
    known = "abcdefgorstXYZAI0123459 .,!?'-:/$€£¥&%@+=#°×÷±<>^*~²³\n\t\"()[]é½\u200b–_"
    return "".join(draw.choices(known, k=draw.randint(1, 60))) + " end"


def _number(draw: random.Random) -> str:
    digits = draw.choice([1, 2, 3, 4, 4, 5, 7, 10, 16])
    value = draw.randrange(10**digits)
    return draw.choice(
        [
            f"{value}",
            f"{value:,}",
            f"{value:,}.{draw.randrange(1000)}",
            f"-{value}",
            f"0{value}",
            f".{value}",
            f"{value}.5",
            f"{value}th",
            f"{value % 100}nd",
        ]
    )


def _money(draw: random.Random) -> str:
    value = draw.randrange(10 ** draw.randint(1, 6))
    tail = draw.choice(["", ".00", ".50", ".05", ".005", " million", "k", "bn", "M", "-20"])
    return f"{draw.choice('$€£¥')}{draw.choice(['', '', ' '])}{value:,}{tail}"


def _date(draw: random.Random) -> str:
    year, month, day = draw.randint(1000, 2099), draw.randint(1, 12), draw.randint(1, 31)
    name = draw.choice(_MONTHS)
    forms = [
        f"{year}-{month:02}-{day:02}",
        f"{month}/{day}/{year}",
        f"on {month}/{day}",
        f"{name} {day}, {year}",
        f"{year}",
        f"the {year // 10 * 10}s",
    ]
    return draw.choice([*forms, f"{name} {day}th", "the 90s", "9/11", f"{year}-{year + 5}"])


def _time(draw: random.Random) -> str:
    hour, minute = draw.randint(0, 23), draw.randint(0, 59)
    tail = draw.choice(["", " p.m.", "am", " AM", "pm."])
    return draw.choice(
        [
            f"{hour}:{minute:02}{tail}",
            f"{hour}{tail}",
            f"{hour}-{hour + 1}pm",
            f"{hour}:00",
            f"{hour}:{minute:02}-{hour + 1}:{minute:02}",
            "24/7",
        ]
    )


def _measure(draw: random.Random) -> str:
    value = draw.choice([1, 2, 12, 100, 1234, 0.5, 2.75])
    return f"{value}{draw.choice(['', ' ', '-', ' - '])}{draw.choice(['', '7'])}{draw.choice(_UNITS)}"


def _other(draw: random.Random) -> str:
    a, b = draw.randint(0, 30), draw.randint(1, 30)
    forms = [
        f"{a}/{b}",
        f"{a} {b}/{a + 1}",
        f"{a}:{b}",
        f"{a}-{b}",
        f"{a} x {b}",
        f"{a}.{b}.{a}",
        "555-123-4567",
        "(555) 867-5309",
        "911",
        "PIN 4720",
        f"{a} - {b}",
        f"{a}%",
    ]
    return draw.choice(
        [
            *forms,
            "a@b.com",
            "https://example.com/a",
            "www.some-site.org",
            f"v{a}.{b}",
            f"#{a}",
            f"{a}±{b}",
            f"{b} in. wide",
            f"A{a}",
            f"{a}GB",
        ]
    )


def _unknown(draw: random.Random) -> str:
    word = "".join(draw.choice(_FIRST) + draw.choice(_MIDDLE) + draw.choice(_LAST) for _ in range(draw.randint(1, 4)))
    return draw.choice(
        [
            word,
            word,
            word.capitalize(),
            word + "'s",
            word + "s",
            word.upper()[:5],
            "smart" + word,
            word[:2],
            "un" + word + "-like",
        ]
    )


def _of(known: list[str]) -> Callable[[random.Random], str]:
    return lambda draw: draw.choice(known)


KINDS = [_of(known) for known in (_WORDS, _SHORT, _LOUD, _ODD)]
KINDS += [_number, _money, _date, _time, _measure, _other, _unknown]
WEIGHTS = (12, 3, 2, 2, 2, 2, 2, 2, 2, 2, 3)
