"""An artifact that says nothing, or nothing of itself, does not pass."""

import json

import numpy as np
import pytest
from artifacts import copied, repacked
from safetensors.numpy import load_file, save_file

from gsvexport.compiler.pack import verify_packed
from gsvexport.model import read_model
from gsvexport.verify import golden


@pytest.fixture
def files(subject, tmp_path):
    return copied(subject.files, tmp_path / "files")


def keep(files, wanted):
    """Keep the golden cases that are wanted, and the files that they need."""
    index = json.loads((files / "golden/golden.json").read_text())
    index["cases"] = [case for case in index["cases"] if wanted(case)]
    named = {name for case in index["cases"] for side in ("inputs", "outputs") for name in case[side].values()}
    for name in index["files"].keys() - named:
        (files / "golden" / name).unlink()
        del index["files"][name]
    (files / "golden/golden.json").write_text(json.dumps(index))


def silenced(files):
    weights = load_file(files / "weights.safetensors")
    save_file({name: np.zeros_like(array) for name, array in weights.items()}, files / "weights.safetensors")


def failures(files, tmp_path):
    report = verify_packed(repacked(files, tmp_path / "a.gsv"))
    assert not report.passed
    return {f"{check.stage}.{check.metric}": check.reason for check in report.failures}


def test_the_subject_passes(subject):
    report = verify_packed(subject.artifact)
    assert report.passed
    held = [check for check in report.checks if check.metric == "golden_cases"]
    assert {check.stage for check in held} == set(read_model(subject.files).stages)
    assert {check.status for check in held} == {"pass"}


@pytest.mark.parametrize("stage", ["acoustic", "vocoder", "teacher"])
def test_a_stage_without_golden_cases_fails(files, tmp_path, stage):
    keep(files, lambda case: case["stage"] != stage)
    found = failures(files, tmp_path)
    stages = ["prefill", "step"] if stage == "teacher" else [stage]
    assert found == {f"{name}.golden_cases": "case a is absent; case b is absent" for name in stages}


def test_fewer_cases_than_a_stage_has_to_have_fail(files, tmp_path):
    keep(files, lambda case: case["name"] != "b")
    assert set(failures(files, tmp_path).values()) == {"case b is absent"}


def test_golden_vectors_that_are_all_gone_fail(files, tmp_path):
    keep(files, lambda case: False)
    assert len(failures(files, tmp_path)) == 4


def test_cases_that_lack_an_output_or_are_shorter_fail(files, tmp_path):
    index = json.loads((files / "golden/golden.json").read_text())
    case = next(case for case in index["cases"] if case["stage"] == "vocoder" and case["name"] == "a")
    del case["outputs"]["audio"]
    (files / "golden/golden.json").write_text(json.dumps(index))
    model, stages = read_model(files), read_model(files).stages
    assert golden.lacking(model, stages, golden.read(files / "golden"))["vocoder"] == ["case a has no audio"]
    keep(files, lambda case: True)
    one = next(case for case in golden.read(files / "golden") if case.stage == "acoustic" and case.name == "a")
    one.inputs["noise"] = one.inputs["noise"][..., :2]
    assert "noise is [1, 32, 2], not" in golden.lacking(model, stages, [one])["acoustic"][0]


def test_a_mute_artifact_fails_whatever_its_golden_vectors_say(files, tmp_path):
    silenced(files)
    keep(files, lambda case: case["stage"] not in ("acoustic", "vocoder"))
    found = failures(files, tmp_path)
    assert "silent" in found["free_run.valid"]
    assert {"acoustic.golden_cases", "vocoder.golden_cases"} <= found.keys()


def test_golden_vectors_that_agree_with_weights_of_zeros_fail(files, subject, tmp_path):
    source = copied(subject.source, tmp_path / "source")
    silenced(files)
    silenced(source)
    (files / "golden").rename(tmp_path / "before")
    golden.make(source, files / "golden")
    found = failures(files, tmp_path)
    assert found["vocoder.golden_cases"] == "case a is silent; case b is silent"
    assert "silent" in found["free_run.valid"]
