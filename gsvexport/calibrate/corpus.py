"""Sentences to calibrate with: the corpora in `calibration/`, and the choice of those that say most.

A corpus is one language's TOML file: `language`, `inventory` (the phones that the language needs) and `[[sentence]]`
tables with `text` and `phones`, both lists of phones written as symbols of the v2 table with spaces between them.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsvexport.errors import InputError
from gsvexport.files import canonical_json, sha256_bytes
from gsvexport.target.tables import nearest
from gsvexport.text.symbols import symbols
from gsvexport.untrusted.reading import read_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

VOICE = "voice"  # the corpus of the voice's own language
ALL = "all"
_KEYS = {"language": str, "inventory": str, "sentence": list}
_SENTENCE_KEYS = ("text", "spoken", "phones")


@dataclass(frozen=True)
class Sentence:
    """One sentence; `name` is its corpus and its 1-based place there ("en:3")."""

    name: str
    text: str
    phones: tuple[str, ...]


@dataclass(frozen=True)
class Corpus:
    """The sentences of one language, and the phones that the language needs."""

    language: str
    inventory: tuple[str, ...]
    sentences: tuple[Sentence, ...]

    @property
    def digest(self) -> str:
        """SHA-256 over what calibration uses: languages and phones, not the spelling."""
        value = [self.language, self.inventory, [sentence.phones for sentence in self.sentences]]
        return sha256_bytes(canonical_json(value).encode())


def folder() -> Path:
    """The folder of corpora: the copy inside an installed package, else `calibration/` of the repository."""
    package = Path(__file__).parent.parent
    installed = package / "calibration"
    return installed if installed.is_dir() else package.parent / "calibration"


def languages(where: Path | None = None) -> list[str]:
    """Languages that have a corpus, sorted."""
    return sorted(path.stem for path in (where or folder()).glob("*.toml"))


def find_corpora(name: str, language: str, where: Path | None = None) -> tuple[Corpus, ...]:
    """The corpora that a name stands for.

    `name` is "voice" (the corpus of `language`), "all", a language, several of these joined by "+", or a TOML file of
    your own.

    Raises:
        InputError: no such corpus, or files that are wrong; all findings.
    """
    where = where or folder()
    known = languages(where)
    paths: dict[Path, None] = {}
    problems = []
    for part in name.split("+") if not name.endswith(".toml") else [name]:
        wanted = language if part == VOICE else part
        if part == ALL:
            paths |= dict.fromkeys(where / f"{item}.toml" for item in known)
        elif wanted in known:
            paths[where / f"{wanted}.toml"] = None
        elif wanted.endswith(".toml") and Path(wanted).is_file():
            paths[Path(wanted)] = None
        else:
            of_voice = " (the voice's language)" if part == VOICE else ""
            problems.append(f"there is no corpus '{wanted}'{of_voice}{nearest(wanted, known)}")
    if problems:
        raise InputError(
            f"calibration corpus '{name}' cannot be used",
            problems=problems,
            limit=f"{VOICE}, {ALL}, {', '.join(known) or f'none in {where}'}, or a .toml file",
            fix="name another corpus in the target's [calibration] table",
        )
    return tuple(read_corpus(path) for path in paths)


def read_corpus(path: Path) -> Corpus:
    """Read one corpus.

    Raises:
        InputError: not TOML, unknown or missing keys, or phones that the v2 table does not have; all findings.
    """
    try:
        value = tomllib.loads(read_text(path, 16 << 20))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as TOML: {error}") from error
    problems = [f"unknown key '{key}'{nearest(key, _KEYS)}" for key in value if key not in _KEYS]
    for key, kind in _KEYS.items():
        if not isinstance(value.get(key), kind):
            problems.append(f"'{key}' must be {'a string' if kind is str else '[[sentence]] tables'}")
    if not problems:
        problems += _sentence_problems(value["sentence"]) + _unknown("inventory", value["inventory"].split())
    if problems:
        raise InputError(f"{path} is not a calibration corpus", problems=problems, fix="see calibration/README.md")
    sentences = tuple(
        Sentence(f"{path.stem}:{number}", entry["text"], tuple(entry["phones"].split()))
        for number, entry in enumerate(value["sentence"], 1)
    )
    return Corpus(value["language"], tuple(value["inventory"].split()), sentences)


def choose(sentences: Sequence[Sentence], inventory: Collection[str], count: int) -> list[Sentence]:
    """`count` of the sentences, those that cover the inventory soonest first.

    The shortest and the longest one lead, because length matters as much as sound; then always the one that brings most
    phones not heard so far (the first of several); then the rest in their order. A larger `count` starts over.

    Raises:
        InputError: no sentences.
    """
    if not sentences:
        raise InputError("there is no sentence to calibrate with", fix="choose a corpus that the voice can say")
    wanted, heard = set(inventory), set[str]()
    rest = list(sentences)
    chosen: list[Sentence] = []

    def take(sentence: Sentence) -> None:
        rest.remove(sentence)
        chosen.append(sentence)
        heard.update(sentence.phones)

    take(min(rest, key=lambda one: len(one.phones)))
    if rest:
        take(max(rest, key=lambda one: len(one.phones)))
    while rest:
        take(max(rest, key=lambda one: len(wanted.intersection(one.phones) - heard)))
    return [chosen[index % len(chosen)] for index in range(count)]


def _sentence_problems(entries: Sequence[Any]) -> list[str]:
    problems = [] if entries else ["there are no sentences"]
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, dict) or not all(isinstance(item, str) for item in entry.values()):
            problems.append(f"sentence {number} is not a table of strings")
            continue
        problems += [f"sentence {number}: unknown key '{key}'" for key in entry if key not in _SENTENCE_KEYS]
        if not entry.get("text", "").strip() or not entry.get("phones", "").strip():
            problems.append(f"sentence {number} lacks 'text' or 'phones'")
        problems += _unknown(f"sentence {number}", entry.get("phones", "").split())
    return problems


def _unknown(where: str, phones: Sequence[str]) -> list[str]:
    table = symbols("v2")
    return [
        f"{where}: unknown phone '{item}'{nearest(item, table)}" for item in dict.fromkeys(phones) if item not in table
    ]
