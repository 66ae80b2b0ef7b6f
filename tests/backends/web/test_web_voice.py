"""A tiny voice in onnxruntime-web under node: by the page's modules, and by gsvexport's own runtime."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gsvexport.backends.web import node
from gsvexport.backends.web import runtime as pinned
from gsvexport.backends.web import session as web
from gsvexport.compiler.pack import verify_packed
from gsvexport.errors import BackendError, EnvironmentProblem, InputError
from gsvexport.runtime.pipeline import load

PHONES = [40, 12, 77, 3, 150, 21, 8, 60, 33]
SEEDS = (0, 1, 12345678901234567890)


def _decibels(wanted, found):
    assert wanted.shape == found.shape
    return 10 * np.log10((wanted.astype(float) ** 2).sum() / max(((wanted - found).astype(float) ** 2).sum(), 1e-30))


def test_codes_are_equal_and_sound_is_that_of_native_onnx_runtime(drive, voice, native, tmp_path):
    sounds = {
        "whole": {"seed": 1},
        "slow": {"seed": 1, "speed": 0.8},
        "exact": {"seed": 1, "window": 0.2, "ahead": 0},
        "early": {"seed": 1, "window": 0.2, "ahead": 4},
    }
    given = [{"out": str(tmp_path / name), "how": {**how, "max_tokens": 24}} for name, how in sounds.items()]
    codes = [{"seed": str(seed), "max_tokens": 40} for seed in SEEDS] + [{"greedy": True, "max_tokens": 30}]
    found = drive("speak", folder=str(voice), phones=PHONES, codes=codes, sounds=given)
    for seed, ours in zip(SEEDS, found["codes"], strict=False):
        assert ours == list(native.tokens(PHONES, sampling=replace(native.sampling, seed=seed), max_tokens=40))
        assert len(set(ours)) > 10
    assert found["codes"][-1] == list(
        native.tokens(PHONES, sampling=replace(native.sampling, greedy=True), max_tokens=30)
    )

    def python(**how):
        ahead = how.pop("ahead", None)
        if "window" not in how:
            return native.synthesize(phones=PHONES, max_tokens=24, **how).samples
        pieces = native.stream(phones=PHONES, max_tokens=24, ahead=ahead or None, **how)
        return np.concatenate([one.samples for one in pieces])

    for (name, how), told in zip(sounds.items(), found["sounds"], strict=True):
        assert _decibels(python(**how), np.fromfile(tmp_path / name, "<f4")) > 90, name
        assert len(told["codes"]) == 24
        assert (told["pieces"] > 1) == ("window" in how)


def test_the_golden_vectors_tell_a_browser_that_computes_something_else(drive, voice):
    # What WebGPU made of a fused attention was 32.6 dB away in its logits: 3 % of each number are 33 dB.
    right, *wrong = drive("check", folder=str(voice), changes=[("prefill", 0), ("prefill", 0.03), ("vocoder", 0.03)])
    assert len(right) == 8
    assert all(row["passed"] for row in right), right
    for rows, stages in zip(wrong, ({"prefill", "step"}, {"vocoder"}), strict=True):
        failed = {row["stage"] for row in rows if not row["passed"]}
        assert failed == stages  # the steps read the cache of the prefill


def test_what_cannot_be_spoken_is_told_and_a_sentence_stops(drive, voice):
    hows = [
        {"phones": PHONES, "speed": 9, "top_p": 2},
        {"phones": PHONES, "stop": True},
        {"phones": [5000]},
    ]
    wrong, stopped, unknown = drive("refuse", folder=str(voice), hows=hows)
    assert "speed is 9" in wrong
    assert "top_p is 2" in wrong
    assert stopped == "Cancelled: cancelled"
    assert "phone 5000 is out of range" in unknown


@pytest.mark.parametrize("cut", [True, False])
def test_a_file_that_was_cut_or_changed_is_named(drive, voice, tmp_path, cut):
    copy = Path(shutil.copytree(voice, tmp_path / "copy"))
    data = (copy / "weights.safetensors").read_bytes()
    (copy / "weights.safetensors").write_bytes(data[:-9] if cut else data[:-1] + bytes([data[-1] ^ 1]))
    found = drive("read", folder=str(copy), name="weights.safetensors")["error"]
    assert "weights.safetensors" in found
    assert ("the download was cut" if cut else "SHA-256") in found


def test_verify_runs_it_in_the_real_runtime(packed, runtime):
    report = verify_packed(packed, any_machine=True)
    failed = [check for check in report.checks if check.status == "fail" and check.level in (1, 2)]
    assert not failed
    assert report.proof == "acoustic, prefill, step, vocoder ran in the real runtime"
    assert report.emulated is None


def test_without_node_native_onnx_runtime_stands_in_and_the_report_says_so(packed, monkeypatch):
    monkeypatch.setattr(pinned.shutil, "which", lambda _: None)
    report = verify_packed(packed, any_machine=True)
    assert report.proof == "acoustic, prefill, step, vocoder built"
    (missing,) = [check for check in report.checks if check.status == "not_run" and check.stage == "engine"]
    assert "not run here" in missing.reason
    with (
        load(Path(packed), any_machine=True) as voice,
        pytest.raises(EnvironmentProblem, match="node is not installed"),
    ):
        voice.run("vocoder", {"latent": np.zeros((1, voice.model.dims.I, 3)), "ge": voice.baked["ge"]})


def test_node_that_dies_hangs_or_finds_no_graph_is_an_error(voice, runtime, monkeypatch, tmp_path):
    copy = Path(shutil.copytree(voice, tmp_path / "copy"))
    session = web.open_session(copy / "vocoder.onnx")
    session._node._process.kill()
    with pytest.raises(BackendError, match="node ended"):
        session.run({"latent": np.zeros((1, 4, 3), np.float32)})
    session.close()
    with pytest.raises(BackendError, match="was closed"):
        session.run({})
    monkeypatch.setenv(node.VARIABLE, "soon")
    with pytest.raises(InputError, match="soon"):
        web.open_session(copy / "step.onnx")
    monkeypatch.setenv(node.VARIABLE, "0.05")
    with pytest.raises(BackendError, match="did not open it in 0 s"):
        web.open_session(copy / "step.onnx")
    monkeypatch.delenv(node.VARIABLE)
    (copy / "step.onnx").write_bytes((copy / "vocoder.onnx").read_bytes()[:200])
    with pytest.raises(BackendError, match="step"):
        web.open_session(copy / "step.onnx")


def test_another_release_or_a_changed_file_is_not_run(runtime, monkeypatch, tmp_path):
    copy = tmp_path / "node_modules" / "onnxruntime-web" / "dist"
    copy.mkdir(parents=True)
    for name in pinned.pinned().files:
        shutil.copy(runtime / name, copy / name)
    assert pinned.files(tmp_path) == copy
    (copy / "ort.wasm.min.mjs").write_bytes((copy / "ort.wasm.min.mjs").read_bytes() + b" ")
    (copy / "ort.webgpu.min.mjs").unlink()
    monkeypatch.setenv(pinned.VARIABLE, str(tmp_path))
    with pytest.raises(EnvironmentProblem) as found:
        pinned.files()
    assert list(found.value.problems) == [
        "ort.wasm.min.mjs has 50127 bytes, not 50126",
        "ort.webgpu.min.mjs is missing",
    ]


def test_npm_that_fails_or_gives_another_package_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("GSVEXPORT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(pinned.VARIABLE, raising=False)
    (tmp_path / "cache").mkdir(mode=0o700)
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    monkeypatch.setenv("PATH", f"{bin_folder}:/usr/bin:/bin")
    for script, words in (
        ("echo 'npm error network' >&2; exit 1", "npm cannot fetch"),
        (
            'cd "$5"; echo other > onnxruntime-web-1.30.0.tgz',
            "another onnxruntime-web@1.30.0 than the one that is pinned",
        ),
    ):
        (bin_folder / "npm").write_text(f"#!/bin/sh\n{script}\n")
        (bin_folder / "npm").chmod(0o755)
        with pytest.raises(EnvironmentProblem, match=words):
            pinned.files()
        assert not list((tmp_path / "cache" / "web").glob("onnxruntime-web-*[0-9]"))


def test_lowering_refuses_what_a_stage_cannot_have(voice, tmp_path):
    from gsvexport.backends.web.lower import lower
    from gsvexport.model import read_model

    with pytest.raises(BackendError, match="cannot lower stage step to int8-weights"):
        lower(voice, read_model(voice), {"step": "int8-weights"}, tmp_path, device={"features": []})
