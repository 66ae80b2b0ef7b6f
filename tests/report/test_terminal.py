"""Text pages: within their width, failures told with reasons, colours only where they are wanted."""

import io

import pytest
from report.crafted import FREE, HOSTILE, LOG_MEL, REPORT_A, SNR, artifact, check, idle, manifest

from gsvexport import cli
from gsvexport.report.overview import artifact_page
from gsvexport.report.rule import Tolerance, compare_checks
from gsvexport.report.stored import read_stored
from gsvexport.report.terminal import WIDTH, report_page, wants_colour
from gsvexport.verify.report import Check, Report

ESTIMATED = Check(3, "speech", "p808_drop", "source", 0.05, 0.2, "max", 24, "pass", 3.4, low=0.01, high=0.1)
LONG = "the package 'pesq' is not installed; " * 4
BAD = check("log_mel_l1", 0.2, "pipeline")
MIXED = Report(
    (SNR, idle("pesq", reason=LONG), LOG_MEL, BAD, FREE, ESTIMATED), {"machine": "m" * 150}, elsewhere="riscv64"
)


def test_no_line_is_wider_than_a_terminal():
    assert max(map(len, report_page(MIXED).splitlines())) <= WIDTH


def test_what_failed_leads_its_level_and_comes_again_at_the_end_with_its_limit():
    lines = report_page(MIXED).splitlines()
    level = lines.index("L2  sound of fixed codes and noise")
    assert lines[level + 2].split()[:3] == ["pipeline", "log_mel_l1", "0.2"]
    end = lines[lines.index("FAILED") + 1]
    assert end == "  pipeline.log_mel_l1 against source: 0.2, limit ≤ 0.05, 400% of it"
    assert any(line.startswith("FAILED: 3 pass, 1 fail, 1 not run") for line in lines)
    assert "Ran on riscv64, not on what it was made for." in lines


def test_what_did_not_run_is_in_the_table_and_gathered_by_its_reason():
    report = Report((SNR, idle("pesq"), idle("f0_cents"), idle("mr_stft", reason="another")))
    page = report_page(report)
    assert page.count("NOT RUN") == 4
    assert "  2 because no source was given: vocoder.pesq, vocoder.f0_cents" in page
    assert "  1 because another: vocoder.mr_stft" in page


def test_an_interval_stands_beside_its_value():
    (line,) = (line for line in report_page(MIXED).splitlines() if "p808_drop" in line)
    assert "0.05 [0.01, 0.1]" in line
    assert "50%" in line


def test_colours_are_for_terminals_and_change_no_text(monkeypatch):
    plain, painted = report_page(MIXED), report_page(MIXED, colour=True)
    assert "\x1b" not in plain
    assert "\x1b[1;31m" in painted
    for code in ("\x1b[1;31m", "\x1b[32m", "\x1b[33m", "\x1b[2m", "\x1b[1m", "\x1b[0m"):
        painted = painted.replace(code, "")
    assert painted == plain


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False), ({"NO_COLOR": ""}, True)],
)
def test_nobody_gets_colours_that_did_not_want_them(monkeypatch, environment, wanted):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert wants_colour(Terminal()) is wanted
    assert wants_colour(io.StringIO()) is False


def test_the_page_about_an_artifact_tells_stages_decisions_sizes_and_verdict(tmp_path):
    stored = read_stored(artifact(tmp_path / "a.gsv", MIXED))
    page = artifact_page(stored)
    assert max(map(len, page.splitlines())) <= WIDTH
    for words in (
        "alice (v2, baked)",
        "x86-64-int8: A PC",
        stored.manifest.digest,
        "vocoder  onnxruntime  int8",
        "last        1    20     13  float",
        "together 50% of the gates for sound, 70% allowed",
        "prefill + step  int8  3,000",
        "FAILED: 3 pass, 1 fail",
    ):
        assert words in page
    assert "holds no report" in artifact_page(read_stored(artifact(tmp_path / "b.gsv", None)))


def test_a_name_cannot_command_the_terminal(tmp_path, capsys):
    path = artifact(tmp_path / "a.gsv", made=manifest(HOSTILE, tools={HOSTILE: "1"}))
    assert "\x1b" not in artifact_page(read_stored(path))
    assert cli.run(["inspect", str(path)]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_rows_of_equal_reports_stay_in_the_order_of_the_candidate():
    rows = compare_checks(REPORT_A, REPORT_A, Tolerance())
    assert [row.after for row in rows] == list(REPORT_A.checks)
