from __future__ import annotations

import math

import pytest

from gsvexport.errors import TargetError
from gsvexport.target.target import PRECISIONS
from gsvexport.verify.gates import GATED, LIMITS, METRICS, STAGES, judge, not_run, resolve


def test_every_precision_of_a_target_has_limits_for_known_metrics() -> None:
    assert set(LIMITS) == set(PRECISIONS)
    for values in LIMITS.values():
        assert {key.rpartition(".")[2] for key in values} <= set(GATED)
        assert {key.partition(".")[0] for key in values if "." in key} <= set(STAGES)
    planned = {"kernels", "scratch_mb"}  # figures that a target may limit; nothing is asked of everybody
    assert {key for key in LIMITS["fp32"] if "." not in key} == set(GATED) - planned


def test_lower_precisions_never_ask_for_more_than_higher_ones() -> None:
    order = ["fp32", "fp16", "int8", "int4-weights"]
    for metric in LIMITS["fp32"]:
        kind = METRICS[metric.rpartition(".")[2]]
        limits = [LIMITS[name][metric] for name in order if metric in LIMITS[name]]
        assert limits == sorted(limits, reverse=kind.direction == "min"), metric


def test_a_gate_for_one_stage_wins_over_a_gate_for_all_whatever_the_order() -> None:
    for gates in ({"vocoder.snr_db": 30, "snr_db": 50}, {"snr_db": 50, "vocoder.snr_db": 30}):
        limits = resolve("fp32", gates)
        assert limits.limit("vocoder", "snr_db") == 30
        assert limits.limit("pipeline", "snr_db") == 50
        assert limits.limit("vocoder", "log_mel_l1") == LIMITS["fp32"]["log_mel_l1"]


def test_a_default_for_one_stage_goes_before_the_default_for_all_and_a_targets_gate_before_both() -> None:
    limits = resolve("int8")
    assert limits.limit("pipeline", "wer_rise") == LIMITS["int8"]["pipeline.wer_rise"] < LIMITS["int8"]["wer_rise"]
    assert limits.limit("free_run", "wer_rise") == LIMITS["int8"]["wer_rise"]
    limits = resolve("int8", {"wer_rise": 0.3})
    assert limits.limit("pipeline", "wer_rise") == limits.limit("free_run", "wer_rise") == 0.3


def test_stages_of_mixed_precision_have_their_own_limits_and_the_pipeline_the_loosest() -> None:
    limits = resolve({"vocoder": "int8", "acoustic": "fp16"})
    assert limits.limit("prefill", "top1") == LIMITS["fp32"]["top1"]
    assert limits.limit("acoustic", "snr_db") == LIMITS["fp16"]["snr_db"]
    assert limits.limit("pipeline", "snr_db") == LIMITS["int8"]["snr_db"]
    assert limits.limit("pipeline", "log_mel_l1") == LIMITS["int8"]["log_mel_l1"]
    assert limits.limit("free_run", "token_prefix") is None  # INT8 asks nothing of it


def test_stored_constants_are_held_to_the_fp32_limits_at_any_precision() -> None:
    assert resolve("int4-weights").limit("baked", "max_error") == LIMITS["fp32"]["max_error"]


def test_every_wrong_gate_is_reported_at_once_with_the_nearest_names() -> None:
    gates = {"snr": 30, "vocodr.snr_db": 30, "kl": math.nan, "top1": True, "valid": 0}
    with pytest.raises(TargetError) as caught:
        resolve("fp8", gates)
    problems = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 6
    for text in ("'snr'; did you mean snr_db?", "'vocodr'; did you mean vocoder", "'fp8'; did you mean", "nan", "True"):
        assert text in problems
    assert "no metric 'valid'" in problems


def test_a_number_is_judged_by_its_direction() -> None:
    limits = resolve("fp32", {"snr_db": 40, "kl": 0.5})
    assert judge(limits, "vocoder", "snr_db", "source", 39.9, 1).status == "fail"
    assert judge(limits, "vocoder", "snr_db", "source", 40.0, 1).status == "pass"
    assert judge(limits, "step", "kl", "source", 0.6, 1).status == "fail"
    assert judge(limits, "step", "kl", "source", 0.5, 1).status == "pass"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_fails_even_without_a_limit(value: float) -> None:
    for precision in ("fp32", "int8"):
        check = judge(resolve(precision), "free_run", "token_prefix", "source", value, 1)
        assert (check.status, check.value) == ("fail", None)
        assert str(value) in check.reason


def test_a_measurement_without_a_limit_neither_passes_nor_fails() -> None:
    assert judge(resolve("int8"), "free_run", "token_prefix", "source", 0.1, 60).status == "info"


def test_a_check_that_did_not_run_has_a_reason_and_no_value() -> None:
    check = not_run(resolve(), "vocoder", "snr_db", "source", "no source")
    assert (check.status, check.value, check.reason, check.limit) == ("not_run", None, "no source", 80.0)


def test_every_stage_can_be_named_in_a_gate() -> None:
    assert {"prefill", "step", "acoustic", "vocoder", "reference", "prompt", "pipeline", "baked"} <= set(STAGES)
