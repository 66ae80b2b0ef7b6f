"""When one artifact is worse than another: shares of limits, and what happens to checks."""

import pytest
from report.crafted import FREE, GATES, LOG_MEL, REPORT_A, SNR, TOP1, check, idle

from gsvexport.report.margins import MOST, used
from gsvexport.report.rule import Amount, Tolerance, compare_checks, grown, unproven
from gsvexport.verify.gates import judge, resolve
from gsvexport.verify.report import Check, Report

TOLERANCE = Tolerance(0.10, 0.05)


@pytest.mark.parametrize(
    ("metric", "value", "share"),
    [
        ("log_mel_l1", 0.0, 0.0),
        ("log_mel_l1", 0.025, 0.5),  # limit 0.05
        ("log_mel_l1", 0.1, 2.0),
        ("top1", 1.0, 0.0),
        ("top1", 0.95, 0.5),  # limit 0.9: half of the wrong ones that are allowed
        ("snr_db", 25.0, 1.0),
        ("snr_db", 45.0, 0.1),  # 20 dB better is a tenth of the noise's amplitude
        ("length_ratio", 1.0, 0.0),
        ("length_ratio", 1.5, 0.5),  # limit 2, best 1
    ],
)
def test_the_share_of_a_limit_runs_from_perfect_to_the_limit(metric, value, share):
    assert used(judge(GATES, "free_run" if metric == "length_ratio" else "step", metric, "source", value, 1)) == share


def test_a_limit_without_room_is_used_up_by_anything_but_perfection():
    exact = resolve("fp32")
    assert used(judge(exact, "step", "top1", "source", 1.0, 1)) == 0.0
    assert used(judge(exact, "step", "top1", "source", 0.99, 1)) == MOST
    assert used(FREE) is None
    assert used(idle("snr_db")) is None


def test_the_worse_bound_of_an_interval_is_what_counts():
    found = Check(3, "speech", "p808_drop", "source", 0.05, 0.2, "max", 24, "pass", low=0.01, high=0.1)
    assert used(found) == 0.5


def outcome(before, after):
    """(outcome, reason) of one check in both; None leaves it out."""
    reports = [Report((TOP1, *([one] if one else []))) for one in (before, after)]
    found = {row.name.split(" ")[0]: row for row in compare_checks(*reports, TOLERANCE)}
    row = found[f"{(before or after).stage}.{(before or after).metric}"]
    return row.outcome, row.reason


def test_equal_reports_are_the_same_everywhere():
    rows = compare_checks(REPORT_A, REPORT_A, TOLERANCE)
    assert [row.outcome for row in rows] == ["same"] * 4
    assert unproven(rows) == ()


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.02, "same"), (0.01, "better"), (0.0249, "worse"), (0.0251, "regressed"), (0.06, "regressed")],
)
def test_a_value_may_lose_a_tenth_of_its_limit_and_no_more(value, expected):
    assert outcome(LOG_MEL, check("log_mel_l1", value))[0] == expected


def test_a_regression_names_stage_metric_both_values_limit_and_what_was_allowed():
    kind, reason = outcome(LOG_MEL, check("log_mel_l1", 0.03))
    assert kind == "regressed"
    for word in ("vocoder.log_mel_l1 (source)", "0.02 → 0.03", "limit ≤ 0.05", "+20.0% of the limit", "allowed +10.0%"):
        assert word in reason


def test_noise_is_compared_by_its_amplitude_not_by_decibels():
    assert outcome(check("snr_db", 120.0), check("snr_db", 60.0))[0] == "worse"  # both far from the limit of 25
    assert outcome(check("snr_db", 30.0), check("snr_db", 27.0))[0] == "regressed"


def test_what_fails_is_worse_even_where_it_failed_before():
    bad = check("snr_db", 20.0)
    assert outcome(SNR, bad)[0] == "regressed"
    assert outcome(bad, bad)[0] == "regressed"
    assert outcome(None, bad)[0] == "regressed"


def test_what_is_lost_or_does_not_run_any_more_is_worse():
    assert outcome(SNR, None) == ("regressed", "vocoder.snr_db (source): it was checked before and is not any more")
    kind, reason = outcome(SNR, idle("snr_db", reason="package pesq is absent"))
    assert kind == "regressed"
    assert "34 → did not run (package pesq is absent)" in reason
    assert outcome(FREE, idle("token_prefix", "free_run"))[0] == "regressed"


def test_what_ran_in_neither_or_is_new_is_no_regression():
    assert outcome(idle("snr_db"), idle("snr_db"))[0] == "not_run"
    assert outcome(idle("snr_db"), SNR)[0] == "new"
    assert outcome(None, SNR)[0] == "new"
    assert outcome(None, idle("snr_db"))[0] == "new"


def test_a_limit_that_is_gone_is_worse_and_one_that_is_looser_does_not_hide_a_fall():
    bare = judge(resolve("int8"), "free_run", "token_prefix", "source", 0.9, 60)
    gated = judge(resolve("fp32"), "free_run", "token_prefix", "source", 0.9, 60)
    assert outcome(gated, bare)[0] == "regressed"
    loose = judge(resolve("int4-weights"), "vocoder", "log_mel_l1", "source", 0.03, 2)  # 30 % of its own limit
    assert outcome(LOG_MEL, loose)[0] == "regressed"


def test_measurements_without_a_limit_are_shown_and_not_judged():
    assert outcome(FREE, check("token_prefix", 0.1, "free_run"))[0] == "worse"
    assert outcome(FREE, check("token_prefix", 0.9, "free_run"))[0] == "better"


def test_reports_with_nothing_in_common_that_ran_prove_nothing():
    rows = compare_checks(Report((idle("snr_db"),)), Report((idle("snr_db"),)), TOLERANCE)
    assert "nothing shows that it is no worse" in unproven(rows)[0]


@pytest.mark.parametrize(("after", "worse"), [(1000, False), (1050, False), (1051, True), (500, False)])
def test_an_artifact_may_grow_by_a_twentieth(after, worse):
    assert bool(grown(Amount("whole artifact", 1000, after), TOLERANCE)) is worse
