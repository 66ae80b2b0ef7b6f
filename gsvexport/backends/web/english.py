"""The tables of `gsvexport.text.en` as files of a page: english.mjs reads English text by them, as Python does.

english/rules.json       the rules with their patterns, and every small table, as Python has them
english/dictionary.bin   CMUdict
english/words.bin        how often words and pairs of words are written
english/network.bin      the network that reads unknown words, in half precision
english/NOTICE           whose they are

The binary files are gzip's: browsers have no LZMA. What they hold is ordered so that they are no larger.
"""

from __future__ import annotations

import gzip
import lzma
import re
from pathlib import Path
from typing import Any

import numpy as np

from gsvexport.files import canonical_json
from gsvexport.text import en
from gsvexport.text.en import tables
from gsvexport.text.en.rules import Filled, Put

FOLDER = "english"
FILES = ("rules.json", "dictionary.bin", "words.bin", "network.bin")  # what a page fetches
_HERE = Path(str(en.__file__)).parent
_NOTICE = """\
Here cmudict.xz is dictionary.bin, words.xz is words.bin and network.xz is network.bin, otherwise compressed.

"""
_MORE_WORD = "²³"  # besides ASCII's: what `plain` leaves that is \w to Python and not to JavaScript
_WORD = rf"[\w{_MORE_WORD}]"
_EDGE = rf"(?:(?<={_WORD})(?!{_WORD})|(?<!{_WORD})(?={_WORD}))"
_OUTSIDE, _INSIDE = {r"\b": _EDGE, r"\w": _WORD}, {r"\w": _WORD[1:-1]}


def write(folder: Path) -> None:
    """Write the files to `folder`; equal tables give equal bytes."""
    folder.mkdir()
    (folder / "rules.json").write_bytes(canonical_json(rules()).encode())
    for source, blocks, name in (("cmudict.xz", 1, "dictionary.bin"), ("words.xz", 2, "words.bin")):
        data = lzma.decompress((_HERE / source).read_bytes())
        (folder / name).write_bytes(_gzip(b"".join(map(columns, data.split(b"\0", blocks - 1)))))
    weights = np.frombuffer(lzma.decompress((_HERE / "network.xz").read_bytes()), np.uint8)
    (folder / "network.bin").write_bytes(_gzip(weights.reshape(-1, 2).T.tobytes()))  # low bytes, high bytes
    (folder / "NOTICE").write_bytes(_NOTICE.encode() + (_HERE / "NOTICE").read_bytes())


def columns(block: bytes) -> bytes:
    """Sorted lines "key TAB value" in three columns, which compress better than lines.

    The number of lines (4 bytes), of each the letters that its key shares with the one before (a byte), the rests of
    the keys, a line each, and the values, a line each.
    """
    shared, rests, values, before = bytearray(), bytearray(), bytearray(), b""
    for line in block.splitlines():
        key, _, value = line.partition(b"\t")
        count, most = 0, min(len(before), len(key), 255)
        while count < most and key[count] == before[count]:
            count += 1
        shared.append(count)
        rests += key[count:] + b"\n"
        values += value + b"\n"
        before = key
    return b"".join([len(shared).to_bytes(4, "little"), *map(bytes, (shared, rests, values))])


def _gzip(data: bytes) -> bytes:
    return gzip.compress(data, 9, mtime=0)


def rules() -> dict[str, Any]:
    """All tables but the large ones, as JSON has them."""
    return tables.tables(javascript, _put, _name)


def _put(put: Put) -> Any:
    """What a rule puts: text with $1 for a group, {form, parts}, or {call}."""
    if isinstance(put, str):
        return re.sub(r"\\(\d)", r"$\1", put.replace("$", "$$"))
    if isinstance(put, Filled):
        return {"form": put.form.split("{}"), "parts": [[_name(make), group] for make, group in put.parts]}
    return {"call": _name(put)}


def _name(function: Any) -> str:
    """The name under which the page has the function, too."""
    return str(function.__name__).strip("_")


def javascript(pattern: re.Pattern[str]) -> str:
    r"""A pattern of Python as JavaScript reads it, without flags.

    There \w, \b and $ mean less, and no part of a pattern ignores case.

    Raises:
        ValueError: it has a flag, or something in a part that ignores case that is not translated.
    """
    if pattern.flags & ~re.UNICODE:
        raise ValueError(f"{pattern.pattern} has a flag")
    return _source(pattern.pattern)


def _source(pattern: str) -> str:
    found, place, depth, folded, inside = [], 0, 0, [0], False
    while place < len(pattern):
        char = pattern[place]
        if char == "\\":
            pair = pattern[place : place + 2]
            found.append((_INSIDE if inside else _OUTSIDE).get(pair, pair))
            place += 2
            continue
        if inside or char == "[":
            if not inside and folded[-1]:
                raise ValueError(f"{pattern}: a class that ignores case")
            inside = char != "]"
        elif pattern.startswith("(?i:", place):
            depth += 1
            folded.append(depth)
            found.append("(?:")
            place += 4
            continue
        elif char == "(":
            depth += 1
            folded.append(folded[-1])
        elif char == ")":
            folded.pop()
        elif char == "$":
            char = r"(?=\n?(?![^]))"
        elif folded[-1] and char.isascii() and char.isalpha():
            char = f"[{char.lower()}{char.upper()}]"
        found.append(char)
        place += 1
    return "".join(found)
