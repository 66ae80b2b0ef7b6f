"""Sentences of our own with numbers in them, and how a native reads them: `numbers.txt`, language by language.

Each line is a text, a tab, and what is said, as the front ends write it out. The file guards what is reached where the
referee is absent, too; a line changes only where a better reading is known.
"""

import importlib.util
import re
from pathlib import Path

import pytest

from gsvexport.text.en.normal import normalise as english
from gsvexport.text.ja.normal import UNITS as JA_UNITS
from gsvexport.text.ja.normal import normalise as japanese
from gsvexport.text.ko.normal import UNITS as KO_UNITS
from gsvexport.text.ko.normal import normalise as korean
from gsvexport.text.runs import runs
from gsvexport.text.yue.phonemes import _simplified
from gsvexport.text.zh.characters import plain
from gsvexport.text.zh.normal import UNITS as ZH_UNITS
from gsvexport.text.zh.normal import normalise as mandarin
from gsvexport.text.zh.simplify import simplified

UNITS = {"en": frozenset(), "zh": ZH_UNITS, "yue": ZH_UNITS, "ja": JA_UNITS, "ko": KO_UNITS}


def numbered(text):
    from gsvexport.text.ko.phonemes import _marked

    return [re.sub("/[PE]", "", _marked(korean(text)))]


READERS = {
    "en": english,
    "zh": lambda text: mandarin(plain(simplified(text))),
    "yue": lambda text: mandarin(plain(_simplified(text)), all_signs=True),
    "ja": lambda text: [token for token, _ in japanese(text)],
    "ko": numbered,
}


def said(text, language):
    """What is said of a text; English runs of other languages stand as they are written."""
    found = []
    for run in runs(text, language, UNITS[language]):
        found += READERS[run.language](run.text) if run.language == language else [f"<{run.text.strip()}>"]
    return " ".join(found)


def sentences():
    found, language = {}, ""
    for line in (Path(__file__).parent / "numbers.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            found[language := line.strip("[]")] = []
        else:
            found[language].append(tuple(line.split("\t")))
    return found


@pytest.mark.parametrize("language", ["en", "ja", "ko", "yue", "zh"])
def test_numbers_are_read_as_a_native_reads_them(language):
    if language == "ko" and importlib.util.find_spec("mecab") is None:
        pytest.skip("the extra `ko` is not installed")
    lines = sentences()[language]
    assert len(lines) >= 100
    for text, wanted in lines:
        assert said(text, language) == wanted, text
