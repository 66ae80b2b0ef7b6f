"""Which words of a text were said."""

import pytest

from gsvexport.errors import InputError
from gsvexport.verify.matched import part_of

TEXT = "Good morning. The doctor, Mr. Smith, isn't here yet! He comes at ten o'clock, I think. Please wait."


def test_the_part_that_was_heard_is_found_as_it_is_spelt():
    assert part_of(TEXT, "the doctor mister smith is not here yet", "en") == (
        "The doctor, Mr. Smith, isn't here yet!",
        0.0,
    )
    found, wrong = part_of(TEXT, "He come at ten o'clock I think.", "en")
    assert found.startswith("He comes at ten")
    assert found.endswith("think.")
    assert 0 < wrong <= 0.35
    assert part_of(TEXT, TEXT, "en") == (TEXT, 0.0)


def test_a_language_without_spaces():
    assert part_of("你好。今天天气很好。再见！", "今天天气很好", "zh")[0] == "今天天气很好。"


def test_another_text_is_refused():
    for heard in ("nobody expected that at all", ""):
        with pytest.raises(InputError, match="not what the recording says"):
            part_of(TEXT, heard, "en")
