"""The sentences to train on: drawn from the language model that pocketsphinx brings, in words that CMUdict has.

No text is fetched and none is copied: the model only says which word may follow two others. So the sentences mean
nothing, but their words, their transitions from word to word and the lengths of their phrases are those of English.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from gsvexport.errors import EnvironmentProblem
from gsvexport.text.en.lexicon import pronounce
from gsvexport.text.en.normal import normalise
from gsvexport.train.sentences import REFERENCE, TEST, VALIDATION

VOCABULARY = 9000  # the likeliest words
_CANDIDATES = 160  # words looked at for each place of a sentence
_FLATTEN = 0.75  # exponent on the model's probabilities: below 1, rarer words come more often than in real text
_LOG_BASE = 1e-4  # the model's logarithms are to the base 1.0001
_QUESTION_WORDS = "who what where when why how do does did is are was were can could will would should has have"
_ASKS = frozenset(_QUESTION_WORDS.split())
# kind → (share of a corpus, fewest words, most words)
KINDS = {"sentence": (0.62, 5, 13), "phrase": (0.22, 2, 4), "word": (0.16, 1, 1)}


@dataclass(frozen=True)
class Text:
    """One text of the corpus: its name, whose first letter says what it is for, and what our front end is given."""

    name: str
    text: str


def held_out() -> list[Text]:
    """Reference (r), validation (v) and test (t)."""
    named = (("r", (REFERENCE,)), ("v", VALIDATION), ("t", TEST))
    return [Text(f"{letter}{number:05d}", text) for letter, texts in named for number, text in enumerate(texts)]


def corpus(count: int, seed: int = 1) -> list[Text]:
    """`count` different texts to train on, in random order; none of the held-out ones, whatever their punctuation.

    Raises:
        EnvironmentProblem: pocketsphinx is absent.
    """
    model = Model()
    random = np.random.default_rng(seed)
    seen = {bare(entry.text) for entry in held_out()}
    found: list[str] = []
    for share, fewest, most in KINDS.values():
        wanted = len(found) + round(count * share)
        for words in model.draws(random, fewest, most):
            text = punctuated(words, random)
            if bare(text) not in seen and [token for token in normalise(text) if token[0].isalpha()] == words:
                seen.add(bare(text))
                found.append(text)
                if len(found) == wanted:
                    break
    order = random.permutation(len(found))
    return [Text(f"s{place:05d}", found[index]) for place, index in enumerate(order)]


@cache
def rare_words() -> list[str]:
    """All words, most of them rare or names, that our front end takes as one and finds in CMUdict.

    Raises:
        EnvironmentProblem: pocketsphinx is absent.
    """
    entries = Path(_folder(), "cmudict-en-us.dict").read_text(encoding="utf-8").splitlines()
    words = {entry.split()[0] for entry in entries}
    return sorted(word for word in words if re.fullmatch(r"[a-z]+('[a-z]+)?", word) and _said_as_written(word))


def _said_as_written(word: str) -> bool:
    """Whether our front end takes the word as one and finds it in CMUdict. Only two letters are words."""
    return (len(word) > 1 or word in "ai") and pronounce(word) is not None and normalise(word) == [word]


def _folder() -> str:
    try:
        import pocketsphinx
    except ImportError as error:
        raise EnvironmentProblem(
            "the corpus needs pocketsphinx", fix="python -m pip install 'gsvexport[train]'"
        ) from error
    return str(pocketsphinx.get_model_path("en-us"))


class Model:
    """The language model, its likeliest words, and sentences drawn from both.

    Raises:
        EnvironmentProblem: pocketsphinx is absent.
    """

    def __init__(self) -> None:
        folder = _folder()
        import pocketsphinx

        path = f"{folder}/en-us.lm.bin"
        self._lm: Any = pocketsphinx.NGramModel(pocketsphinx.Config(lm=path), pocketsphinx.LogMath(), path)
        usable = rare_words()
        likely = np.array([self._log(word) for word in usable])
        chosen = np.argsort(-likely, kind="stable")[:VOCABULARY]
        self.words = [usable[index] for index in chosen]
        weights = np.exp(likely[chosen] * _FLATTEN)
        self._weights = weights / weights.sum()

    def _log(self, *words: str) -> float:
        """Natural logarithm of the probability of the first word after the others, the nearest one first."""
        return float(self._lm.prob(list(words))) * _LOG_BASE

    def draws(self, random: np.random.Generator, fewest: int, most: int) -> Iterator[list[str]]:
        """Word sequences without end.

        Importance resampling: of some words drawn by how common they are, one is taken by how well it follows.
        """
        while True:
            words: list[str] = []
            for _ in range(int(random.integers(fewest, most + 1))):
                picked = random.choice(len(self.words), _CANDIDATES, p=self._weights)
                before = [*reversed(words[-2:]), "<s>"][:2] if most > 1 else []
                fit = np.array([self._log(self.words[index], *before) for index in picked]) * _FLATTEN
                fit -= np.log(self._weights[picked])
                shares = np.exp(fit - fit.max())
                words.append(self.words[picked[random.choice(_CANDIDATES, p=shares / shares.sum())]])
            yield words


def punctuated(words: list[str], random: np.random.Generator) -> str:
    """The words as a sentence: an end, and now and then a sign inside."""
    words = list(words)
    for place in range(2, len(words) - 2):
        if random.random() < 0.09 and words[place - 1][-1].isalpha():
            words[place] += str(random.choice([",", ",", ",", ",", " -", "…"]))
    asks = 0.7 if words[0] in _ASKS else 0.06
    end = "?" if random.random() < asks else str(random.choice([".", ".", ".", ".", ".", "!"]))
    text = " ".join(words) + end
    return text[0].upper() + text[1:]


def bare(text: str) -> str:
    """A text without punctuation and capitals."""
    return re.sub("[^a-z ]", "", text.lower())
