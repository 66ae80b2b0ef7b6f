"""Any text takes time in proportion to its length, up to a stated limit."""

import time

import pytest

from gsvexport.errors import InputError
from gsvexport.text.phonemise import LONGEST, read

pytestmark = pytest.mark.slow

KINDS = {
    "en": [
        "1",
        "a",
        "A",
        "1.",
        "1,",
        "111,",
        "$1",
        "1:",
        "1/",
        "1-",
        "111-",
        "a'",
        "a ",
        "a. ",
        "x1",
        "5kg ",
        "well-",
        "a.b",
    ],
    "ja": ["あ", "ア", "漢", "1", "a", "あ。"],
}


@pytest.mark.parametrize(("language", "unit"), [(name, unit) for name, units in KINDS.items() for unit in units])
def test_time_grows_with_length_alone(language, unit):
    if language == "ja":
        pytest.importorskip("pyopenjtalk")
    read(unit * 10, language, "v2")
    taken = [min(_seconds(unit * (length // len(unit)), language) for _ in range(3)) for length in (2000, 8000)]
    assert taken[1] < 10 * taken[0] + 0.3, taken  # four times as long, not sixteen


def _seconds(text, language):
    start = time.process_time()
    read(text, language, "v2")
    return time.process_time() - start


def test_a_long_run_of_digits_is_said_digit_by_digit_as_before():
    [sentence] = read("1" * 20, "en", "v2")
    phones = [name for one in read("1" * 450, "en", "v2") for name in one.phones if name not in ".,"]
    assert phones == sentence.phones[:3] * 450


def test_a_long_japanese_clause_is_read():
    pytest.importorskip("pyopenjtalk")
    assert sum(len(one.phones) for one in read("あ" * 6000, "ja", "v2")) > 6000


def test_a_text_has_a_limit_that_is_said():
    with pytest.raises(InputError, match="too long") as caught:
        read("a " * LONGEST, "en", "v2")
    assert str(LONGEST) in str(caught.value)


@pytest.mark.parametrize("text", ["caf\udce9", "\ud800", "a\udfffb"])
def test_half_a_character_is_named(text):
    with pytest.raises(InputError, match="not UTF-8"):
        read(text, "en", "v2")
