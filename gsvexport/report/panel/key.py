"""A blind listening test: which sounds are heard in which question, and the key that says what they are.

What a page holds has numbers for names. The key stays with who made the page; `test`, a digest of every sound and
question, ties page, key and results to each other.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from gsvexport.errors import ArtifactError
from gsvexport.files import canonical_json, sha256_bytes
from gsvexport.untrusted import reading, schema

KIND, SCHEMA = "gsvexport-listening-key", 1
LARGEST = 4 << 20  # bytes of a key
MOST_SOUNDS, MOST_ARTIFACTS, MOST_SENTENCES = 2000, 8, 40
PARTS = ("mushra", "mos", "abx")
Role = Literal["reference", "anchor", "artifact"]
DIGEST = schema.text(64, re.compile("[0-9a-f]{64}"))
_SOUND = schema.whole(0, MOST_SOUNDS)
_SHAPE = schema.record(
    {
        "kind": schema.one_of(KIND),
        "schema": schema.one_of(SCHEMA),
        "test": DIGEST,
        "conditions": schema.rows(
            schema.record(
                {
                    "name": schema.text(200),
                    "role": schema.one_of("reference", "anchor", "artifact"),
                    "digest": schema.text(64, re.compile("[0-9a-f]{64}|")),
                }
            ),
            MOST_ARTIFACTS + 8,
            least=2,
        ),
        "sentences": schema.rows(schema.text(2000), MOST_SENTENCES, least=1),
        "sounds": schema.rows(
            schema.record(
                {"condition": schema.whole(0, 64), "sentence": schema.whole(0, MOST_SENTENCES), "data": DIGEST}
            ),
            MOST_SOUNDS,
        ),
        "mushra": schema.rows(
            schema.record({"open": _SOUND, "rated": schema.rows(_SOUND, 64, least=2)}), MOST_SENTENCES
        ),
        "mos": schema.rows(_SOUND, MOST_SOUNDS),
        "abx": schema.rows(schema.row(_SOUND, _SOUND), MOST_SOUNDS),
    }
)


@dataclass(frozen=True)
class Condition:
    """What made a sound: the reference, an anchor that is known to be bad, or an artifact, by its manifest's digest."""

    name: str
    role: Role
    digest: str = ""


@dataclass(frozen=True)
class Sound:
    """One sound of the page: what made it, the sentence it says, and the SHA-256 of its bytes."""

    condition: int
    sentence: int
    data: str


@dataclass(frozen=True)
class Scale:
    """One MUSHRA question: the sound named as the reference, and those to rate, a hidden copy of it included."""

    open: int
    rated: tuple[int, ...]


@dataclass(frozen=True)
class Key:
    """A test, unblinded. Questions name sounds by their place in `sounds`; of an ABX pair the order says nothing."""

    conditions: tuple[Condition, ...]
    sentences: tuple[str, ...]
    sounds: tuple[Sound, ...]
    mushra: tuple[Scale, ...] = ()
    mos: tuple[int, ...] = ()
    abx: tuple[tuple[int, int], ...] = ()

    @property
    def test(self) -> str:
        """Digest of every sound and question."""
        questions = {"mushra": [asdict(one) for one in self.mushra], "mos": self.mos, "abx": self.abx}
        return sha256_bytes(canonical_json({"sounds": [one.data for one in self.sounds], **questions}).encode())

    def role(self, sound: int) -> Role:
        """What a sound is."""
        return self.conditions[self.sounds[sound].condition].role

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `canonical_json`."""
        return {"kind": KIND, "schema": SCHEMA, "test": self.test, **asdict(self)}

    @classmethod
    def from_json(cls, value: Any, where: str) -> Key:
        """Rebuild from `to_json`'s value; `where` names the file in errors.

        Raises:
            ArtifactError: it is no key, or not the one of its own sounds.
        """
        if problems := schema.findings(value, _SHAPE):
            raise ArtifactError(f"{where} is no key of a listening test", problems=problems)
        key = cls(
            tuple(Condition(**one) for one in value["conditions"]),
            tuple(value["sentences"]),
            tuple(Sound(**one) for one in value["sounds"]),
            tuple(Scale(one["open"], tuple(one["rated"])) for one in value["mushra"]),
            tuple(value["mos"]),
            tuple((a, b) for a, b in value["abx"]),
        )
        asked = [*key.mos, *(i for pair in key.abx for i in pair), *(i for s in key.mushra for i in (s.open, *s.rated))]
        wrong = [one for one in asked if one >= len(key.sounds)]
        wrong += [one.condition for one in key.sounds if one.condition >= len(key.conditions)]
        wrong += [one.sentence for one in key.sounds if one.sentence >= len(key.sentences)]
        if wrong or key.test != value["test"]:
            fix = "use the key as it was written beside its page"
            raise ArtifactError(f"{where} was changed: its questions are not those of its page", fix=fix)
        return key


def read_key(path: Path) -> Key:
    """Read a key.

    Raises:
        ArtifactError: it is none.
    """
    try:
        value = reading.read_json(path, limit=LARGEST)
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"{path} {reading.why(error)}", fix="name the key that was written with the page"
        ) from error
    return Key.from_json(value, str(path))


def arranged(
    conditions: Sequence[Condition],
    sentences: Sequence[str],
    equal: Sequence[Sequence[str]],
    free: Sequence[Sequence[str]],
    seed: int,
    parts: Sequence[str] = PARTS,
) -> Key:
    """The questions of a test, in an order and with numbers that say nothing of what is what.

    `equal` and `free` hold for each condition the digest of its sound of each sentence: of the reference's codes, which
    MUSHRA and ABX ask about, and as each speaks freely, which MOS does. The first condition is the reference.
    """
    random = np.random.Generator(np.random.PCG64(seed))
    sounds: list[Sound] = []

    def add(of: Sequence[Sequence[str]], condition: int, sentence: int) -> int:
        sounds.append(Sound(condition, sentence, of[condition][sentence]))
        return len(sounds) - 1

    every, places = range(len(conditions)), range(len(sentences))
    scales = [(add(equal, 0, s), [add(equal, c, s) for c in every]) for s in places] if "mushra" in parts else []
    mos = [add(free, c, s) for c in every for s in places] if "mos" in parts else []
    artifacts = [c for c in every if conditions[c].role == "artifact"]
    pairs = [[add(equal, 0, s), add(equal, c, s)] for c in artifacts for s in places] if "abx" in parts else []
    number = [int(one) for one in random.permutation(len(sounds))]  # the place of a sound in the page

    def shuffled(row: Sequence[Any]) -> list[Any]:
        return [row[int(place)] for place in random.permutation(len(row))]

    placed = sorted(range(len(sounds)), key=lambda one: number[one])
    return Key(
        tuple(conditions),
        tuple(sentences),
        tuple(sounds[one] for one in placed),
        tuple(Scale(number[one], tuple(shuffled([number[i] for i in rated]))) for one, rated in shuffled(scales)),
        tuple(shuffled([number[one] for one in mos])),
        tuple((a, b) for a, b in (shuffled([number[i] for i in pair]) for pair in shuffled(pairs))),
    )
