"""The published JSON Schema of report.json and the code say the same of a report."""

import json
from dataclasses import asdict, fields
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report.crafted import FREE, LOG_MEL, REPORT_A, SNR, idle

import gsvexport
from gsvexport.errors import ArtifactError
from gsvexport.verify.report import SCHEMA, Check, Report

PUBLISHED = json.loads((Path(gsvexport.__file__).parent / "data" / "report.schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(PUBLISHED)
ESTIMATED = Check(3, "speech", "p808_drop", "source", 0.05, 0.2, "max", 24, "pass", low=0.01, high=0.1)


def test_it_is_a_schema_and_of_the_release_that_it_ships_with():
    jsonschema.Draft202012Validator.check_schema(PUBLISHED)
    assert PUBLISHED["properties"]["schema"]["const"] == SCHEMA
    check = PUBLISHED["$defs"]["check"]
    assert set(check["properties"]) == set(check["required"]) == {field.name for field in fields(Check)}


@pytest.mark.parametrize(
    "report",
    [
        REPORT_A,
        Report((SNR, idle("pesq"), FREE, ESTIMATED), emulated="cortex-a76"),
        Report((), elsewhere="x86-64 without avx2"),
    ],
)
def test_real_reports_are_valid(report):
    VALIDATOR.validate(json.loads(json.dumps(report.to_json())))


NUMBER = st.one_of(st.none(), st.floats(0, 1))


@given(
    status=st.sampled_from(["pass", "fail", "not_run", "info"]),
    value=NUMBER,
    limit=NUMBER,
    low=NUMBER,
    high=NUMBER,
    reason=st.sampled_from(["", "because"]),
)
def test_what_the_code_takes_the_schema_takes(status, value, limit, low, high, reason):
    """The other way round the code is stricter: it also compares the numbers with each other."""
    row = {**asdict(LOG_MEL), "status": status, "value": value, "limit": limit, "low": low, "high": high}
    row["reason"] = reason
    try:
        taken = Report((Check(**row),))
    except ArtifactError:
        return
    VALIDATOR.validate(taken.to_json())


@pytest.mark.parametrize(
    "change",
    [
        {"status": "fine"},
        {"status": "pass", "value": None},
        {"status": "not_run", "value": None, "reason": ""},
        {"status": "not_run"},
        {"status": "info"},
        {"direction": "up"},
        {"n": -1},
        {"level": 1.5},
        {"low": 0.1},
        {"extra": 1},
    ],
)
def test_what_is_no_report_is_refused_by_both(change):
    value = REPORT_A.to_json()
    value["checks"][0].update(change)
    assert not VALIDATOR.is_valid(value)
    with pytest.raises(ArtifactError):
        Report.from_json(value)


def test_unknown_keys_and_schemas_are_refused():
    value = REPORT_A.to_json()
    assert not VALIDATOR.is_valid({**value, "host": "mine"})
    assert not VALIDATOR.is_valid({**value, "schema": SCHEMA + 1})
