"""edgetpu_compiler, played by a scripted double: what is made of all that it may do."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_graphs import KERNEL, TPU, X, graph, with_operator, with_tensor

from gsvexport.backends.tflite import edgetpu
from gsvexport.backends.tflite.flatbuffer import dump
from gsvexport.backends.tflite.graph import Quantisation
from gsvexport.backends.tflite.placement import place
from gsvexport.backends.tflite.table import table
from gsvexport.errors import BackendError
from gsvexport.files import sha256_file

DOUBLE = Path(__file__).with_name("edgetpu_compiler_double.py")
ROOT = DOUBLE.parents[3]


@pytest.fixture
def compile_with(tmp_path, monkeypatch):
    """Compile the small graph, or another, with the double in a mode; returns the result and the output folder."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "edgetpu_compiler"
    script.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} {DOUBLE} "$@"\n')
    script.chmod(0o755)

    def run(mode, one=None, seconds=None):
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
        monkeypatch.setenv("EDGETPU_DOUBLE", mode)
        one = one or graph()
        model, out = tmp_path / "vocoder.tflite", tmp_path / "out"
        model.write_bytes(dump(one))
        out.mkdir(exist_ok=True)
        if seconds:
            known = table()
            other = replace(known, compiler=replace(known.compiler, seconds=seconds))
            monkeypatch.setattr(edgetpu, "table", lambda: other)
        return edgetpu.compile_model(model, out, place(one, model.name, TPU, 14)), out

    return run


def test_a_compiled_file_is_kept_with_its_version_and_agrees_with_the_prediction(compile_with, tmp_path):
    found, out = compile_with("ok")
    assert (found.status, found.version, found.mapped) == ("done", "16.0.384591198", 4)
    assert found.disagreements == ()
    assert found.file == "vocoder_edgetpu.tflite"
    assert found.compiled == sha256_file(out / found.file)
    assert found.model == sha256_file(tmp_path / "vocoder.tflite")


def test_a_refused_operator_that_was_predicted_is_no_disagreement(compile_with):
    found, _ = compile_with("refuse EXP", with_operator(graph(), 2, kind="EXP", version=1))
    assert (found.status, found.mapped, found.disagreements) == ("done", 2, ())


def test_a_refused_operator_that_was_not_predicted_is_one(compile_with):
    taken = with_operator(graph(), 2, kind="SQUARED_DIFFERENCE", version=1)
    found, _ = compile_with("refuse SQUARED_DIFFERENCE", taken)
    assert found.mapped == 2
    assert [text.partition(":")[0] for text in found.disagreements] == ["SQUARED_DIFFERENCE", "TRANSPOSE_CONV"]


def test_a_log_that_disagrees_is_told_operator_by_operator(compile_with):
    found, _ = compile_with("disagree")
    assert found.status == "done"
    assert found.mapped == 3
    [text] = found.disagreements
    assert text.startswith("CONV_2D: predicted 1 of 1 mapped; the compiler: 1: Operation is otherwise supported")


def test_another_reason_than_the_predicted_one_is_a_disagreement():
    refused = with_operator(graph(), 3, version=9)
    placement = place(refused, "x", TPU, 14)
    counts = {("CONV_2D", "Mapped to Edge TPU"): 1, ("MUL", "Mapped to Edge TPU"): 1}
    counts[("MAXIMUM", "Mapped to Edge TPU")] = 1
    for status, wrong in (
        ("Operation version not supported", False),
        ("Operation is working on an unsupported data type", True),
        ("Something new", True),
    ):
        log = edgetpu.Log("16", {**counts, ("TRANSPOSE_CONV", status): 1})
        assert bool(edgetpu.disagreements(placement, log)) == wrong


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("crash", "ended with 1: Edge TPU Compiler version 16.0.384591198 Internal compiler error"),
        ("nothing", "wrote no vocoder_edgetpu.tflite"),
        ("garbage", "lists no operators found: what?"),
        ("foreign", "is not made of vocoder.tflite: input another x"),
    ],
)
def test_a_compiler_that_fails_leaves_no_file_and_its_last_words(compile_with, mode, words):
    found, out = compile_with(mode)
    assert found.status == "failed"
    assert words in found.reason
    assert not (out / "vocoder_edgetpu.tflite").exists()
    assert found.mapped == 0


def test_a_compiler_that_does_not_end_is_ended(compile_with):
    found, _ = compile_with("sleep", seconds=1)
    assert found.status == "failed"
    assert "longer than 1 s" in found.reason


def test_without_a_compiler_it_is_not_run_and_told_how_it_can_be(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    found = edgetpu.compile_model(tmp_path / "vocoder.tflite", tmp_path, place(graph(), "x", TPU, 14))
    assert found.status == "not_run"
    assert "not on PATH" in found.reason
    assert "gsvexport finalize" in found.reason
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert "this is aarch64" in edgetpu.not_run().reason


def test_a_carried_file_is_taken_if_it_was_made_of_this_model(compile_with, tmp_path):
    refused = with_operator(graph(), 3, version=9)
    _, out = compile_with("refuse TRANSPOSE_CONV", refused)
    compiled = out / "vocoder_edgetpu.tflite"
    found = edgetpu.carried(tmp_path / "vocoder.tflite", compiled)
    assert (found.status, found.mapped, found.carried) == ("done", 3, True)
    assert "log was not seen" in found.reason
    for other, words in (
        (with_tensor(refused, X, quantisation=Quantisation((0.06,), (3,))), "input x"),
        (with_tensor(refused, KERNEL, data=np.full((3, 1, 4, 6), 2, np.int8)), "other constants"),
        (replace(refused, operators=refused.operators[:3], outputs=(6,)), "last ones"),
    ):
        model = tmp_path / "other.tflite"
        model.write_bytes(dump(other))
        with pytest.raises(BackendError, match=r"not compiled from this artifact's") as caught:
            edgetpu.carried(model, compiled)
        assert any(words in problem for problem in caught.value.problems)
    with pytest.raises(BackendError, match=r"not compiled from") as caught:
        edgetpu.carried(tmp_path / "vocoder.tflite", tmp_path / "vocoder.tflite")
    assert "0 operators 'edgetpu-custom-op', not one" in caught.value.problems
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"no model")
    with pytest.raises(BackendError, match="no TFLite file"):
        edgetpu.carried(tmp_path / "vocoder.tflite", garbage)


def test_a_log_is_bounded():
    with pytest.raises(BackendError, match="too large"):
        edgetpu.read_log("x" * ((1 << 20) + 1), "log")
