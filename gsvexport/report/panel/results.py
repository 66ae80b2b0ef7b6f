"""What raters send back: a small JSON file from strangers, of which nothing is believed but numbers within bounds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsvexport.errors import ArtifactError
from gsvexport.report.panel.key import DIGEST, KIND, MOST_SOUNDS, Key, read_key
from gsvexport.untrusted import reading, schema

RESULTS, SCHEMA = "gsvexport-listening-results", 1
LARGEST, MOST_VALUES = 512 << 10, 40_000  # bytes and values of one file; a long test has a tenth
MOST_FILES = 2000
_SOUND = schema.whole(0, MOST_SOUNDS)
_SIDE = schema.one_of("a", "b")
_SHAPE = schema.record(
    {
        "kind": schema.one_of(RESULTS),
        "schema": schema.one_of(SCHEMA),
        "test": DIGEST,
        "rater": schema.text(40, re.compile(r"[A-Za-z0-9_.-]{1,40}")),
        "seconds": schema.whole(0, 1 << 30),
        "mushra": schema.rows(schema.rows(schema.row(_SOUND, schema.whole(0, 100)), 64), MOST_SOUNDS),
        "mos": schema.rows(schema.row(_SOUND, schema.whole(1, 5)), MOST_SOUNDS),
        "abx": schema.rows(schema.record({"trial": _SOUND, "x": _SIDE, "answer": _SIDE}), MOST_SOUNDS),
    }
)


@dataclass(frozen=True)
class Answers:
    """What one rater answered: of each MUSHRA question the score of each sound, the MOS of each sound, and of each ABX
    pair whether X was found."""

    rater: str
    mushra: tuple[dict[int, int], ...]
    mos: dict[int, int]
    abx: tuple[bool, ...]


def read(value: Any, key: Key, where: str) -> Answers:
    """The answers in a file's value.

    Raises:
        ArtifactError: it is no result, of another page, or not complete (all findings).
    """
    if problems := schema.findings(value, _SHAPE):
        raise ArtifactError(f"{where} holds no results of a listening test", problems=problems)
    if value["test"] != key.test:
        found = f"of page {value['test'][:12]}, not {key.test[:12]}"
        raise ArtifactError(f"{where} is the result of another page", found=found, fix="name the key of that page")
    problems = []
    wanted = sorted(tuple(sorted(one.rated)) for one in key.mushra)
    if sorted(tuple(sorted(sound for sound, _ in one)) for one in value["mushra"]) != wanted:
        problems.append("its MUSHRA scores are not one for each sound of each question")
    if sorted(sound for sound, _ in value["mos"]) != sorted(key.mos):
        problems.append("its MOS are not one for each sound")
    if sorted(one["trial"] for one in value["abx"]) != list(range(len(key.abx))):
        problems.append("its ABX answers are not one for each pair")
    if problems:
        raise ArtifactError(f"{where} is not a whole test", problems=problems)
    right = {one["trial"]: one["x"] == one["answer"] for one in value["abx"]}
    by_sounds = {
        tuple(sorted(sound for sound, _ in one)): {s: int(score) for s, score in one} for one in value["mushra"]
    }
    return Answers(
        value["rater"],
        tuple(by_sounds[tuple(sorted(one.rated))] for one in key.mushra),
        {sound: int(score) for sound, score in value["mos"]},
        tuple(right[trial] for trial in range(len(key.abx))),
    )


def collect(files: Sequence[Path], key_file: Path | None = None) -> tuple[Key, list[Answers], list[str]]:
    """The key, every rater's answers, and why a file is not used; the key may be among the files, or beside them.

    A rater who sent two different results is not used; the same one twice counts once.

    Raises:
        ArtifactError: no key, or no file with results of its page.
    """
    if len(files) > MOST_FILES:
        raise ArtifactError("these are more files than a panel has", found=len(files), limit=MOST_FILES)
    values: dict[Path, Any] = {}
    keys: dict[str, Key] = {}
    unused: list[str] = []
    for path in files:
        try:
            value = reading.read_json(path, most=MOST_VALUES, limit=4 << 20)
            if isinstance(value, dict) and value.get("kind") == KIND:
                found = Key.from_json(value, str(path))
                keys[found.test] = found
            elif path.stat().st_size > LARGEST:
                unused.append(f"{path} has more than {LARGEST} bytes")
            else:
                values[path] = value
        except (OSError, ValueError) as error:
            unused.append(f"{path} {reading.why(error)}")
    key = read_key(key_file) if key_file else _only(keys, values)
    answers: dict[str, Answers] = {}
    twice: set[str] = set()
    for path, value in values.items():
        try:
            one = read(value, key, str(path))
        except ArtifactError as error:
            unused.append("; ".join((error.what, *error.problems, *([str(error.found)] if error.found else []))))
            continue
        if answers.setdefault(one.rater, one) != one:
            twice.add(one.rater)
    unused += [f"rater {name} sent two different results" for name in sorted(twice)]
    kept = [one for name, one in sorted(answers.items()) if name not in twice]
    if not kept:
        raise ArtifactError("no file holds the results of this page", problems=unused[:20])
    return key, kept, unused


def _only(keys: dict[str, Key], values: dict[Path, Any]) -> Key:
    """The one key that the results are of: among the files, or in their folders."""
    if not keys:
        for folder in sorted({path.parent for path in values}):
            for path in sorted(folder.glob("*.key.json"))[:50]:
                found = read_key(path)
                keys[found.test] = found
    wanted = {value.get("test") for value in values.values() if isinstance(value, dict)}
    fitting = [key for test, key in keys.items() if test in wanted] or list(keys.values())
    if len(fitting) != 1:
        raise ArtifactError(
            "the key of the page is needed, which says what its sounds are",
            found=f"{len(fitting)} keys",
            fix="add --key PAGE.key.json, which was written beside the page",
        )
    return fitting[0]
