"""A tiny voice is built for a phone: what has not run has not passed, and what is read wrongly is no artifact."""

from __future__ import annotations

import json

import numpy as np
import pytest

import gsvexport
from gsvexport.artifact import container
from gsvexport.backends.coreml import compute, stand_in
from gsvexport.compiler.pack import verify_packed
from gsvexport.errors import EnvironmentProblem
from gsvexport.report.terminal import report_page
from gsvexport.runtime.pipeline import load
from gsvexport.synthetic import write_voice
from gsvexport.verify.depth import insist
from gsvexport.verify.report import Report

REAL = {"prefill", "step", "acoustic", "baked", "package"}


@pytest.fixture(scope="module")
def built(real, tmp_path_factory):
    folder = tmp_path_factory.mktemp("coreml-built")
    target = folder / "phone.toml"
    target.write_text('extends = "iphone-13"\n[calibration]\nsentences = 2\n', encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GSVEXPORT_CACHE", str(folder / "cache"))
        voice = write_voice(folder / "voice", seed=3, resblock_kernels=(3,), resblock_dilations=((1, 3, 5),))
        (path,) = gsvexport.build(voice, targets=[str(target)], compress="none", out=folder)
    return path


@pytest.fixture
def report(built, tmp_path):
    container.unpack(built, tmp_path / "unpacked")
    return Report.from_json(json.loads((tmp_path / "unpacked/report.json").read_text(encoding="utf-8")))


def test_what_has_not_run_has_not_passed(report):
    assert report.passed
    assert report.proof == "acoustic, prefill, step ran in the real runtime; vocoder built"
    passed = {check.stage for check in report.checks if check.status == "pass" and check.level > 0}
    assert passed
    assert passed <= REAL
    idle = [check for check in report.checks if check.status == "not_run" and check.reason == stand_in.UNPROVEN]
    assert {"vocoder", "pipeline", "free_run"} == {check.stage for check in idle}
    assert {"valid", "silence_change", "rms_change_db"} <= {check.metric for check in idle if check.stage == "pipeline"}
    assert all(check.value is None for check in idle)
    assert [check.reason for check in report.checks if check.level == 4] == [stand_in.REMAINS]
    assert {check.against for check in report.checks if check.status == "pass"} == {
        *("itself", "golden vectors", "source", "source's reference stage")
    }
    page = " ".join(report_page(report).split())
    assert "because Core ML has not run it; by our own reading of its file this limit is kept" in page
    assert "Proof: acoustic, prefill, step ran in the real runtime; vocoder built." in page


def test_what_has_to_run_fails(report):
    assert not insist(report, ("silence_change",)).passed
    assert insist(report, ("top1",)).passed


def test_a_limit_that_our_reading_misses_fails(built, monkeypatch):
    computed = compute.run
    monkeypatch.setattr(compute, "run", lambda program, feeds: computed(program, feeds) * np.float32(3))
    report = verify_packed(built, any_machine=True)
    assert {check.stage for check in report.failures} >= {"vocoder"}
    assert not report.passed
    assert report.proof.endswith("vocoder built")


def test_it_does_not_speak_here_and_says_why(built):
    with (
        load(built, any_machine=True) as voice,
        pytest.raises(EnvironmentProblem, match="Core ML is on Apple's devices alone"),
    ):
        voice.synthesize(phones=[5, 6, 7, 8], seed=1)
