"""Placement in artifacts: what is stored, judged anew, gated, shown, and completed with a compiled file."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from small_graphs import X, activation, constant, graph, with_operator, with_tensor
from test_edgetpu import DOUBLE, ROOT

from gsvexport.artifact import container
from gsvexport.artifact.manifest import MANIFEST, Manifest, StageEntry
from gsvexport.backends import finished
from gsvexport.backends.tflite import edgetpu, survey
from gsvexport.backends.tflite.flatbuffer import dump
from gsvexport.backends.tflite.graph import Graph, Operator, Tensor
from gsvexport.cli.commands import cli
from gsvexport.compiler.plan import code_versions
from gsvexport.device.complete import complete, completing
from gsvexport.device.finish import finish
from gsvexport.errors import ArtifactError, BackendError, EnvironmentProblem, GateFailed, InputError
from gsvexport.files import canonical_json
from gsvexport.model import Dims, Model, SamplingDefaults, Spectrogram
from gsvexport.target.target import read_target
from gsvexport.verify.gates import resolve
from gsvexport.verify.package import audit

DEVICE = {"arch": "x86-64", "tpu": {"sram_mb": 8, "tops_int8": 4, "link": "usb3", "link_gbs": 0.4},
          "runtimes": {"edgetpu": ">=14"}}  # fmt: skip
RECIPE = {
    "schema": 1,
    "output": "audio",
    "samples": True,
    "parts": [
        {"file": "vocoder.tflite", "window": 16, "left": 4, "right": 4, "rate": 2},
        {"file": "vocoder-rest.tflite", "window": 32, "left": 0, "right": 0, "rate": 1},
    ],
}


def rest():
    """A float convolution [1, 1, 32, 3] → [1, 1, 32, 1]."""
    weights = constant("w", np.ones((1, 1, 5, 3), np.float32), None)
    bias = constant("b", np.zeros(1, np.float32), None)
    tensors = (Tensor("up", (1, 1, 32, 3), "float32"), weights, bias, Tensor("audio", (1, 1, 32, 1), "float32"))
    return Graph(tensors, (Operator("CONV_2D", 1, (0, 1, 2), (3,), {"padding": "SAME"}, "last"),), (0,), (3,))


def with_ports(before):
    """The graph with the inputs of a vocoder."""
    named = with_tensor(before, X, name="latent")
    ge = activation("ge", 1, 1, 1, 4)
    return replace(named, tensors=(*named.tensors, ge), inputs=(X, len(named.tensors)))


def seal(folder, manifest):
    (folder / MANIFEST).write_text(canonical_json(container.with_members(manifest, folder).to_json()))


@pytest.fixture
def unpacked(tmp_path, monkeypatch):
    """An unpacked artifact whose only stage is a vocoder of two parts, as it is built without the compiler."""

    def make(first=None, gates=None):
        monkeypatch.setenv("PATH", "/usr/bin:/bin")
        folder = tmp_path / "voice.files"
        folder.mkdir()
        (folder / "vocoder.tflite").write_bytes(dump(with_ports(first or graph())))
        (folder / "vocoder-rest.tflite").write_bytes(dump(rest()))
        (folder / "vocoder.json").write_text(canonical_json(RECIPE))
        dims = Dims(1, 8, 1, 5, 4, 4, 10, 10, 4, 50)
        model = Model("tiny", "en", "v2", "v2", 32000, 2, 4, dims, Spectrogram(), SamplingDefaults(),
                      {"vocoder": "vocoder.json"})  # fmt: skip
        (folder / "model.json").write_text(canonical_json(model.to_json()))
        survey.write(folder, "vocoder", "vocoder.json", DEVICE, 32000)
        target = {"name": "coral", "title": "A board", "device": DEVICE, "gates": gates or {}}
        entries = {"vocoder": StageEntry("vocoder.json", "tflite", "int8")}
        seal(folder, Manifest("tiny", "v2", target, "0" * 64, None, {}, entries, {}))
        return folder

    return make


def packed(folder):
    path = folder.with_name("voice.gsv")
    container.write(container.read_manifest(folder), folder, path)
    return path


@pytest.fixture
def compiler(tmp_path, monkeypatch):
    """Put the double on PATH."""

    def use(mode):
        place = tmp_path / "bin"
        place.mkdir(exist_ok=True)
        script = place / "edgetpu_compiler"
        script.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} {DOUBLE} "$@"\n')
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{place}:/usr/bin:/bin")
        monkeypatch.setenv("EDGETPU_DOUBLE", mode)

    return use


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GSVEXPORT_CACHE", str(tmp_path / "cache"))


def share(folder, gates=None):
    checks = audit(folder, resolve("int8", gates))
    [check] = [check for check in checks if check.metric == "mapped_share"]
    return check


ALL = 2 * 16 * 72  # multiply-adds of the first part for its window, 16 frames, which make 32 of the rest's
LAST = 32 * 15


def test_the_share_counts_what_every_part_does_for_the_same_frames(unpacked):
    folder = unpacked()
    report = survey.read(folder)
    assert report.rest[0].macs == LAST
    assert report.mapped_share == pytest.approx(ALL / (ALL + LAST))
    assert report.seconds == 16 / 32000
    assert report.compile.status == "not_run"
    assert finished("tflite", folder)  # it runs as it is


def test_a_share_below_the_targets_gate_fails(unpacked):
    folder = unpacked(with_operator(graph(), 2, kind="EXP", version=1))
    found = share(folder)
    assert (found.status, found.n) == ("info", 4)
    assert found.value == pytest.approx(0.5 * ALL / (ALL + LAST), rel=1e-4)
    assert "2 of 4 operators of vocoder.tflite up to EXP" in found.reason
    assert share(folder, {"vocoder.mapped_share": 0.4}).status == "pass"
    assert share(folder, {"vocoder.mapped_share": 0.8}).status == "fail"


def test_nothing_in_such_an_artifact_is_unreferenced(unpacked):
    checks = audit(unpacked(), resolve("int8"))
    assert [check.reason for check in checks if check.metric == "unreferenced" and check.status == "fail"] == []


@pytest.mark.parametrize("damage", ["graph", "report", "absent", "mapped", "recipe", "target"])
def test_a_report_that_is_not_of_these_graphs_fails(unpacked, damage):
    folder = unpacked()
    report = survey.read(folder)
    manifest = container.read_manifest(folder)
    if damage == "graph":
        (folder / "vocoder.tflite").write_bytes(dump(with_operator(graph(), 0, version=2)))
        (folder / "vocoder-rest.tflite").write_bytes(dump(graph()))
    elif damage == "report":
        (folder / "placement.json").write_text(replace(report, rest=()).text())
    elif damage == "absent":
        (folder / "placement.json").unlink()
    elif damage == "mapped":
        told = replace(report.compile, status="done", mapped=4)
        (folder / "placement.json").write_text(replace(report, compile=told).text())
    elif damage == "target":
        del manifest.target["device"]["tpu"]["link"]
        del manifest.target["device"]["tpu"]["tops_int8"]
    else:
        (folder / "vocoder.json").write_text("{}")
    seal(folder, manifest)
    if damage == "recipe":
        with pytest.raises(ArtifactError):
            audit(folder, resolve("int8"))
        return
    found = share(folder)
    assert (found.status, found.value) == ("fail", None)
    assert found.reason


def test_the_compiled_file_becomes_a_member_of_another_artifact(unpacked, compiler):
    path = packed(unpacked(gates={"vocoder.mapped_share": 0.8}))
    compiler("ok")
    result = CliRunner().invoke(cli, ["finalize", str(path)])
    assert result.exit_code == 0, result.output
    assert "were compiled to run on the Edge TPU" in result.output
    made = path.with_name("voice-compiled.gsv")
    manifest = container.read_manifest(made)
    assert {"vocoder_edgetpu.tflite", "placement.json", "vocoder.tflite"} <= manifest.members.keys()
    assert not [name for name in manifest.members if name.endswith(".log")]
    folder = container.unpacked(made)
    assert survey.read(folder).compile.version == "16.0.384591198"
    assert share(folder, {"vocoder.mapped_share": 0.8}).status == "pass"
    shown = CliRunner().invoke(cli, ["inspect", str(made)]).output
    assert "PLACEMENT" in shown
    assert "edge tpu compile: done: 4 of 4 operators mapped" in shown
    (folder / "vocoder_edgetpu.tflite").write_bytes(b"another")
    seal(folder, manifest)
    assert "was not compiled from this" in share(folder).reason


def test_a_file_that_was_compiled_elsewhere_is_taken_only_if_it_belongs_to_the_artifact(unpacked, compiler, tmp_path):
    folder = unpacked()
    path = packed(folder)
    compiler("ok")
    edgetpu.compile_model(folder / "vocoder.tflite", tmp_path, survey.read(folder).placement)
    elsewhere = tmp_path / "vocoder_edgetpu.tflite"
    report, place = complete(path, completing(path), compiled=elsewhere, out=tmp_path / "carried.gsv")
    assert report["compile"]["carried"]
    assert share(container.unpacked(place)).status == "info"
    elsewhere.write_bytes(dump(graph()))
    with pytest.raises(BackendError, match="not compiled from this artifact's"):
        complete(path, completing(path), compiled=elsewhere, out=tmp_path / "other.gsv")
    assert not (tmp_path / "other.gsv").exists()
    with pytest.raises(InputError, match="exists already"):
        complete(path, completing(path), compiled=elsewhere, out=place)


def test_an_artifact_that_misses_its_gate_once_compiled_is_not_written(unpacked, compiler):
    path = packed(unpacked(gates={"vocoder.mapped_share": 0.8}))
    compiler("refuse MAXIMUM")
    with pytest.raises(GateFailed, match=r"mapped_share = 0\.4\d+ \(limit 0\.8\)"):
        complete(path, completing(path))
    assert not path.with_name("voice-compiled.gsv").exists()


def test_such_an_artifact_needs_no_finishing_on_the_device(unpacked):
    with pytest.raises(InputError, match="finished as it is"):
        finish(unpacked())


def test_a_compiler_that_is_absent_or_fails_is_said(unpacked, compiler, monkeypatch):
    path = packed(unpacked())
    with pytest.raises(EnvironmentProblem, match="--compiled"):
        complete(path, completing(path))
    compiler("crash")
    with pytest.raises(BackendError, match="Internal compiler error"):
        complete(path, completing(path))


def test_a_build_keeps_what_the_compiler_made_and_counts_nothing_if_it_failed(unpacked, compiler):
    folder = unpacked()
    compiler("ok")
    assert survey.write(folder, "vocoder", "vocoder.json", DEVICE, 32000).compile.status == "done"
    assert not list(folder.glob("*.log"))
    assert (folder / "vocoder_edgetpu.tflite").is_file()
    compiler("crash")
    failed = survey.write(folder, "vocoder", "vocoder.json", DEVICE, 32000)
    assert (failed.compile.status, failed.mapped_share) == ("failed", 0)
    assert survey.write(folder, "vocoder", "vocoder.json", {"tpu": None}, 32000) is None


def test_a_build_with_the_compiler_is_another_step_than_one_without(compiler, monkeypatch):
    target = read_target("coral-dev-board")
    monkeypatch.setattr("gsvexport.compiler.plan._code", lambda files, tools: "same")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    without = code_versions(target)
    compiler("ok")
    assert {name for name, code in code_versions(target).items() if code != without[name]} == {"lower:tflite"}
    assert edgetpu.version() == "16.0.384591198"


def test_what_needs_no_compiler_is_not_completed(tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "vocoder.onnx").write_bytes(b"")
    entries = {"vocoder": StageEntry("vocoder.onnx", "onnxruntime", "fp32")}
    seal(folder, Manifest("tiny", "v2", {"name": "pc"}, "0" * 64, None, {}, entries, {}))
    assert completing(folder) is None
    with pytest.raises(ArtifactError):
        survey.read(folder)
