"""The demo voice is built for a Snapdragon, every gate of sound through Qualcomm's emulation.

An emulated window takes 3 s of processor time for the real demo voice (16,384 samples), 8 to 11 s for the small one
(40,960 samples), and no less for a tiny one.
"""

from __future__ import annotations

import collections
import json
import re
from types import SimpleNamespace

import pytest

import gsvexport
from gsvexport import demo
from gsvexport.artifact import container
from gsvexport.backends.qnn import plugin
from gsvexport.backends.qnn.lower import lower
from gsvexport.calibrate import Settings, calibrate
from gsvexport.compiler.source import write_source
from gsvexport.demo import package
from gsvexport.demo import real as voice
from gsvexport.verify.report import Report
from gsvexport.voice.voice import read_voice

NPU = {"npu": {"chip": "SM8650"}}
# Golden vectors 4, the source's sentences 12, each for the vocoder alone and behind the other stages; the free run 3.
# Where a sentence is near its limit, the source's are said once more with six others (24 windows), which are new.
MOST = 35 + 2 * 24


@pytest.mark.skipif(not package.installed(), reason=f"needs {package.NAME}")
def test_the_vocoder_of_the_demo_voice_runs_as_compiled(real, tmp_path):
    """What CI has time for: two windows of what the voice says, by the check that every build makes."""
    source = write_source(read_voice(voice.folder()), tmp_path / "source")
    said = calibrate(source.path, Settings(sentences=2, lengths=(24,)), threads=1)
    feeds = SimpleNamespace(feeds=lambda stage: said.feeds[stage])
    done = lower(source.path, source.model, {"vocoder": "fp16"}, tmp_path, device=NPU, calibration=feeds)
    assert "run as compiled in its emulation" in " ".join(done.notes["vocoder"])
    verdict = done.notes["vocoder"][-1]
    assert verdict.endswith("taken")
    assert float(re.search(r"([\d.]+) dB", verdict)[1]) > 50


@pytest.mark.thorough
@pytest.mark.timeout(3600)
def test_the_demo_voice_is_built_and_every_sound_is_emulated(real, monkeypatch, tmp_path):
    monkeypatch.setenv(demo.VARIABLE, "real" if package.installed() else "small")
    monkeypatch.setenv("GSVEXPORT_CACHE", str(tmp_path / "cache"))  # what was built before would not be emulated again
    asked, opened = collections.Counter(), plugin.open_graph

    class Counts:
        def __init__(self, session):
            self.session, self.get_modelmeta = session, session.get_modelmeta

        def run(self, names, feeds):
            asked[b"".join(feeds[name].tobytes() for name in sorted(feeds))] += 1
            return self.session.run(names, feeds)

    monkeypatch.setattr(plugin, "open_graph", lambda *given: Counts(opened(*given)))
    (path,) = gsvexport.build(targets=["snapdragon-8-gen-3"], out=tmp_path)
    container.unpack(path, tmp_path / "unpacked")
    report = Report.from_json(json.loads((tmp_path / "unpacked/report.json").read_text(encoding="utf-8")))
    assert "vocoder ran as compiled bytes in the vendor's emulation" in report.proof
    assert not [check for check in report.checks if check.status in ("fail", "not_run") and check.level < 3]
    for stage in ("vocoder", "pipeline"):
        for metric in ("pesq", "sound_share", "log_mel_l1"):
            assert any((one.stage, one.metric, one.against) == (stage, metric, "source") for one in report.checks)
    assert set(asked.values()) == {1}
    assert 20 < len(asked) <= MOST
    assert container.read_manifest(path).stages["vocoder"].backend == "qnn"
