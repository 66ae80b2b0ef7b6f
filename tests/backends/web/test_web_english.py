"""English text in the page's modules, under node: the phones that Python gives."""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess

import english_texts
import pytest
from conformance import PLACES

from gsvexport.backends.web import english
from gsvexport.errors import InputError
from gsvexport.text.phonemise import phonemise

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables") / english.FOLDER
    english.write(folder)
    return folder


@functools.cache
def python(text):
    try:
        return phonemise(text, "en", "v2")
    except InputError:
        return None


def differing(drive, tables, texts):
    """The texts that the page reads otherwise, with both readings; what both refuse is alike."""
    found = drive("english", folder=str(tables), texts=texts)["found"]
    pairs = [
        (text, python(text), None if isinstance(one, str) else one) for text, one in zip(texts, found, strict=True)
    ]
    return [one for one in pairs if one[1] != one[2]]


def test_text_that_was_never_written_has_pythons_phones(drive, tables):
    texts = english_texts.texts(200)
    assert len({phone for text in texts for one in python(text) or () for phone in one}) > 65
    assert differing(drive, tables, texts) == []


def test_the_referees_lines_have_pythons_phones(drive, tables):
    lines = next((place / "text.jsonl" for place in PLACES if (place / "text.jsonl").is_file()), None)
    if lines is None:
        pytest.skip("no referee: text.jsonl is not in shared/conformance beside the checkout")
    rows = map(json.loads, lines.read_text(encoding="utf-8").splitlines())
    texts = sorted({row["text"] for row in rows if row["language"] == "en"})
    assert len(texts) > 400
    assert differing(drive, tables, texts) == []


def test_long_and_strange_texts_are_cut_and_refused_as_python_does(drive, tables):
    texts = [
        *("", "...", "'-'", "Hi", "a.", "No. Yes. Go!", "One, two", "  \n Hi \n"),
        *(
            "word " * 90,
            "x" * 5000,
            "a" * 41,
            "supercalifragilisticexpialidocious " * 9,
            "constructor __proto__ toString",
        ),
        *("Hi 你 ж", "half \ud800 one", "e\u0301t\u00e9", "5\u00a0m² 3³ x²y", "1" * 300, "I.B.M.", "a\u2028b"),
    ]
    assert differing(drive, tables, texts) == []
    told = drive("english", folder=str(tables), texts=["Hi 你你", "...", "x" * 200001])["found"]
    assert "characters that English does not have" in told[0]
    assert "(U+4F60) at 4, 5" in told[0]
    assert "no sound in it" in told[1]
    assert "200001 characters; 200000 are read at once" in told[2]


def test_a_table_is_asked_for_when_a_word_needs_it(drive, tables):
    def asks(*texts):
        return drive("english", folder=str(tables), texts=list(texts))["asked"]

    assert asks() == ["rules.json"]
    assert asks("Hello there.", "Hello again.") == ["rules.json", "dictionary.bin"]
    assert asks("My smartwatch.") == ["rules.json", "dictionary.bin", "words.bin"]
    assert asks("A wasabi.") == ["rules.json", "dictionary.bin", "words.bin", "network.bin"]


def test_a_phone_that_differs_would_be_seen(drive, tables, tmp_path):
    other = shutil.copytree(tables, tmp_path / "other")
    text = (other / "rules.json").read_text(encoding="utf-8").replace('"mister"', '"master"')
    (other / "rules.json").write_text(text, encoding="utf-8")
    ((_, ours, theirs),) = differing(drive, other, ["Mr. Fox.", "A fox."])
    assert ("IH1" in ours[0], "AE1" in theirs[0]) == (True, True)


def test_a_rule_that_the_page_cannot_follow_is_told(drive, tables, tmp_path):
    other = shutil.copytree(tables, tmp_path / "other")
    rules = json.loads((other / "rules.json").read_text(encoding="utf-8"))
    rules["rules"].append(["a", {"call": "nothing"}])
    (other / "rules.json").write_text(json.dumps(rules), encoding="utf-8")
    assert "asks for 'nothing'" in drive("english", folder=str(other), texts=[])["error"]


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        (r"\bx\b", "x² x", 1),
        (r"[\w.]+$", "a²", 1),
        ("(?i:kg)|m", "Kg KG M m", 3),
        ("a$", "ba\n", 1),
        (r"\$\d", "$5 $a", 1),
    ],
)
def test_a_pattern_means_the_same_in_javascript(pattern, text, found, tables):
    assert len(re.findall(pattern, text)) == found
    code = "const [p, t] = JSON.parse(process.argv[1]); console.log((t.match(new RegExp(p, 'g')) ?? []).length)"
    given = json.dumps([english.javascript(re.compile(pattern)), text])
    assert int(subprocess.run(["node", "-e", code, given], capture_output=True, text=True, check=True).stdout) == found


def test_a_pattern_that_is_not_translated_is_refused():
    for pattern in (re.compile("a", re.IGNORECASE), re.compile("(?i:[ab])")):
        with pytest.raises(ValueError, match=r"flag|ignores case"):
            english.javascript(pattern)
