"""`compare` and `verify --against`: exit codes and reasons, on artifacts made by hand."""

import json
from dataclasses import replace

import numpy as np
import pytest
from report.crafted import LOG_MEL, REPORT_A, SNR, TOP1, artifact, check, idle, manifest

from gsvexport import cli
from gsvexport.artifact import container
from gsvexport.errors import ArtifactError, InputError
from gsvexport.report import compare
from gsvexport.verify import golden
from gsvexport.verify.report import Report


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GSVEXPORT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def baseline(tmp_path):
    return artifact(tmp_path / "a.gsv")


def run(capsys, *arguments):
    code = cli.run(list(map(str, arguments)))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_an_equal_artifact_is_no_worse(baseline, tmp_path, capsys):
    code, out, _ = run(capsys, "compare", baseline, artifact(tmp_path / "b.gsv"))
    assert code == 0
    assert "NO WORSE" in out
    assert "4 checks came out the same" in out


@pytest.mark.parametrize(
    ("report", "says"),
    [
        (Report((SNR, check("log_mel_l1", 0.03), TOP1)), "vocoder.log_mel_l1"),
        (Report((SNR, check("log_mel_l1", 0.2), TOP1)), "fails"),
        (Report((SNR, LOG_MEL)), "step.top1 (source): it was checked before"),
        (Report((SNR, LOG_MEL, idle("top1", "step"))), "did not run (no source was given)"),
    ],
)
def test_a_regression_ends_with_5_and_its_reason(baseline, tmp_path, capsys, report, says):
    code, out, _ = run(capsys, "compare", baseline, artifact(tmp_path / "b.gsv", report))
    assert code == 5
    assert "WORSE" in out
    assert says in out.partition("WORSE")[2]


def test_growth_is_a_regression_and_its_limit_an_option(baseline, tmp_path, capsys):
    larger = artifact(tmp_path / "b.gsv", filler=9000)
    code, out, _ = run(capsys, "compare", baseline, larger)
    assert code == 5
    assert "whole artifact" in out.partition("WORSE")[2]
    assert run(capsys, "compare", baseline, larger, "--growth", 90)[0] == 0


def test_the_margin_is_an_option(baseline, tmp_path, capsys):
    worse = artifact(tmp_path / "b.gsv", Report((SNR, check("log_mel_l1", 0.03), *REPORT_A.checks[2:])))
    assert run(capsys, "compare", baseline, worse)[0] == 5
    assert run(capsys, "compare", baseline, worse, "--margin", 25)[0] == 0


def test_the_comparison_as_json_holds_every_check_size_and_reason(baseline, tmp_path, capsys):
    worse = artifact(tmp_path / "b.gsv", Report((SNR, check("log_mel_l1", 0.03), *REPORT_A.checks[2:])))
    code, out, _ = run(capsys, "compare", baseline, worse, "--json")
    value = json.loads(out)
    assert code == 5
    assert value["passed"] is False
    (reason,) = value["reasons"]
    assert "log_mel_l1" in reason
    rows = {row["name"]: row for row in value["checks"]}
    assert rows["vocoder.log_mel_l1 (source)"]["outcome"] == "regressed"
    assert rows["vocoder.log_mel_l1 (source)"]["before"]["value"] == 0.02
    assert rows["vocoder.snr_db (source)"]["outcome"] == "same"
    assert {"whole artifact", "prefill + step, int8", "vocoder, fp16"} <= {one["name"] for one in value["sizes"]}
    assert {one["what"] for one in value["about"]} >= {"digest", "vocoder precision", "target"}


def test_different_voices_are_refused_unless_asked_for_on_one_target(baseline, tmp_path, capsys):
    bob = artifact(tmp_path / "b.gsv", made=manifest("bob"))
    code, _, err = run(capsys, "compare", baseline, bob)
    assert code == 2
    assert "artifacts of different voices" in err
    assert "bob (v2) for x86-64-int8" in err
    assert "--other-voice" in err
    code, out, _ = run(capsys, "compare", baseline, bob, "--other-voice")
    assert code == 0
    assert "two voices, alice (v2) and bob (v2), on one target" in out
    elsewhere = artifact(tmp_path / "c.gsv", made=manifest("bob", "rk3588"))
    assert run(capsys, "compare", baseline, elsewhere, "--other-voice")[0] == 2


def test_one_voice_on_two_targets_can_be_compared(baseline, tmp_path, capsys):
    code, out, _ = run(capsys, "compare", baseline, artifact(tmp_path / "b.gsv", made=manifest(target="rk3588")))
    assert code == 0
    assert "rk3588" in out


def test_an_artifact_without_a_report_or_damaged_ends_with_6(baseline, tmp_path, capsys):
    code, _, err = run(capsys, "compare", baseline, artifact(tmp_path / "b.gsv", None))
    assert code == 6
    assert "holds no report" in err
    assert "verify" in err
    (tmp_path / "c.gsv").write_bytes(baseline.read_bytes()[:500])
    assert run(capsys, "compare", baseline, tmp_path / "c.gsv")[0] == 6


def test_a_looser_limit_and_a_foreign_machine_are_noted(baseline, tmp_path):
    loose = replace(LOG_MEL, limit=0.1)
    after = artifact(tmp_path / "b.gsv", Report((SNR, loose, *REPORT_A.checks[2:]), elsewhere="riscv64"))
    found = compare.compare_artifacts(baseline, after)
    assert found.passed
    assert any("looser" in note and "log_mel_l1" in note for note in found.notes)
    assert any("candidate ran on riscv64" in note for note in found.notes)


def against(baseline, candidate, before, after):
    """`verify_against` with reports in place of runs."""
    reports = {baseline: before, candidate: after}
    told = []

    def verify(path, progress):
        progress("comparing")
        return reports[path]

    result = compare.verify_against(candidate, baseline, verify, progress=told.append)
    assert [text.split(":")[0] for text in told] == [candidate.name, baseline.name]
    return result


def test_both_are_run_and_what_is_measured_counts_not_what_is_stored(baseline, tmp_path):
    candidate = artifact(tmp_path / "b.gsv")
    worse = Report((SNR, check("log_mel_l1", 0.03), *REPORT_A.checks[2:]))
    report, found = against(baseline, candidate, REPORT_A, worse)
    assert report is worse
    assert not found.passed
    assert "0.02 → 0.03" in found.reasons[0]
    assert against(baseline, candidate, worse, REPORT_A)[1].passed


def test_the_gate_refuses_another_voice_whatever_its_target(baseline, tmp_path):
    with pytest.raises(InputError, match="different voices"):
        against(baseline, artifact(tmp_path / "b.gsv", made=manifest("bob")), REPORT_A, REPORT_A)


def with_golden(path, outputs, source):
    """An artifact whose golden vectors hold these outputs for one input."""
    made = artifact(path)
    folder = path.with_suffix(".files")
    given = {"latent": np.ones((1, 2, 3), np.float32)}
    golden.write([golden.Case("a", "vocoder", given, {"audio": outputs})], folder / golden.FOLDER)
    made.unlink()
    container.write(container.with_members(manifest(source=source), folder), folder, made)
    return made


def test_a_voice_exported_again_is_the_same_and_one_trained_again_is_not(tmp_path):
    sound = np.linspace(-1, 1, 50, dtype=np.float32)[None]
    old = with_golden(tmp_path / "a.gsv", sound, "1" * 64)
    again = with_golden(tmp_path / "b.gsv", sound * np.float32(1.00001), "2" * 64)
    assert against(old, again, REPORT_A, REPORT_A)[1].passed
    other = with_golden(tmp_path / "c.gsv", sound * np.float32(0.8), "3" * 64)
    with pytest.raises(InputError, match="not the same voice") as caught:
        against(old, other, REPORT_A, REPORT_A)
    assert caught.value.problems == ("case a of vocoder: the FP32 references differ (audio)",)


def test_another_source_without_golden_vectors_cannot_be_shown_to_be_the_same_voice(baseline, tmp_path):
    other = artifact(tmp_path / "b.gsv", made=manifest(source="2" * 64))
    with pytest.raises(InputError, match="not the same voice"):
        against(baseline, other, REPORT_A, REPORT_A)


def test_a_stored_report_that_is_no_json_names_the_file(tmp_path):
    path = artifact(tmp_path / "a.gsv")
    folder = path.with_suffix(".files")
    (folder / "report.json").write_text("{")
    path.unlink()
    container.write(container.with_members(manifest(), folder), folder, path)
    with pytest.raises(ArtifactError, match=r"a\.gsv: report\.json"):
        compare.compare_artifacts(path, path)
