"""Written Korean → how it is pronounced, syllable by syllable: the norms of standard pronunciation (표준발음법).

The rules are those of g2pK, which upstream's front end asks. They work on conjoining jamo: a syllable is an onset, a
vowel and perhaps a coda. Marks after a syllable tell what its word is: "/P" the stem of a verb, "/E" the ending that
makes it an adjective.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from pathlib import Path

_TENSE = dict(zip("ᄀᄃᄇᄉᄌ", "ᄁᄄᄈᄊᄍ", strict=True))
_ASPIRATED = dict(zip("ᄀᄃᄌ", "ᄏᄐᄎ", strict=True))
_NASAL = dict(zip("ᆨᆮᆸ", "ᆼᆫᆷ", strict=True))
# What a coda sounds like at an end and before another consonant
_PLAIN = {
    **dict.fromkeys("ᆨᆩᆪᆰᆿ", "ᆨ"),
    **dict.fromkeys("ᆮᆺᆻᆽᆾᇀᇂ", "ᆮ"),
    **dict.fromkeys("ᆸᆹᆵᇁ", "ᆸ"),
    **dict.fromkeys("ᆯᆲᆳᆴᆶ", "ᆯ"),
    **dict.fromkeys("ᆫᆬᆭ", "ᆫ"),
    **dict.fromkeys("ᆷᆱ", "ᆷ"),
    "ᆼ": "ᆼ",
}
# With ᄒ: what is left of the coda, and the onset
_WITH_H = {
    **{"ᆨ": ("", "ᄏ"), "ᆩ": ("", "ᄏ"), "ᆪ": ("", "ᄏ"), "ᆿ": ("", "ᄏ"), "ᆰ": ("ᆯ", "ᄏ"), "ᆮ": ("", "ᄐ"), "ᆺ": ("", "ᄐ")},
    **{"ᆻ": ("", "ᄐ"), "ᆾ": ("", "ᄐ"), "ᇀ": ("", "ᄐ"), "ᆽ": ("", "ᄎ"), "ᆬ": ("ᆫ", "ᄎ"), "ᆸ": ("", "ᄑ"), "ᇁ": ("", "ᄑ")},
    **{"ᆹ": ("ᆸ", "ᄑ"), "ᆲ": ("ᆯ", "ᄑ"), "ᆵ": ("ᆸ", "ᄑ"), "ᇂ": ("", "ᄒ")},
}
# Before a vowel: what is left of the coda, and the onset. A double coda gives its second half away.
_LINKED = {
    **dict(zip("ᆨᆩᆫᆮᆯᆷᆸᆺᆻᆽᆾᆿᇀᇁ", zip([""] * 14, "ᄀᄁᄂᄃᄅᄆᄇᄉᄊᄌᄎᄏᄐᄑ", strict=True), strict=True)),
    **{"ᆪ": ("ᆨ", "ᄊ"), "ᆬ": ("ᆫ", "ᄌ"), "ᆰ": ("ᆯ", "ᄀ"), "ᆱ": ("ᆯ", "ᄆ"), "ᆲ": ("ᆯ", "ᄇ"), "ᆳ": ("ᆯ", "ᄊ"), "ᆴ": ("ᆯ", "ᄐ")},
    **{"ᆵ": ("ᆯ", "ᄑ"), "ᆹ": ("ᆸ", "ᄊ"), "ᇂ": ("", "ᄋ"), "ᆭ": ("", "ᄂ"), "ᆶ": ("", "ᄅ")},
}
_H = {"ᇂ": "", "ᆭ": "ᆫ", "ᆶ": "ᆯ"}
_SILENT = "ᄋ"
_MEETING = re.compile(r"([\u11a8-\u11c2])( ?)([\u1100-\u1112])?(?=(.?))")
_BEFORE: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(unicodedata.normalize("NFD", pattern)), unicodedata.normalize("NFD", put))
    for pattern, put in (
        ("([ᄌᄍᄎ])ᅧ", r"\1ᅥ"),  # 5.1
        ("([\u1100-\u110a\u110c-\u1112])ᅴ", r"\1ᅵ"),  # 5.3
        ("ᆰ/P([ᄀᄁ])", "ᆯᄁ"),  # 11.1
        ("밟(/P)?(?=[^ᄋᄒ/]|$)", r"밥\1"),  # 10.1
        ("넓(?=[ᄌᄍᄃᄄ]ᅮ)", "넙"),
        ("(그)ᆮᄋ", r"\1ᄉ"),  # 16: the letters' names
        ("(으)[ᆽᆾᇀᇂ]ᄋ", r"\1ᄉ"),
        ("(으)ᆿᄋ", r"\1ᄀ"),
        ("(으)ᇁᄋ", r"\1ᄇ"),
        ("ᆮᄋ([ᅵᅧ])", r"ᄌ\1"),  # 17
        ("ᇀᄋ([ᅵᅧ])", r"ᄎ\1"),
        ("ᆴᄋ([ᅵᅧ])", r"ᆯᄎ\1"),
        ("ᆮ히", "치"),
        *(
            (f"(?<=ᆯ){end}", tense)
            for end, tense in (("걸", "껄"), ("밖에", "빠께"), ("세라", "쎄라"), ("수록", "쑤록"))
        ),  # 27
        *((f"(?<=ᆯ){end}", tense) for end, tense in (("지라도", "찌라도"), ("지언정", "찌언정"), ("진대", "찐대"))),
    )
)


@functools.cache
def _exceptions() -> tuple[re.Pattern[str], dict[str, str]]:
    lines = (Path(__file__).parent / "exceptions.txt").read_text(encoding="utf-8").splitlines()
    words = dict(line.split() for line in lines if line[0] != "#")
    return re.compile("|".join(sorted(words, key=lambda word: (-len(word), word)))), words


def respelled(text: str) -> str:
    """The text with words that no rule gets right as they sound."""
    pattern, words = _exceptions()
    return pattern.sub(lambda match: words[match[0]], text)


def pronounced(marked: str) -> str:
    """Marked text → conjoining jamo as they are spoken; what is no Hangul stays."""
    text = unicodedata.normalize("NFD", marked)
    for pattern, put in _BEFORE:
        text = pattern.sub(put, text)
    text = re.sub("([ᆫᆬᆷᆱᆲᆴ])/P([ᄀᄃᄉᄌ])", lambda match: _stem(match[1]) + _TENSE[match[2]], text)  # 24, 25
    text = re.sub("ᆯ/E ([ᄀᄃᄇᄉᄌ])", lambda match: f"ᆯ {_TENSE[match[1]]}", text)  # 27
    text = re.sub("/[PE]", "", text)
    return _MEETING.sub(_met, text)


def _stem(coda: str) -> str:
    return {"ᆬ": "ᆫ", "ᆱ": "ᆷ"}.get(coda, coda)


def _met(match: re.Match[str]) -> str:
    coda, space, onset, _ = match.groups()
    if onset == _SILENT and not space:
        return "".join(_LINKED.get(coda, (coda, onset)))
    if onset is None or onset == _SILENT:
        return _PLAIN[coda] + space + (onset or "")
    left, right = meeting(coda, onset)
    return left + space + right


def meeting(coda: str, onset: str) -> tuple[str, str]:
    """A coda before an onset that is a consonant: both as they sound."""
    plain = _PLAIN[coda]
    if onset == "ᄒ":
        return _WITH_H.get(coda, (plain, onset))
    if coda in _H:
        return _after_h(coda, onset)
    if onset in "ᄂᄆ" and (coda in "ᆲ" or plain in _NASAL):
        return ("ᆷ" if coda == "ᆲ" else _NASAL[plain]), onset
    if onset == "ᄅ":
        return _before_r(coda, plain)
    if plain == "ᆯ" and onset == "ᄂ":
        return "ᆯ", "ᄅ"
    if onset in _TENSE and (plain in _NASAL or coda in "ᆲᆳ"):
        return plain, _TENSE[onset]
    return plain, onset


def _after_h(coda: str, onset: str) -> tuple[str, str]:
    left = _H[coda]
    if onset in _ASPIRATED:
        return left, _ASPIRATED[onset]
    if onset == "ᄉ":
        return left, "ᄊ"
    if onset == "ᄂ":
        return ("ᆫ", "ᄂ") if coda != "ᆶ" else ("ᆯ", "ᄅ")
    if onset == "ᄅ" and coda == "ᆭ":
        return "ᆯ", "ᄅ"
    return left, onset


def _before_r(coda: str, plain: str) -> tuple[str, str]:
    if plain == "ᆫ":
        return "ᆯ", "ᄅ"
    if plain in ("ᆷ", "ᆼ"):
        return plain, "ᄂ"
    if plain in _NASAL:
        return _NASAL[plain], "ᄂ"
    return plain, "ᄅ"
