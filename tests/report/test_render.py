"""The page of a real, if tiny, artifact, and the gate on it: run here, against its source and against itself."""

import json

import numpy as np
import pytest
from building import gsvexport
from report.test_page import Parsed

from gsvexport.artifact import container
from gsvexport.compiler.build import build
from gsvexport.compiler.inputs import export_source
from gsvexport.errors import ArtifactError, InputError
from gsvexport.report.render import write_page
from gsvexport.synthetic import write_voice

NAME = "synthetic-x86-64.gsv"
FP16 = """\
extends = "x86-64"
title = "The same in float16"

[placement.ar]
precision = "fp16"

[placement.acoustic]
precision = "fp16"

[placement.vocoder]
precision = "fp16"

[gates]
max_error = 1
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("render")
    write_voice(folder / "synthetic")
    (folder / "half.toml").write_text(FP16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GSVEXPORT_CACHE", str(folder / "cache"))
        build(folder / "synthetic", ["x86-64", str(folder / "half.toml")], folder)
        export_source(folder / "synthetic", folder / "source")
    return folder


@pytest.fixture
def cache(base, monkeypatch):
    monkeypatch.setenv("GSVEXPORT_CACHE", str(base / "cache"))
    return base / "cache"


def first_screen(path):
    return Parsed(path.read_text(encoding="utf-8")).text.partition("Most of a limit used")[0]


def test_inspect_writes_a_page_that_was_measured_here(base, cache, tmp_path):
    out = tmp_path / "page.html"
    done = gsvexport(cache, "inspect", base / NAME, "--html", out, "--source", base / "source")
    assert done.returncode == 0, done.stderr
    assert "listening" in done.stderr
    assert done.stdout.startswith(f"{out}  ")
    assert "PASSED" in done.stdout
    shown = Parsed(out.read_text(encoding="utf-8"))
    assert "Vocoder alone" in shown.text
    assert "The source's codes and the same noise for both" in shown.text
    assert "Measured for this page, on this machine" in shown.text
    labels = [one["aria-label"] for tag, one in shown.elements if tag == "audio"]
    assert labels.count("Source (FP32)") == labels.count("Artifact") >= 3
    again = gsvexport(cache, "inspect", base / NAME, "--html", out)
    assert again.returncode == 2
    assert "exists already" in again.stderr


def test_without_a_source_the_artifact_speaks_alone_and_the_page_is_the_same_each_time(base, cache, tmp_path):
    for name in ("a", "b"):
        write_page(base / NAME, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert "Spoken by the artifact alone" in (tmp_path / "a").read_text(encoding="utf-8")


def test_an_artifact_that_computes_something_else_by_now_is_a_failure_on_its_page(base, cache, tmp_path):
    folder = tmp_path / "unpacked"
    manifest = container.unpack(base / NAME, folder)
    weights = folder / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    half = len(data) // 2 // 4 * 4
    floats = np.frombuffer(bytes(data[half:]), np.float32)
    data[half:] = (floats * np.float32(1.05)).tobytes()
    weights.write_bytes(data)
    changed = container.with_members(manifest, folder)
    container.write(changed, folder, tmp_path / "changed.gsv")
    assert write_page(tmp_path / "changed.gsv", tmp_path / "page.html") == "FAILED"
    assert "On this machine it misses limits:" in first_screen(tmp_path / "page.html")


def test_what_cannot_be_run_still_has_a_page_that_says_why(base, cache, tmp_path):
    folder = tmp_path / "unpacked"
    manifest = container.unpack(base / NAME, folder)
    (folder / "vocoder.onnx").write_bytes(b"no graph")
    container.write(container.with_members(manifest, folder), folder, tmp_path / "broken.gsv")
    write_page(tmp_path / "broken.gsv", tmp_path / "page.html")
    assert "vocoder · valid: 0, limit ≥ 1 (case a:" in first_screen(tmp_path / "page.html")


def test_a_damaged_artifact_or_source_has_no_page(base, cache, tmp_path):
    (tmp_path / "damaged.gsv").write_bytes((base / NAME).read_bytes()[:1000])
    with pytest.raises(ArtifactError):
        write_page(tmp_path / "damaged.gsv", tmp_path / "page.html")
    with pytest.raises((ArtifactError, InputError)):
        write_page(base / NAME, tmp_path / "page.html", source=tmp_path / "nowhere")
    assert not (tmp_path / "page.html").exists()


def test_the_gate_runs_both_and_stops_the_worse_one(base, cache):
    half = base / "synthetic-half.gsv"
    done = gsvexport(cache, "verify", half, "--against", base / NAME, "--json")
    assert done.returncode == 5, done.stderr
    for name in (NAME, half.name):
        assert f"{name}: checking every byte" in done.stderr
    value = json.loads(done.stdout)
    assert value["report"]["passed"] is True
    assert value["comparison"]["passed"] is False
    (reason,) = (one for one in value["comparison"]["reasons"] if one.startswith("vocoder.snr_db (golden"))
    assert "limit ≥ 80" in reason


def test_compare_runs_nothing_and_agrees(base, cache):
    half = base / "synthetic-half.gsv"
    assert gsvexport(cache, "compare", base / NAME, base / NAME).returncode == 0
    assert gsvexport(cache, "compare", base / NAME, half).returncode == 5
    assert gsvexport(cache, "compare", base / NAME, base / "nothing.gsv").returncode == 6


def test_page_options_without_a_page_are_refused(base, cache):
    done = gsvexport(cache, "inspect", base / NAME, "--source", base / "source")
    assert done.returncode == 2
    assert "--html" in done.stderr
