"""The referee of text: what upstream's front end makes of sentences, and how far ours is from it.

`text.jsonl` is looked for in `shared/conformance` beside the checkout (see conformance.py); `better.toml` lists the
lines where upstream is plainly wrong.
"""

from __future__ import annotations

import collections
import functools
import json
import sys
from difflib import SequenceMatcher
from pathlib import Path

from conformance import PLACES

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

from edit_distance import distance

from gsvexport.errors import InputError
from gsvexport.stages import MARKED_V1
from gsvexport.text.phonemise import phonemise

LANGUAGES = {"all_zh": "zh", "all_ja": "ja", "all_ko": "ko", "all_yue": "yue"}  # of upstream's modes
BETTER = Path(__file__).parent / "better.toml"


def other_engine():
    """Whether Japanese is read by another engine or dictionary than voices were trained with (the extra `ja-plus`)."""
    import pyopenjtalk

    return b"open_jtalk_dic" not in pyopenjtalk.OPEN_JTALK_DICT_DIR and b"naist" not in pyopenjtalk.OPEN_JTALK_DICT_DIR


def path():
    """Where the referee is, or None."""
    return next((place / "text.jsonl" for place in PLACES if (place / "text.jsonl").is_file()), None)


@functools.cache
def rows(language, version):
    """The lines of a language in a table; "v1-2024-08" are those of v1 as upstream has written them since then."""
    lines = path().read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    return [row for row in found if (row["language"], row["version"]) == (language, version.partition("-")[0])]


def upstream(row, version):
    """What upstream speaks of a line; of old voices of v1 what they were trained with."""
    spoken = row.get("inference", row["phones"])
    if version != "v1" or "phones_2024_01" not in row:
        return spoken
    lead = ["."] * (len(spoken) - len("\0".join(spoken).lstrip(".\0").split("\0"))) if "inference" in row else []
    old = row["phones_2024_01"]
    return [*lead, *old, *(["."] if "inference" in row and spoken[-1] == "." != old[-1] else [])]


def ours(row, version):
    language = LANGUAGES.get(row["mode"], row["mode"])
    try:
        return [phone for one in phonemise(row["text"], language, version, limit=10000) for phone in one]
    except InputError as error:
        return [f"refused: {error}"]


def unmasked(row, found):
    """Our phones, but for the readings that upstream's missing model decides: there they are the referee's."""
    wanted = row.get("inference", row["phones"])
    if len(found) != len(wanted) or "g2pw" not in row:
        return found
    shift = len(wanted) - len(row["phones"])
    if shift not in (0, 1) or wanted[shift:] != row["phones"]:
        return found
    ends = [shift]
    for count in row["word2ph"]:
        ends.append(ends[-1] + count)
    found = list(found)
    for place in row["g2pw"]:
        found[ends[place] : ends[place + 1]] = wanted[ends[place] : ends[place + 1]]
    return found


def differing(found, wanted):
    """The parts of both that differ, as two strings; parts are divided by |."""
    matcher = SequenceMatcher(None, found, wanted, autojunk=False)
    spans = [(found[a:b], wanted[c:d]) for kind, a, b, c, d in matcher.get_opcodes() if kind != "equal"]
    return tuple(" | ".join(" ".join(part) for part in side) for side in zip(*spans, strict=True))


@functools.cache
def better():
    """Id of a line → (upstream's differing phones, ours)."""
    table = tomllib.loads(BETTER.read_text(encoding="utf-8"))
    return {one["id"]: (one["upstream"], one["ours"]) for reason in table["reason"] for one in reason["lines"]}


class Score:
    """Of one language and table, without the lines of better.toml."""

    def __init__(self, language, version):
        self.lines = self.exact = self.wrong = self.phones = self.listed = 0
        self.rest = collections.defaultdict(list)
        for row in rows(language, version):
            wanted = upstream(row, version)
            found = unmasked(row, ours(row, version))
            if row["id"] in better():
                self.listed += 1
                continue
            self.lines, self.exact = self.lines + 1, self.exact + (found == wanted)
            self.wrong, self.phones = self.wrong + distance(found, wanted), self.phones + len(wanted)
            if found != wanted:
                self.rest[row["kind"]].append((row["id"], row["text"], *differing(found, wanted)))

    def __str__(self):
        share = self.exact / self.lines
        lines = [f"{self.exact} of {self.lines} lines exact ({share:.1%}), {self.wrong / self.phones:.2%} phones wrong"]
        lines[0] += f"; {self.listed} more are in better.toml"
        for kind, found in sorted(self.rest.items()):
            lines.append(f"  {kind}:")
            lines += [f"    {name} {text!r}: ours {mine}; upstream {theirs}" for name, text, mine, theirs in found]
        return "\n".join(lines)


def everything():
    """(language, table) of all lines; Japanese with English is in v1 only as upstream writes it since 2024-08."""
    found = {(row["language"], row["version"]) for row in map(json.loads, path().open(encoding="utf-8"))}
    return sorted((found - {("ja+en", "v1")}) | {("ja+en", MARKED_V1), ("ja", MARKED_V1)})


if __name__ == "__main__":  # PYTHONPATH=tests python tests/text/referee.py: the scores of everything
    for line in everything():
        if len(sys.argv) == 1 or line[0] in sys.argv[1:]:
            print(*line, Score(*line))  # noqa: T201
