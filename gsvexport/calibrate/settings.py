"""What a calibration is asked for, and which utterances follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np

from gsvexport.calibrate.corpus import VOICE, Sentence
from gsvexport.errors import InputError
from gsvexport.files import canonical_json, sha256_bytes
from gsvexport.runtime.ports import outside
from gsvexport.runtime.speech import NOISE_SCALES, SPEEDS
from gsvexport.stages import MAX_TOKENS

BAKED, FREE = "baked", "free"
_T = TypeVar("_T")


@dataclass(frozen=True)
class Settings:
    """What to say, and how.

    `corpus` is a name for `find_corpora`; `sentences` is the number of utterances. Each utterance has one of
    `rates` (speeds), `prompts` ("baked" or "free") and `lengths` (the most codes it may have, 25 a second), and a seed
    of its own, counted from `seed`. Feeds beyond `megabytes` are dropped at random. The corpora's content is part of
    the result's digest, not of the settings'.

    Raises:
        InputError: values out of range, all of them listed.
    """

    corpus: str = VOICE
    sentences: int = 36
    rates: tuple[float, ...] = (0.7, 0.85, 1.0, 1.2, 1.4)
    prompts: tuple[str, ...] = (BAKED, FREE)
    lengths: tuple[int, ...] = (16, 32, 56)
    noise_scale: float = 0.5
    seed: int = 0
    megabytes: float = 64.0

    def __post_init__(self) -> None:
        problems = [
            *outside("sentences", self.sentences, 1, 100_000, integer=True),
            *(finding for rate in self.rates for finding in outside("rates", rate, *SPEEDS)),
            *(finding for count in self.lengths for finding in outside("lengths", count, 1, MAX_TOKENS, integer=True)),
            *outside("noise_scale", self.noise_scale, *NOISE_SCALES),
            *outside("seed", self.seed, 0, integer=True),
            *outside("megabytes", self.megabytes, 1, 16_384),
            *(f"prompts: '{name}' is not {BAKED} or {FREE}" for name in self.prompts if name not in (BAKED, FREE)),
            *(f"{name} is empty" for name in ("rates", "prompts", "lengths") if not getattr(self, name)),
        ]
        if problems:
            raise InputError("these calibration settings cannot be used", problems=problems)

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `canonical_json`."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Settings:
        """Rebuild from `to_json`'s value."""
        fields: dict[str, Any] = {name: tuple(item) if isinstance(item, list) else item for name, item in value.items()}
        return cls(**fields)

    @property
    def digest(self) -> str:
        """SHA-256 of the settings."""
        return sha256_bytes(canonical_json(self.to_json()).encode())


@dataclass(frozen=True)
class Utterance:
    """One sentence, said in one way."""

    sentence: Sentence
    rate: float
    prompt: str
    longest: int
    seed: int


def utterances(settings: Settings, sentences: Sequence[Sentence], *, baked_prompt: bool) -> list[Utterance]:
    """The utterances of already chosen sentences, one for each.

    Rates, prompts and lengths take turns, each in random rounds of its own (decided by `settings.seed`): all rates come
    before one comes again, and what meets what is chance. Without a baked prompt everything is said prompt-free.
    """
    random = np.random.Generator(np.random.PCG64(settings.seed))
    count = len(sentences)
    rates = _rounds(settings.rates, count, random)
    prompts = _rounds(settings.prompts if baked_prompt else (FREE,), count, random)
    lengths = _rounds(settings.lengths, count, random)
    seeds = range(settings.seed, settings.seed + count)
    return [Utterance(*one) for one in zip(sentences, rates, prompts, lengths, seeds, strict=True)]


def _rounds(values: tuple[_T, ...], count: int, random: np.random.Generator) -> list[_T]:
    """`count` values: every one of them in random order, again and again."""
    rounds = -(-count // len(values))
    return [values[place] for _ in range(rounds) for place in random.permutation(len(values))][:count]
