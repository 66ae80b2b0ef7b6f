"""What this front end knows besides CMUdict, counts and network, as plain data for one in another language: a browser's
page has it. So nobody outside of this folder reads what a module here calls its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from gsvexport.text import phonemise, words
from gsvexport.text.en import (
    abbreviations,
    capitals,
    characters,
    heteronyms,
    letters,
    lexicon,
    normal,
    numbers,
    phonemes,
    predict,
    quantities,
    segment,
)
from gsvexport.text.en.rules import Put
from gsvexport.text.en.spelling import LETTER

Written = Callable[[re.Pattern[str]], str]


def tables(pattern: Written, put: Callable[[Put], Any], name: Callable[[Any], str]) -> dict[str, Any]:
    """All tables but the large ones, as JSON has them.

    `pattern` writes a regular expression, `put` what a rule puts, and `name` a function, as the other front end has it.
    """
    readings = heteronyms._RULES
    return {
        "rules": [[pattern(found), put(text)] for found, text in normal.RULES],
        "tokens": pattern(normal._TOKENS),
        "characters": {
            "known": "".join(sorted(characters.KNOWN)),
            "plain": characters._PLAIN,
            "stop": characters.STOP,
            "letter": LETTER,
        },
        "numbers": {
            "small": numbers._SMALL,
            "tens": numbers._TENS,
            "scales": numbers._SCALES,
            "ordinals": numbers._ORDINALS,
            "roman": list(numbers._ROMAN.items()),
            "longest": numbers._LONGEST,
        },
        "quantities": {
            "months": quantities.MONTHS,
            "units": quantities._UNITS,
            "letters": quantities._LETTERS,
            "money": quantities._MONEY,
            "plurals": quantities._PLURALS,
            "scales": quantities._SCALES,
            "periods": quantities._PERIODS,
        },
        "abbreviations": {
            "titles": abbreviations._BEFORE_NAMES,
            "ends": abbreviations._AT_ENDS,
            "before_numbers": abbreviations._BEFORE_NUMBERS,
            "days": abbreviations._DAYS,
            "months": abbreviations._SHORT_MONTHS,
        },
        "signs": normal._SIGNS,
        "capitals": {
            "spelled": sorted(capitals._SPELLED),
            "words": sorted(capitals._WORDS),
            "names": capitals._NAMES,
            "loud": capitals._LOUD,
        },
        "heteronyms": {
            "pairs": heteronyms._pairs(),
            "near": {word: _near(rule) for word, rule in readings.items() if isinstance(rule, heteronyms.Near)},
            "rules": {word: name(rule) for word, rule in readings.items() if not isinstance(rule, heteronyms.Near)},
            "sets": {
                kind.strip("_").lower(): sorted(value)
                for kind, value in vars(heteronyms).items()
                if isinstance(value, frozenset)
            },
            "adjective": heteronyms._ADJECTIVE,
        },
        "letters": {
            "rules": {
                letter: [[pattern(b), part, pattern(a), phones] for b, part, a, phones in known]
                for letter, known in letters._rules().items()
            },
            "vowels": sorted(letters.VOWELS),
            "weak": letters._WEAK,
            "before": pattern(letters._BEFORE),
            "two_before": pattern(letters._TWO_BEFORE),
            "foreign": pattern(letters._FOREIGN),
        },
        "words": {
            "names": phonemes._names(),
            "letters": phonemes._LETTERS,
            "letter_words": phonemes._LETTER_WORDS,
            "spelled": phonemes._SPELLED,
            "longest": phonemes._LONGEST,
            "first_code": lexicon.FIRST_CODE,
        },
        "segment": {"total": segment.TOTAL, "step": segment.STEP, "lowest": segment.LOWEST, "longest": segment.LONGEST},
        "network": {
            "letters": predict.LETTERS,
            "phones": predict._phones(),
            "shapes": list(predict.SHAPES.items()),
            "start": predict.START,
            "end": predict.END,
            "longest": predict.LONGEST,
        },
        "sentences": {
            "strength": words.STRENGTH,
            "ends": sorted(words.ENDS),
            "limit": phonemise.LIMIT,
            "longest": phonemise.LONGEST,
            "shortest": phonemise.SHORTEST,
            "shortest_run": phonemise.SHORTEST_RUN,
            "shortest_clause": phonemise.SHORTEST_CLAUSE,
            "clause_ends": phonemise._CLAUSE_ENDS,
        },
    }


def _near(rule: heteronyms.Near) -> dict[str, Any]:
    return {
        "after": sorted(rule.after),
        "before": sorted(rule.before),
        "there": rule.there,
        "otherwise": rule.otherwise,
    }
