"""Engines that were built ahead of time: which of them a device uses, played by the double, and what it does with the
others. That the library itself builds and judges them is in `test_ahead_build.py`; none was ever run on a GPU."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gsvexport.artifact import container
from gsvexport.backends.tensorrt import ahead, audit, finalize, kernels, plans, ready, rtx, session
from gsvexport.backends.tensorrt.cuda import Unjudged
from gsvexport.backends.tensorrt.engine import NotItsGraph
from gsvexport.device.finish import finish
from gsvexport.errors import ArtifactError, BackendError, EnvironmentProblem
from gsvexport.files import canonical_json, sha256_file
from gsvexport.runtime import pipeline

CARD = {"module": "tensorrt_rtx", "version": "1.7.1.116", "gpu": "NVIDIA GeForce RTX 4090", "capability": [8, 9]}
CARD |= {"total_mb": 24000, "free_mb": 20000, "cuda": 12090, "driver": 13000}
NAMES = ["acoustic.plan", "t2s.plan", "vocoder.plan"]


def quiet(text):
    pass


def rewrite(folder, **changes):
    """The manifest of a folder as its files are now; `changes` of what it says of the engines."""
    manifest = container.read_manifest(folder)
    engines = None if manifest.engines is None else {**manifest.engines, **changes}
    made = container.with_members(replace(manifest, engines=engines), folder)
    (folder / "manifest.json").write_text(canonical_json(made.to_json()))
    return made


@pytest.fixture(scope="module")
def made(unpacked, double_path, tmp_path_factory):
    """An artifact for an RTX 4090 with engines that the double built."""
    import tensorrt_double as double

    place = tmp_path_factory.mktemp("ahead")
    folder = Path(shutil.copytree(unpacked, place / "artifact"))
    (place / "script.json").write_text(json.dumps(CARD))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(double.VARIABLE, str(place / "script.json"))
        patch.setenv("PYTHONPATH", double_path)
        patch.setattr(rtx, "installed", lambda: (CARD["version"], ""))
        engines = ahead.build(folder, folder, quiet)
        asked = double.log()
    manifest = container.read_manifest(folder)
    target = {**manifest.target, "device": {**manifest.target["device"]}}
    target["device"]["gpu"] = {"compute_capability": "8.9", "memory_mb": 12288, "bandwidth_gbs": 1008}
    final = container.with_members(replace(manifest, target=target, engines=engines), folder)
    (folder / "manifest.json").write_text(canonical_json(final.to_json()))
    return folder, asked


@pytest.fixture
def artifact(made, tmp_path):
    """The same, to be damaged."""
    return Path(shutil.copytree(made[0], tmp_path / "artifact"))


def test_one_plan_of_one_profile_an_engine_for_three_kinds_of_gpus(made):
    folder, asked = made
    assert [one["graph"] for one in asked] == ["acoustic.onnx", "t2s.kv.onnx", "vocoder.onnx"]
    for one in asked:
        assert one["capabilities"] == [86, 89, 120]
        assert (one["profiles"], one["timing"], one["workspace"]) == (1, "none", 0)
    told = container.read_manifest(folder).engines
    assert sorted(told["plans"]) == NAMES
    assert (told["library"], told["version"], told["portability"]) == ("tensorrt_rtx", "1.7.1.116", "portable")
    assert told["reproducible"] is False
    assert "no library of NVIDIA's" in told["notice"]
    assert "pip install tensorrt-rtx-cu12==1.7.1.116" in told["notice"]
    assert told["plans"]["t2s.plan"]["serves"] == dict.fromkeys(("step-256", "step-512", "prefill"), 0)
    assert told["plans"]["t2s.plan"]["made_from"]["t2s.kv.onnx"] == sha256_file(folder / "t2s.kv.onnx")
    entry = plans.read_recipe(folder)["engines"]["t2s"]["in_place"]
    assert list(ready.gaps(entry, told["plans"]["t2s.plan"])) == []


def test_a_device_builds_nothing_proves_them_and_speaks_with_them(made, device):
    folder, double = made[0], device(**CARD)
    assert not session.finished(folder)
    with pipeline.load(folder, any_machine=True) as voice, pytest.raises(BackendError, match="has not been checked"):
        voice.tokens([1, 2, 3])
    report = finalize.finalize(folder, quiet)
    assert report["passed"], report["checks"]
    assert double.log() == []
    assert report["ready_made"] == {"used": ["acoustic", "t2s", "vocoder"], "reason": ""}
    assert {one["built"] for one in report["engines"].values()} == {"ahead of time"}
    assert report["cache"]["used"] == "in-place"
    assert "built ahead of time, run here: acoustic, t2s, vocoder" in finalize.summary(report)
    assert session.finished(folder)
    assert container.differences(folder, container.read_manifest(folder), hashes=True) == []  # nothing was added to it
    assert not list(plans.plan_folder().glob("*.plan"))  # and nothing copied
    with pipeline.load(folder, any_machine=True) as voice:
        spoken = voice.tokens([1, 2, 3], max_tokens=5)
        engine = voice._session("step")._engine
        assert engine.aliases
        step = {name: tuple(three[2]) for name, three in engine.profiles["step-256"].items()}
        assert engine.profile(step) == "step-256"
    assert spoken.size
    finalize.finalize(folder, quiet)
    assert double.log() == []


@pytest.mark.parametrize("allowed", [False, True])
def test_engines_that_nobody_trusted_signed_are_built_on_the_device(artifact, device, tmp_path, allowed):
    double = device(**CARD)
    report, *_ = finish(artifact, out=tmp_path / "report.json", any_machine=True, allow_unsigned=allowed)
    assert (double.log() == []) == allowed
    assert ("an engine is code" in report["ready_made"]["reason"]) != allowed
    assert {one["built"] == "ahead of time" for one in report["engines"].values()} == {allowed}


def test_they_say_what_engines_of_the_device_say(made, device):
    device(**CARD)
    finalize.finalize(made[0], quiet)
    with pipeline.load(made[0], any_machine=True) as voice:
        ours = voice.tokens([1, 2, 3, 4], max_tokens=12)
    double = device(**{**CARD, "version": "1.8.0.1"})
    finalize.finalize(made[0], quiet)
    assert double.log()
    with pipeline.load(made[0], any_machine=True) as voice:
        assert np.array_equal(voice.tokens([1, 2, 3, 4], max_tokens=12), ours)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"version": "1.8.0.1"}, "tensorrt_rtx 1.7.1.116 built them, this device has 1.8.0.1: pip install"),
        ({"version": "1.7.0.9"}, "tensorrt_rtx 1.7.1.116 built them, this device has 1.7.0.9: pip install"),
        ({"module": "tensorrt", "version": "10.16.0"}, "they are for tensorrt_rtx, this device has tensorrt 10.16.0"),
    ],
)
def test_another_library_builds_on_the_device_as_without_them(made, device, words, why):
    double = device(**{**CARD, **words})
    said = []
    report = finalize.finalize(made[0], said.append)
    assert report["passed"], report["checks"]
    assert report["ready_made"]["used"] == []
    assert report["ready_made"]["reason"].startswith(why)
    assert any(why in line for line in said)
    assert len(double.log()) == 3
    assert session.finished(made[0])
    assert all((made[0] / name).is_file() for name in NAMES)


def test_one_artifact_serves_every_gpu_that_it_was_built_for_and_no_other(artifact, device):
    double = device(**{**CARD, "gpu": "NVIDIA GeForce RTX 3060", "capability": [8, 6], "total_mb": 12000})
    assert finalize.finalize(artifact, quiet)["ready_made"]["used"]
    device(**{**CARD, "gpu": "NVIDIA GeForce RTX 2080", "capability": [7, 5]})
    with pytest.raises(ArtifactError) as error:
        finalize.finalize(artifact, quiet)
    assert "compute capability 7.5; jetson-orin is 8.9" in error.value.problems[0]
    rewrite(artifact, capabilities=["8.6", "12.0"])
    double = device(**CARD)
    report = finalize.finalize(artifact, quiet)
    assert (
        "they are for compute capability 8.6, 12.0; NVIDIA GeForce RTX 4090 has 8.9" in report["ready_made"]["reason"]
    )
    assert len(double.log()) == 3


def test_a_plan_for_other_gpus_than_the_manifest_says_is_found_by_asking_the_library(artifact, device):
    import double_rtx

    plan = artifact / "vocoder.plan"
    plan.write_bytes(double_rtx.header("1.7.1.116", [120]) + plan.read_bytes()[double_rtx.HEADER :])
    rewrite(artifact)
    double = device(**CARD)
    report = finalize.finalize(artifact, quiet)
    assert report["passed"]
    assert report["ready_made"]["used"] == ["acoustic", "t2s"]
    assert report["ready_made"]["reason"] == "vocoder: it is for GPUs of other compute capabilities"
    assert [one["graph"] for one in double.log()] == ["vocoder.onnx"]


@pytest.mark.parametrize("size", [0, 20, 63])
def test_a_plan_that_is_cut_short_in_its_header_is_never_opened(artifact, device, size):
    plan = artifact / "vocoder.plan"
    plan.write_bytes(plan.read_bytes()[:size])
    rewrite(artifact)
    double = device(**CARD)
    report = finalize.finalize(artifact, quiet)
    assert report["ready_made"]["reason"] == "vocoder: it is cut short, or no engine"
    assert [one["graph"] for one in double.log()] == ["vocoder.onnx"]


def test_a_plan_that_is_cut_short_behind_it_is_refused_once_and_then_built_here(artifact, device):
    plan = artifact / "vocoder.plan"
    plan.write_bytes(plan.read_bytes()[:-20])
    rewrite(artifact)
    double = device(**CARD)
    with pytest.raises(Unjudged, match="vocoder cannot be opened") as error:
        finalize.finalize(artifact, quiet)
    assert "it is built again" in error.value.fix
    report = finalize.finalize(artifact, quiet)
    assert report["passed"]
    assert report["ready_made"]["reason"] == "vocoder: it failed its checks here before"
    assert [one["graph"] for one in double.log()] == ["vocoder.onnx"]
    assert finalize.finalize(artifact, quiet)["ready_made"]["used"] == ["acoustic", "t2s"]  # and not tried again
    assert len(double.log()) == 1


def test_a_plan_that_has_changed_in_one_byte_is_damage(artifact, device):
    plan = artifact / "t2s.plan"
    plan.write_bytes(plan.read_bytes()[:-1] + b"!")
    assert finalize._damage(artifact) == ["t2s.plan is missing or has changed"]
    device(**CARD)
    report = finalize.finalize(artifact, quiet)  # which the script reaches after `_damage` alone
    assert "damaged" in report["ready_made"]["reason"]
    plan.unlink()
    assert finalize._damage(artifact) == ["t2s.plan is missing or has changed"]


def test_a_plan_of_another_engine_or_voice_does_not_pass_for_this_one(artifact, device):
    shutil.copyfile(artifact / "acoustic.plan", artifact / "vocoder.plan")
    rewrite(artifact)
    double = device(**CARD)
    with pytest.raises(NotItsGraph):
        finalize.finalize(artifact, quiet)
    report = finalize.finalize(artifact, quiet)
    assert report["passed"]
    assert [one["graph"] for one in double.log()] == ["vocoder.onnx"]
    text = (artifact / "manifest.json").read_text()
    told = json.loads(text)
    told["engines"]["plans"]["t2s.plan"]["made_from"]["t2s.safetensors"] = "0" * 64
    (artifact / "manifest.json").write_text(canonical_json(told))
    for read in (container.read_manifest, plans.read_manifest):
        with pytest.raises(ArtifactError) as error:
            read(artifact)
        assert list(error.value.problems) == ["engine 't2s.plan' was built from another 't2s.safetensors'"]


def test_an_engine_whose_numbers_are_wrong_is_not_opened_and_the_device_builds_its_own(artifact, device):
    device(**CARD, wrong=["vocoder"])
    assert not finalize.finalize(artifact, quiet)["passed"]
    assert not session.finished(artifact)
    double = device(**CARD)
    report = finalize.finalize(artifact, quiet)
    assert report["passed"]
    assert "vocoder" not in report["ready_made"]["used"]
    assert "vocoder.onnx" in [one["graph"] for one in double.log()]


def test_a_read_only_cache_that_is_asked_for_is_built_here(made, device):
    double = device(**CARD)
    report = finalize.finalize(made[0], quiet, plans.READ_ONLY)
    assert report["passed"]
    assert [one["graph"] for one in double.log()] == ["t2s.onnx"]
    assert report["ready_made"]["reason"] == "t2s: it writes its cache in place"
    assert report["cache"]["used"] == "read-only"


def test_what_serves_other_lengths_is_not_used(artifact, device):
    told = container.read_manifest(artifact).engines["plans"]
    told["vocoder.plan"]["profiles"][0]["shapes"]["latent"][2][2] -= 1
    rewrite(artifact, plans=told)
    double = device(**CARD)
    report = finalize.finalize(artifact, quiet)
    assert report["ready_made"]["reason"] == "vocoder: it serves other lengths, or is not there"
    assert [one["graph"] for one in double.log()] == ["vocoder.onnx"]
    rows = list(audit.audit(artifact, container.read_manifest(artifact)))
    assert [(stage, value) for stage, _, value, *_ in rows if value == 0] == [("vocoder", 0.0)]


def test_without_any_library_the_message_installs_the_one_that_built_them(made, device, monkeypatch):
    import sys

    device(**CARD)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(EnvironmentProblem) as error:
        finalize.finalize(made[0], quiet)
    assert error.value.fix == "pip install tensorrt-rtx-cu12==1.7.1.116"
    with pipeline.load(made[0], any_machine=True) as voice, pytest.raises(BackendError) as wrapped:
        voice.tokens([1, 2, 3])
    assert wrapped.value.fix == "pip install tensorrt-rtx-cu12==1.7.1.116"


def test_an_artifact_with_them_asks_for_the_library_that_they_are_for(made, device, monkeypatch):
    import sys
    from types import SimpleNamespace

    device(**CARD)
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__="10.13.0", Builder=None))
    assert finalize.import_tensorrt().__version__ == "10.13.0"
    assert finalize.finalize(made[0], quiet)["ready_made"]["used"]


def test_kernels_that_were_compiled_before_are_bounded_checked_and_thrown_away(made, device, monkeypatch):
    device(**CARD)
    finalize.finalize(made[0], quiet)

    def known():
        with pipeline.load(made[0], any_machine=True) as voice:
            voice.run("vocoder", {"latent": np.zeros((1, voice.model.dims.I, 4), np.float32), "ge": voice.baked["ge"]})
            return voice._session("vocoder")._engine._config.cache.known

    [path] = plans.plan_folder().glob("vocoder-*.kernels")
    good = path.read_bytes()
    assert known()
    for bad in (good[: len(good) // 2], good[:-1] + b"!", b"", b"x" * 40, good + b"more"):
        path.write_bytes(bad)
        assert not known()  # and it speaks; the library never saw them
        assert not path.exists()
    kernels.keep(path, b"kernels of another card")
    assert not known()
    assert not path.exists()
    monkeypatch.setattr(kernels, "LARGEST", 5)
    path.write_bytes(good)
    assert kernels.load(path) == b""
    assert not path.exists()
    assert not kernels.keep(path, b"too large")
    assert not path.exists()


def test_a_full_disk_keeps_no_kernels_and_is_no_failure(tmp_path, monkeypatch):
    def full(path, *, force):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kernels, "atomic_file", full)
    assert not kernels.keep(tmp_path / "x.kernels", b"kernels")


def test_report_and_inspect_say_that_nothing_was_run(made):
    manifest = container.read_manifest(made[0])
    rows = list(audit.audit(made[0], manifest))
    assert {row[2] for row in rows} == {None}
    assert sorted({row[0] for row in rows}) == ["acoustic", "prefill", "step", "vocoder"]
    assert all("compiled where the artifact was built, not run" in row[4] for row in rows)
    text = audit.described(manifest, lambda name: b"")
    assert text.startswith("engines built ahead of time: compiled where the artifact was built, not run\n")
    assert "another build gives other bytes" in text
    assert "portable for 8.6, 8.9, 12.0" in text
    assert audit.described(replace(manifest, engines=None), lambda name: b"") == ""


def test_what_is_said_of_them_has_to_be_true(made):
    manifest = container.read_manifest(made[0])

    def wrong(**changes):
        told = json.loads(json.dumps(manifest.engines))
        told["plans"]["t2s.plan"] = {**told["plans"]["t2s.plan"], **changes}
        rows = audit.audit(made[0], replace(manifest, engines=told))
        return {row[4] for row in rows if row[2] == 0.0}

    assert wrong() == set()
    assert wrong(engine="t3s") == {"t2s.plan is of no engine of tensorrt.json"}
    assert wrong(graph="vocoder.onnx") == {"t2s.plan was built from vocoder.onnx, which is no form of t2s"}
    assert wrong(serves={}) != set()
    other = replace(manifest, engines={**manifest.engines, "library": "tensorrt"})
    assert {row[2] for row in audit.audit(made[0], other)} == {0.0}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda e: e.pop("version"), "version"),
        (lambda e: e.update(capabilities=[]), "capabilities"),
        (lambda e: e.update(reproducible="no"), "reproducible"),
        (lambda e: e["plans"].update({"gone.plan": e["plans"]["t2s.plan"]}), "'gone.plan', which is no member"),
        (lambda e: e["plans"]["t2s.plan"]["serves"].update({"step-256": 1}), "fewer profiles"),
        (lambda e: e["plans"]["t2s.plan"]["made_from"].pop("t2s.kv.onnx"), "does not say which"),
        (lambda e: e["plans"]["t2s.plan"]["profiles"][0]["shapes"].update(ids=[[1, 1]]), "ids"),
        (lambda e: e["plans"]["t2s.plan"].update(made_from=[]), "made_from"),
    ],
)
def test_a_manifest_that_no_build_writes_is_refused_by_all_who_read_it(artifact, change, text):
    told = json.loads((artifact / "manifest.json").read_text())
    change(told["engines"])
    (artifact / "manifest.json").write_text(canonical_json(told))
    for read in (container.read_manifest, plans.read_manifest):
        with pytest.raises(ArtifactError) as error:
            read(artifact)
        assert any(text in problem for problem in error.value.problems), error.value.problems
