"""Mandarin → initials and finals with tones, two symbols for each character.

jieba finds the words, pypinyin gives each its reading; `reading` and `tones` correct both by what stands around.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import warnings
from types import ModuleType
from typing import Any

from gsvexport.errors import InputError, missing_package
from gsvexport.files import cache_directory
from gsvexport.text.en.phonemes import sentences as english
from gsvexport.text.words import SIGNS, Word, in_sentences
from gsvexport.text.zh.characters import plain
from gsvexport.text.zh.normal import normalise
from gsvexport.text.zh.readings import PHRASES, reading
from gsvexport.text.zh.syllables import split
from gsvexport.text.zh.tones import Tagged, spoken


def sentences(text: str, table: str) -> list[list[Word]]:
    """The sentences of a text; the phones are the same in both tables. English words in it are read as English.

    Raises:
        InputError: characters that have no reading, each named once with its places.
        EnvironmentProblem: the extra `zh` is not installed.
    """
    pinyin = _pypinyin()
    han = "".join(char for char in set(text) if ord(char) in pinyin.constants.PINYIN_DICT)
    words: list[Word] = []
    for token in normalise(plain(text, han)):
        if token in SIGNS:
            words.append(Word((token,), token, (1,)))
        elif token[0].isascii():
            words += _english(token.replace("_", " "), table)
        else:
            words += _han(token.replace(" ", ""))
    return in_sentences(words)


def _english(run: str, table: str) -> list[Word]:
    return [word for sentence in english(run, table) for word in sentence]


def _han(run: str) -> list[Word]:
    """The words of a run of Han characters."""
    tagged = _tagged(run)
    tones = iter(spoken(tagged, lambda part: _segmenter().FREQ.get(part, 0)))
    found = []
    for word in tagged:
        phones: list[str] = []
        for char, sound in zip(word.text, word.sounds, strict=True):
            syllable = split(f"{sound}{next(tones)}")
            if syllable is None:
                raise InputError(f"'{char}' is read '{sound}', which the phone table cannot write")
            phones += syllable
        found.append(Word(tuple(phones), word.text, (2,) * len(word.text)))
    return found


def _tagged(run: str) -> list[Tagged]:
    cut = [(pair.word, pair.flag) for pair in _tagger().lcut(run)]
    found = []
    for index, (word, kind) in enumerate(cut):
        before, after = cut[index - 1] if index else ("", ""), cut[index + 1] if index + 1 < len(cut) else ("", "")
        syllables = (PHRASES.get(word) or reading(word, kind, before, after) or _looked_up(word)).split()
        if kind == "m" and len(word) > 1 and (last := reading(word[-1], "q", (word[:-1], "m"), after)):
            syllables[-1] = last  # 三只: a number and what is counted, as one word
        tones = (_BARE.get(char) or int(one[-1]) for char, one in zip(word, syllables, strict=True))
        found.append(Tagged(word, kind, tuple(one[:-1] for one in syllables), tuple(tones)))
    return found


_BARE = {"一": 1, "不": 4}  # before any rule; pypinyin's phrases have applied some


@functools.lru_cache(4096)
def _looked_up(word: str) -> str:
    pinyin = _pypinyin()
    style = pinyin.Style.TONE3
    return " ".join(pinyin.lazy_pinyin(word, style=style, neutral_tone_with_five=True, v_to_u=False))


def _pypinyin() -> ModuleType:
    try:
        import pypinyin
    except ImportError as error:
        raise missing_package("pypinyin", "reading Mandarin", "zh") from error
    return pypinyin


@functools.cache
def _segmenter() -> Any:
    """jieba with its dictionary, which takes a second; its cache is kept in ours, not in the folder of all users."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it imports what is deprecated, and its patterns are no raw strings
            import jieba
    except ImportError as error:
        raise missing_package("jieba", "reading Mandarin", "zh") from error
    logging.getLogger("jieba").setLevel(logging.CRITICAL)  # it reports its loading on standard error
    segmenter = jieba.Tokenizer()
    cache = cache_directory()
    with contextlib.suppress(OSError):  # without it, loading takes twice as long
        cache.mkdir(parents=True, exist_ok=True)
    segmenter.tmp_dir = str(cache)
    segmenter.initialize()
    return segmenter


@functools.cache
def _tagger() -> Any:
    segmenter = _segmenter()
    from jieba import posseg

    return posseg.POSTokenizer(segmenter)
