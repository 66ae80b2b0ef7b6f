"""How much of what upstream's front end says ours says, too, line by line: a voice knows no other phones."""

import importlib.util

import pytest
import referee

pytestmark = pytest.mark.skipif(
    referee.path() is None, reason="no referee: text.jsonl is not in shared/conformance beside the checkout"
)
NEEDS = {"ja": "pyopenjtalk", "ko": "mecab", "yue": "ToJyutping"}
# Exact lines without those of better.toml, at least. Measured: see docs/text.md.
LIMITS = {
    ("en", "v1"): 0.98,
    ("en", "v2"): 0.98,
    ("zh", "v1"): 0.98,
    ("zh", "v2"): 0.98,
    ("ja", "v1"): 0.97,
    ("ja", "v1-2024-08"): 0.98,
    ("ja", "v2"): 0.98,
    ("ko", "v2"): 0.98,
    ("yue", "v2"): 0.98,
    ("zh+en", "v1"): 0.95,
    ("zh+en", "v2"): 0.95,
    ("ja+en", "v1-2024-08"): 0.95,
    ("ja+en", "v2"): 0.95,
    ("ko+en", "v2"): 0.95,
    ("yue+en", "v2"): 0.95,
    ("auto", "v2"): 0.95,
}


def need(language):
    for name, package in NEEDS.items():
        if (name in language or language == "auto") and importlib.util.find_spec(package) is None:
            pytest.skip(f"the extra `{name}` is not installed")
    if ("ja" in language or language == "auto") and referee.other_engine():
        pytest.skip("Japanese is read by another engine than voices were trained with: install the extra `ja`")


@pytest.mark.parametrize(("language", "version"), LIMITS)
def test_lines_are_upstreams_phone_for_phone(language, version):
    need(language)
    score = referee.Score(language, version)
    assert score.exact >= LIMITS[language, version] * score.lines, score
    assert score.wrong <= 0.01 * score.phones, score


def test_the_list_of_better_readings_says_what_is_read():
    table = referee.better()
    need("auto")
    seen = set()
    for language, version in LIMITS:
        for row in referee.rows(language, version):
            if row["id"] in table and row["id"] not in seen and (version == "v2"):
                seen.add(row["id"])
                found = referee.unmasked(row, referee.ours(row, version))
                mine, theirs = referee.differing(found, referee.upstream(row, version))
                assert (theirs, mine) == table[row["id"]], (row["id"], row["text"])
    assert seen == set(table)


def test_a_wrong_phone_would_be_seen():
    (first, *_) = referee.rows("en", "v2")
    wanted = referee.upstream(first, "v2")
    assert referee.ours(first, "v2") == wanted
    assert referee.differing([*wanted[:-1], "!"], wanted) == ("!", ".")
