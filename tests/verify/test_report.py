from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsvexport.errors import ArtifactError
from gsvexport.files import canonical_json
from gsvexport.verify.gates import judge, not_run, resolve
from gsvexport.verify.report import Check, Report, rounded

GATES = resolve()
GOOD = judge(GATES, "vocoder", "snr_db", "source", 93.21987, 2)
BAD = judge(GATES, "vocoder", "log_mel_l1", "source", 0.5, 2, baseline=0.25)
ABSENT = not_run(GATES, "acoustic", "snr_db", "source", "no source was given")
RUNS = judge(GATES, "vocoder", "valid", "itself", 1.0, 1)
INFO = judge(resolve("int8"), "free_run", "token_prefix", "source", 0.25, 60)


def test_a_report_passes_with_one_pass_and_no_failure() -> None:
    assert Report((GOOD,)).passed
    assert Report((GOOD, ABSENT, INFO)).passed
    assert not Report((GOOD, BAD)).passed
    assert Report((GOOD, BAD)).failures == (BAD,)


@pytest.mark.parametrize("checks", [(), (ABSENT,), (INFO,), (RUNS,), (ABSENT, INFO, RUNS)])
def test_a_report_without_a_comparison_is_never_a_pass(checks: tuple[Check, ...]) -> None:
    assert not Report(checks).passed
    assert Report(checks).summary().startswith("NOT VERIFIED")


def test_a_report_survives_being_stored() -> None:
    report = Report((GOOD, BAD, ABSENT, INFO), {"machine": "this one"})
    text = canonical_json(report.to_json())
    again = Report.from_json(json.loads(text))
    assert again == report
    assert canonical_json(again.to_json()) == text


def test_the_stored_form_says_nothing_of_the_machine() -> None:
    stored = Report((GOOD,), {"machine": "somewhere", "cpu": "something"}).to_json()
    assert stored == Report((GOOD,)).to_json()
    assert "somewhere" not in canonical_json(stored)


def test_values_keep_four_digits_so_that_equal_results_give_equal_bytes() -> None:
    assert GOOD.value == 93.22
    assert rounded(1.23456e-7) == 1.235e-07
    assert judge(GATES, "vocoder", "snr_db", "source", 93.21991, 2) == GOOD


@given(st.floats(-1e30, 1e30))
def test_what_is_shown_is_what_was_judged(value: float) -> None:
    check = judge(GATES, "vocoder", "snr_db", "source", value, 1)
    assert Report.from_json(json.loads(canonical_json(Report((check,)).to_json()))).checks == (check,)
    assert (check.status == "pass") == (check.value is not None and check.value >= 80)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"status": "pass", "value": 0.5}, "contradicts"),
        ({"status": "pass", "value": None}, "a pass needs a value"),
        ({"status": "fine"}, "unknown"),
        ({"value": float("nan"), "status": "fail"}, "not a finite number"),
        ({"value": True}, "not a finite number"),
        ({"n": -1}, "wrong type"),
        ({"limit": None}, "a pass needs a value and a limit"),
        ({"status": "not_run"}, "has no value"),
        ({"extra": 1}, "unexpected keyword"),
    ],
)
def test_a_report_that_was_tampered_with_is_refused(change: dict[str, object], said: str) -> None:
    value = Report((GOOD,)).to_json()
    value["checks"][0].update(change)
    with pytest.raises(ArtifactError, match=said):
        Report.from_json(value, "report.json")


@pytest.mark.parametrize("value", [None, [], {}, {"schema": 99, "checks": []}, {"schema": 1}])
def test_anything_but_a_report_is_refused_with_the_file_named(value: object) -> None:
    with pytest.raises(ArtifactError, match=r"report\.json"):
        Report.from_json(value, "report.json")


def test_a_verdict_that_its_checks_do_not_bear_out_is_refused() -> None:
    value = Report((BAD,)).to_json()
    value["passed"] = True
    with pytest.raises(ArtifactError, match="'passed' is True"):
        Report.from_json(value)


def test_the_table_lines_up_and_shows_status_and_reason() -> None:
    lines = Report((GOOD, BAD, ABSENT, INFO), {"machine": "this one"}).table().splitlines()
    start = lines[0].index("status")
    assert [line[start : start + 7].strip() for line in lines[1:5]] == ["pass", "FAIL", "NOT RUN", "-"]
    assert "≥ 80" in lines[1]
    assert "no source was given" in lines[3]
    assert lines[5] == "FAILED: 1 pass, 1 fail, 1 not run, 1 measured without a limit"
    assert lines[6] == "machine: this one"
