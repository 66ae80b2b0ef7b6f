"""What `gsvexport finalize` does on a device, against a scripted double of TensorRT (`tensorrt_double.py`)."""

import ast
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gsvexport.backends.tensorrt import building, finalize, plans
from gsvexport.backends.tensorrt.device import fits
from gsvexport.errors import ArtifactError, BackendError, EnvironmentProblem
from gsvexport.files import sha256_bytes

NAMES = ["acoustic.onnx", "t2s.onnx", "vocoder.onnx"]


@pytest.fixture
def copy(unpacked, tmp_path):
    """The artifact under a name of its own, to be damaged."""
    return Path(shutil.copytree(unpacked, tmp_path / "artifact"))


@pytest.fixture
def built():
    """Only build: what follows is not what the test is about."""
    told = {"checks": [], "passed": True, "recorded": True, "recorded_reason": "", "speed": {}, "memory": {}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finalize, "_checked", lambda *arguments: dict(told))
        yield patch


def quiet(text):
    pass


def graphs(double):
    return [one["graph"] for one in double.log()]


def test_every_engine_is_built_proven_and_measured(unpacked, device, tmp_path):
    double = device()
    said = []
    report = finalize.finalize(unpacked, said.append)
    assert report["passed"]
    assert report["recorded"]
    assert graphs(double) == NAMES
    for one in double.log():
        assert one["flags"] == 1 << 1  # STRONGLY_TYPED of TensorRT 10, and nothing of what it refuses beside it
        assert one["set"] == []
        assert one["cleared"] == ["BuilderFlag.TF32"]
    recipe = json.loads((unpacked / "tensorrt.json").read_text())["engines"]
    assert double.log()[1]["profiles"] == len(recipe["t2s"]["profiles"]) == 3
    judged = {(one["stage"], one["metric"]): one["status"] for one in report["checks"]}
    assert set(judged.values()) == {"pass"}
    wanted = {("step", "top1"), ("step", "cache_error"), ("prefill", "kl"), ("vocoder", "snr_db")}
    assert wanted | {(name, "half_share") for name in ("t2s", "acoustic", "vocoder")} <= judged.keys()
    assert report["speed"]["rtf"] > 0
    assert report["speed"]["step_ms_graph"]["recorded"]
    assert not report["speed"]["step_ms_plain"]["recorded"]
    assert any("Building: 2 of 3" in text for text in said)
    assert not any("Tactics" in text for text in said)  # what happens within it, thousands of times
    path = tmp_path / "report.json"
    finalize.write_report({**report, "said": f"in {unpacked} and {plans.plan_folder()}"}, path, unpacked)
    assert json.loads(path.read_text())["said"] == "in ARTIFACT and CACHE"
    assert "one code:" in finalize.summary(report)


def test_finished_engines_are_used_again_and_stale_ones_never(unpacked, device, built):
    double = device()
    finalize.finalize(unpacked, quiet)
    said = []
    finalize.finalize(unpacked, said.append)
    assert len(double.log()) == 3
    changed, interrupted = sorted(plans.plan_folder().glob("*.plan"))[:2]
    changed.write_bytes(changed.read_bytes() + b" ")
    interrupted.with_suffix(".json").unlink()
    finalize.finalize(unpacked, said.append)
    assert graphs(double)[3:] == NAMES[:2]
    assert {"acoustic: its file has changed (SHA-256 differs)", "t2s: its build was interrupted"} <= set(said)


def test_an_engine_of_another_device_under_the_same_name_is_built_again(unpacked, device, built):
    double = device()
    finalize.finalize(unpacked, quiet)
    notes = next(plans.plan_folder().glob("vocoder-*.json"))
    known = json.loads(notes.read_text())
    known["key"]["gpu"] = "Another"
    notes.write_text(json.dumps(known))
    finalize.finalize(unpacked, quiet)
    assert graphs(double)[3:] == ["vocoder.onnx"]


@pytest.mark.parametrize("change", [{"version": "10.3.1"}, {"cuda": 12020}, {"gpu": "Orin (nvgpu)"}])
def test_another_release_or_gpu_gets_engines_of_its_own(unpacked, device, built, change):
    device()
    finalize.finalize(unpacked, quiet)
    double = device(**change)
    finalize.finalize(unpacked, quiet)
    assert graphs(double) == NAMES
    kept = 6 if "gpu" in change else 3  # what was superseded on the same GPU is removed
    assert len(list(plans.plan_folder().glob("*.plan"))) == kept


def test_a_workspace_that_is_too_small_is_raised_and_one_that_kills_the_builder_lowered(unpacked, device, built):
    double = device(builds=["tight", "killed", "ok"], free_mb=3000)
    report = finalize.finalize(unpacked, quiet)
    first, second, third = double.log()[:3]
    assert [one["outcome"] for one in (first, second, third)] == ["tight", "killed", "ok"]
    assert first["workspace"] < third["workspace"] < second["workspace"] == 7620 << 20
    tried = report["engines"]["acoustic"]["attempts"]
    assert "Requested size was 1102592868 bytes" in tried[0]
    assert "was killed by SIGKILL" in tried[1]
    assert tried[2].endswith("built")


@pytest.mark.parametrize(("word", "count"), [("killed", 6), ("no_tactic", 2), ("tight", 2), ("none", 2), ("full", 6)])
def test_when_nothing_is_left_to_try_everything_that_was_is_told(unpacked, device, built, word, count):
    double = device(builds=[word] * 9, free_mb=4000)
    with pytest.raises(BackendError) as error:
        finalize.finalize(unpacked, quiet)
    assert len(error.value.problems) == len(double.log()) == count
    assert all(one["workspace"] >= 64 << 20 for one in double.log())
    for advice in ("swap", "desktop"):
        assert (advice in str(error.value)) is (word != "none")
    assert not list(plans.plan_folder().glob("*.plan"))


def climbed(kinds, free=1 << 30, total=4 << 30):
    """(workspace in MB, level) of each attempt, for what each of them failed for."""
    ladder = building.Ladder(free, total)
    found = [ladder.now, *filter(None, (ladder.after(kind) for kind in kinds))]
    return [(one.workspace >> 20, one.level) for one in found]


def test_attempts_begin_with_all_that_is_free_and_go_where_the_failure_points():
    assert climbed([]) == [(1024, 2)]
    assert climbed(["memory", "memory"]) == [(1024, 2), (4096, 2)]
    assert climbed(["killed"] * 3) == [(1024, 2), (512, 1), (256, 0), (128, 0)]
    assert climbed(["killed", "memory", "memory"]) == [(1024, 2), (512, 1), (768, 1), (896, 1)]
    assert climbed(["memory", "killed", "memory"]) == [(1024, 2), (4096, 2), (2560, 1), (3328, 1)]
    assert climbed(["build", "build"]) == [(1024, 2), (1024, 0)]
    assert climbed(["killed"] * 20)[-1] == (64, 0)
    assert climbed([], free=64 << 30, total=80 << 30) == [(64 << 10, 3)]


def test_a_wrong_use_of_the_api_is_neither_tried_again_nor_called_too_little_memory(unpacked, device, built):
    double = device(builds=["usage"] * 9)
    with pytest.raises(BackendError, match="refuses") as error:
        finalize.finalize(unpacked, quiet)
    assert len(double.log()) == 1
    assert "Dynamic input tensor ge is missing" in str(error.value)
    assert "swap" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda shapes: shapes.pop("noise"), "Dynamic input tensor noise is missing dimensions in profile 0"),
        (lambda shapes: shapes.update(noises=shapes["noise"]), "names noises, which the network has not"),
        (lambda shapes: shapes.update(noise=shapes["noise"][::-1]), "profile codes-64 is not valid"),
        (lambda shapes: shapes.update(noise=[[1, 9, 9]] * 3), "Dimension mismatch for tensor noise and profile 0"),
    ],
)
def test_profiles_that_do_not_fit_the_network_are_refused_as_what_they_are(copy, device, built, change, text):
    recipe = json.loads((copy / "tensorrt.json").read_text())
    change(recipe["engines"]["acoustic"]["profiles"][0]["shapes"])
    (copy / "tensorrt.json").write_text(json.dumps(recipe))
    double = device()
    with pytest.raises(BackendError, match="refuses") as error:
        finalize.finalize(copy, quiet)
    assert text in str(error.value)
    assert "cudaError" not in str(error.value)  # what a missing GPU adds to everything
    assert double.log() == []


def test_a_refused_graph_shows_every_parser_error_and_is_not_tried_again(unpacked, device, built):
    double = device(parse=["no importer for Foo", "Pad_3 has no shape specified"])
    with pytest.raises(BackendError) as error:
        finalize.finalize(unpacked, quiet)
    assert len(error.value.problems) == 2
    assert "Pad_3 has no shape" in str(error.value)
    assert double.log() == []


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ({"capability": [8, 6]}, "compute capability 8.6; jetson-orin is 8.7"),
        ({"gpu": "NVIDIA GeForce GTX 1660 Ti", "capability": [7, 5]}, "no tensor cores"),
        ({"version": "8.4.1"}, "tensorrt is 8.4.1"),
        ({"version": "12.0"}, "tensorrt is 12.0"),
        ({"driver": 11080}, "the driver knows CUDA 11.8"),
        ({"total_mb": 2000}, "2000 MB of memory"),
    ],
)
def test_a_device_that_does_not_fit_is_refused(unpacked, device, words, text):
    double = device(**words)
    with pytest.raises(ArtifactError) as error:
        finalize.finalize(unpacked, quiet)
    assert any(text in problem for problem in error.value.problems)
    assert double.log() == []


def test_everything_that_does_not_fit_is_told_at_once(unpacked, device):
    device(capability=[7, 5], version="8.4", gpu="GTX 1650")
    with pytest.raises(ArtifactError) as error:
        finalize.finalize(unpacked, quiet)
    assert len(error.value.problems) == 3


def test_without_tensorrt_the_error_says_how_it_is_installed(unpacked, device, monkeypatch):
    device()
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(EnvironmentProblem, match="system-site-packages"):
        finalize.finalize(unpacked, quiet)


def test_a_full_disk_is_refused_before_a_build(unpacked, device, monkeypatch):
    double = device()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 10**5))
    with pytest.raises(EnvironmentProblem, match="too little room"):
        finalize.finalize(unpacked, quiet)
    assert double.log() == []


def test_an_engine_that_comes_out_in_fp32_fails(unpacked, device):
    device(fp32=["vocoder"])
    report = finalize.finalize(unpacked, quiet)
    assert not report["passed"]
    [failed] = [one for one in report["checks"] if one["status"] == "fail"]
    assert (failed["stage"], failed["metric"], failed["value"]) == ("vocoder", "half_share", 0)
    double = device()  # the next attempt does not trust any of them
    finalize.finalize(unpacked, quiet)
    assert len(double.log()) == 3


def test_an_inspector_that_tells_no_types_is_not_a_pass(unpacked, device):
    device(silent=True)
    report = finalize.finalize(unpacked, quiet)
    words = [one["status"] for one in report["checks"] if one["metric"] == "half_share"]
    assert words == ["not_run"] * 3


def test_an_input_on_the_host_is_an_error(unpacked, device):
    device(host=["cached", "positions"])
    with pytest.raises(BackendError) as error:
        finalize.finalize(unpacked, quiet)
    assert len(error.value.problems) == 2
    assert all("lies on the host" in problem for problem in error.value.problems)


def test_engines_that_cannot_be_opened_are_not_judged_and_not_built_again(unpacked, device):
    double = device(unopened=["vocoder"])
    for _ in range(2):
        with pytest.raises(BackendError, match="vocoder cannot be opened") as error:
            finalize.finalize(unpacked, quiet)
        assert "driver" in error.value.fix
        assert len(double.log()) == 3
    double = device()
    assert finalize.finalize(unpacked, quiet)["passed"]
    assert double.log() == []


def test_a_plan_that_no_tensorrt_reads_is_built_again(unpacked, device, built):
    device()
    finalize.finalize(unpacked, quiet)
    notes = next(plans.plan_folder().glob("vocoder-*.json"))
    notes.with_suffix(".plan").write_bytes(b"cut short")
    known = json.loads(notes.read_text()) | {"sha256": sha256_bytes(b"cut short"), "size": 9, "passed": None}
    notes.write_text(json.dumps(known))
    built.undo()
    double = device()
    with pytest.raises(BackendError, match="it is built again"):
        finalize.finalize(unpacked, quiet)
    assert finalize.finalize(unpacked, quiet)["passed"]
    assert graphs(double) == ["vocoder.onnx"]


def test_too_little_memory_to_run_judges_no_engine(unpacked, device, monkeypatch):
    double = device()
    monkeypatch.setattr(double.Engine, "_scratch", lambda engine, index: 6000 << 20)
    with pytest.raises(BackendError, match="cudaMalloc"):
        finalize.finalize(unpacked, quiet)
    assert [json.loads(one.read_text())["passed"] for one in plans.plan_folder().glob("*-*.json")] == [None] * 3


@pytest.mark.parametrize("engine", ["t2s", "vocoder"])
def test_a_wrong_golden_answer_fails_and_is_reported(unpacked, device, engine):
    device(wrong=[engine])
    report = finalize.finalize(unpacked, quiet)
    assert not report["passed"]
    stages = {one["stage"] for one in report["checks"] if one["status"] == "fail"}
    assert stages == ({"prefill", "step"} if engine == "t2s" else {"vocoder"})
    assert report["speed"] == {}  # what is wrong is not measured
    assert "FAILED" in finalize.summary(report)


@pytest.mark.parametrize("how", ["fails", "differs"])
def test_a_step_that_cannot_be_recorded_runs_plainly(unpacked, device, how):
    device(capture=how)
    report = finalize.finalize(unpacked, quiet)
    assert report["passed"]
    assert not report["recorded"]
    assert ("StreamEndCapture failed" if how == "fails" else "other numbers") in report["recorded_reason"]
    assert not report["speed"]["step_ms_graph"]["recorded"]


def test_tensorrt_8_gets_the_weak_graphs_with_their_single_layers(unpacked, device, built):
    double = device(version="8.5.2", cuda=11040, driver=11040)
    finalize.finalize(unpacked, quiet)
    recipe = json.loads((unpacked / "tensorrt.json").read_text())["engines"]
    for one in double.log():
        assert one["graph"].endswith(".trt8.onnx")
        assert one["flags"] == 1 << 0  # EXPLICIT_BATCH
        assert one["set"] == ["BuilderFlag.FP16", "BuilderFlag.OBEY_PRECISION_CONSTRAINTS"]
        assert one["level"] is None  # there is none before 8.6
        single = set(recipe[one["graph"].split(".")[0]]["single"])
        assert set(one["constrained"]) <= single
    assert len(double.log()[1]["constrained"]) > 20


def test_a_network_that_lost_the_names_of_its_layers_is_refused(unpacked, device, built):
    device(version="8.5.2", cuda=11040, driver=11040, nameless=True)
    with pytest.raises(BackendError, match="none of"):
        finalize.finalize(unpacked, quiet)


def test_tensorrt_11_needs_none_of_the_flags_that_it_removed(unpacked, device, built):
    double = device(version="11.4.1", cuda=13000, driver=13000)
    finalize.finalize(unpacked, quiet)
    assert [one["flags"] for one in double.log()] == [1 << 0] * 3  # STRONGLY_TYPED has another number there
    assert [one["set"] for one in double.log()] == [[]] * 3


def test_the_timing_cache_is_used_again_or_begun_anew(unpacked, device, built):
    double = device()
    finalize.finalize(unpacked, quiet)
    assert [one["timing"] for one in double.log()] == ["empty", "full", "full"]
    cache = next(plans.plan_folder().glob("timing-*.bin"))
    cache.write_bytes(b"times of another release")
    for plan in plans.plan_folder().glob("*.plan"):
        plan.unlink()
    report = finalize.finalize(unpacked, quiet)
    assert double.log()[3]["timing"] == "empty"
    assert report["engines"]["acoustic"]["timing_cache"] == "of another device"


def start(unpacked, tmp_path):
    """`finalize.py` of the artifact in a process of its own."""
    return subprocess.Popen(
        [sys.executable, str(unpacked / "finalize.py"), "-o", str(tmp_path / "report.json")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition):
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, "it did not come so far"
        time.sleep(0.05)


def test_after_a_power_cut_finished_engines_stay(unpacked, device, built, tmp_path):
    double = device(builds=["ok", "waits"])
    process = start(unpacked, tmp_path)
    wait_for(lambda: len(double.log()) == 2)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert len(list(plans.plan_folder().glob("*.plan"))) == 1
    lock = plans.plan_folder() / ".lock"
    assert lock.exists()
    double = device()
    finalize.finalize(unpacked, quiet)  # a builder that outlived its parent would still hold memory, not the lock
    assert graphs(double) == NAMES[1:]


def test_two_at_a_time_are_refused(unpacked, device, tmp_path):
    double = device(builds=["waits"])
    process = start(unpacked, tmp_path)
    wait_for(lambda: double.log())
    with pytest.raises(EnvironmentProblem, match="another gsvexport finalize"):
        finalize.finalize(unpacked, quiet)
    process.kill()
    process.communicate()


def test_the_script_in_the_artifact_needs_nothing_else(unpacked, device, tmp_path):
    double = device()
    before = sorted(path.name for path in unpacked.rglob("*"))
    code = "import sys, gsvexport; sys.exit(gsvexport.__file__ == sys.argv[1])"
    own = str(unpacked / "gsvexport" / "__init__.py")
    assert subprocess.run([sys.executable, "-c", code, own], cwd=unpacked, check=False).returncode == 1
    process = start(unpacked, tmp_path)
    out, progress = process.communicate(timeout=300)
    assert process.returncode == 0, progress
    assert "real-time factor" in out
    assert "attach it to an issue" in out
    assert graphs(double) == NAMES
    assert json.loads((tmp_path / "report.json").read_text())["device"]["name"] == "Orin"
    assert sorted(path.name for path in unpacked.rglob("*")) == before


def test_the_script_refuses_a_damaged_artifact(copy, device):
    device()
    (copy / "vocoder.onnx").write_bytes(b"x")
    done = subprocess.run([sys.executable, str(copy / "finalize.py")], capture_output=True, text=True, check=False)
    assert done.returncode == ArtifactError.exit_code
    assert "vocoder.onnx is missing or has changed" in done.stderr


def test_what_artifacts_carry_is_python_3_8_and_complete(unpacked):
    files = finalize.carried()
    for name, path in files.items():
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text, feature_version=(3, 8))
        assert (unpacked / name).read_text(encoding="utf-8") == text
        for line in tree.body:  # no alias of a generic type: those are subscripted when the module is imported
            made = ast.walk(line.value) if isinstance(line, ast.Assign) else ()
            names = {one.value.id for one in made if isinstance(one, ast.Subscript) and isinstance(one.value, ast.Name)}
            assert not names & {"Callable", "Mapping", "Sequence", "dict", "list", "tuple", "set", "type"}, name
        for node in ast.walk(tree):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for module in modules:
                assert module.split(".")[0] in {*sys.stdlib_module_names, "numpy", "gsvexport"}, (name, module)
            for keyword in getattr(node, "keywords", ()) if isinstance(node, ast.Call) else ():
                assert keyword.arg != "strict", f"{name}:{node.lineno}: zip(strict=) is Python 3.10"
            if isinstance(node, ast.Attribute):
                assert node.attr not in {"removeprefix", "removesuffix", "is_relative_to"}, f"{name}:{node.lineno}"


@pytest.mark.parametrize(
    ("version", "asked", "expected"),
    [
        ("8.5.2", ">=8.5.2,<8.6", True),
        ("8.6", ">=8.5.2,<8.6", False),
        ("10.16.2.10", ">=8.5.2,<11", True),
        ("10.3", ">=10.3.0,<11", True),
        ("11.0", ">=8.5.2,<11", False),
        ("10.3", "anything", False),
    ],
)
def test_versions_are_compared_place_by_place(version, asked, expected):
    assert fits(version, asked) is expected
