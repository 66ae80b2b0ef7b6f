"""The demo voice is built for a browser, every golden vector and every gate in onnxruntime-web under node."""

from __future__ import annotations

import json

import pytest

import gsvexport
from gsvexport import demo
from gsvexport.artifact import container
from gsvexport.demo import package
from gsvexport.verify.report import Report


@pytest.mark.thorough  # a minute; test_web_voice.py asks the same of a tiny voice
@pytest.mark.timeout(1200)
def test_the_demo_voice_is_built_and_passes_in_the_real_runtime(runtime, monkeypatch, tmp_path):
    monkeypatch.setenv(demo.VARIABLE, "real" if package.installed() else "small")
    (path,) = gsvexport.build(targets=["browser"], out=tmp_path)
    report = Report.from_json(json.loads((container.unpacked(path) / "report.json").read_bytes()))
    assert report.proof == "acoustic, prefill, step, vocoder ran in the real runtime"
    assert report.passed
    assert not [check for check in report.checks if check.status in ("fail", "not_run") and check.level < 3]
    for stage, metric in (("step", "kl"), ("acoustic", "snr_db"), ("vocoder", "sound_share"), ("pipeline", "pesq")):
        assert any((one.stage, one.metric, one.against) == (stage, metric, "source") for one in report.checks)
