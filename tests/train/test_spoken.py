"""The table of how good artifacts of a demo voice are: what was listened to, and what was only written."""

from dataclasses import replace

import pytest

pytest.importorskip("torch")

from gsvexport.train.spoken import Row, differences, table, turns

HEARD = Row("FP32", 0, 0, "good evening", 0, 2, 4.0, 1.0, 1.0, ())
ROWS = [
    HEARD,
    replace(HEARD, sentence=3, errors=1, words=4, notes=("it lasts 9.0 s, its 20 phones suggest 2.0 s",), seconds=2.0),
    replace(HEARD, artifact="INT4", errors=1, p808=3.5),
    Row("INT4", 3, 0, "", 0, 0, None, 1.0, 1.0, ("…: words may be missing",)),  # written, and no sound made of it
]


def cells(text, *names):
    [row] = [line for line in text.splitlines() if all(f"| {name} |" in line for name in names)]
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_what_was_not_listened_to_counts_neither_as_right_nor_as_wrong():
    found = table(ROWS, 4)
    assert cells(found, "all", "FP32")[2:5] == ["2", "0.167 (0.000 to 0.250)", "1 of 2"]
    assert cells(found, "all", "INT4")[2:] == [
        "2",
        "0.500 (0.500 to 0.500)",
        "0 of 1",
        "3.50",
        "1.00, 1.00 to 1.00",
        "0",
        "1",
    ]
    assert cells(found, "60 to 150 phones", "INT4")[3:6] == ["-", "0 of 0", "-"]
    beside = cells(differences(ROWS, 4), "all", "INT4")
    assert beside[2:5] == ["2", "+0.500 (+0.500 to +0.500)", "-0.500 (-0.500 to -0.500)"]
    assert beside[5].startswith("-0.347 (-0.693")


def test_classes_of_length_take_turns():
    assert list(turns(8, 1, 1)) == [(0, 0), (0, 2), (0, 4), (0, 6), (0, 1), (0, 3), (0, 5), (0, 7)]
    assert list(turns(8, 2, 2)) == [(0, 0), (0, 2), (0, 4), (0, 6), (1, 1), (1, 3), (1, 5), (1, 7)]
