"""NVIDIA's own builder as a level of an artifact's proof: what it says, what is kept of that, and what is not."""

import json
import sys
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import pytest

from gsvexport.artifact import container
from gsvexport.backends.tensorrt import builder, building, compiled, rtx
from gsvexport.compiler import pack
from gsvexport.compiler.store import Store
from gsvexport.errors import EnvironmentProblem
from gsvexport.verify.depth import Depth, insist
from gsvexport.verify.report import Report

REAL = rtx.installed()[1] == ""
needs_library = pytest.mark.skipif(not REAL, reason=rtx.installed()[1] or "-")
# Kernels of one code of the tiny voice, as tensorrt_rtx 1.7.1 compiles them: more of them is a slower voice.
STEP_KERNELS = {"": 35, "in-place": 25}


def quiet(text):
    pass


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("verdicts"))


@pytest.fixture(scope="module")
def manifest(unpacked):
    return container.read_manifest(unpacked)


@pytest.fixture(scope="module")
def rows(unpacked, manifest, store):
    return list(compiled.judge(unpacked, manifest, store.obtain, quiet))


@pytest.fixture
def scripted(monkeypatch):
    """`scripted(answers)`: what one builder process after the other says; the list of what they were asked."""
    asked = []

    def play(*answers):
        told = iter(answers)

        def child(request, log, name, say):
            asked.append(request)
            answer = next(told)
            if "done" in answer:
                Path(request["plan"]).write_bytes(b"plan")
            return answer

        monkeypatch.setattr(building, "child", child)
        monkeypatch.setattr(rtx, "installed", lambda: ("1.7.1", ""))
        return asked

    return play


def engine(**more):
    told = {"kernels": {}, "kernels_of_all": 9, "scratch": {"p": 1000}, "weights": 100, "half_share": 1.0, "ports": 3}
    return {"done": {"layers": 5, "cpu": 1.0, "peak_mb": 9.0, "engine": {**told, "host_ports": [], **more}}}


def some(recipe):
    """The first form of `tensorrt.json`."""
    return next(compiled.forms(json.loads((recipe / "tensorrt.json").read_text())))


def hashes(manifest):
    return {name: one.sha256 for name, one in manifest.members.items()}


@needs_library
def test_every_graph_of_an_artifact_is_built_and_told_of(rows):
    stages = {"prefill", "step", "acoustic", "vocoder"}
    built = {(stage, form) for stage, metric, value, _, _, form in rows if metric == "compiled" and value == 1}
    assert {stage for stage, form in built if not form} == {*stages, "engine"}
    assert {stage for stage, form in built if form == "in-place"} == {"prefill", "step"}
    assert {stage for stage, metric, value, *_ in rows if metric == "parsed" and value == 1} == stages
    assert not [row for row in rows if row[2] in (0, None)]
    text = next(row[4] for row in rows if row[:2] == ("acoustic", "compiled"))
    for word in ("layers", "kernels in", "weights", "plan", "FP16 in", "7 ports", "7.5, 8.0, 8.6, 8.9, 12.0", "8.7"):
        assert word in text


@needs_library
def test_a_step_has_no_more_kernels_than_it_had(rows):
    found = {form: value for stage, metric, value, _, _, form in rows if (stage, metric) == ("step", "kernels")}
    assert found.keys() == STEP_KERNELS.keys()
    for form, limit in STEP_KERNELS.items():
        assert found[form] <= limit, f"{form or 'read-only'}: {found[form]:.0f} kernels a step, {limit} were recorded"
    assert found["in-place"] < found[""]


@needs_library
def test_what_was_judged_is_not_built_again_for_another_target(rows, unpacked, manifest, store, scripted):
    asked = scripted()  # nothing is answered
    target = {**manifest.target, "name": "rtx-4090", "device": {**manifest.target["device"]}}
    target["device"]["gpu"] = {"compute_capability": "8.9", "memory_mb": 24576, "bandwidth_gbs": 1008}
    import importlib.metadata

    assert importlib.metadata.version(rtx.DISTRIBUTION)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rtx, "installed", lambda: (importlib.metadata.version(rtx.DISTRIBUTION), ""))
        again = list(compiled.judge(unpacked, replace(manifest, target=target), store.obtain, quiet))
    assert asked == []
    assert [row[:4] for row in again] == [row[:4] for row in rows]
    assert "it does not know" not in again[0][4]


@needs_library
def test_what_has_no_product_for_turing_is_built_for_the_others(tmp_path):
    import onnx

    text = '<ir_version: 9, opset_import: ["": 20]> g (float[4,64] x) => (float[4,64] y) { y = MatMul(x, w) }'
    model = onnx.parser.parse_model(text)
    import numpy as np

    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((64, 64), np.float32), "w"))
    (tmp_path / "head.onnx").write_bytes(model.SerializeToString())
    form = compiled.Form("", "head.onnx", {"profiles": [], "half": 0.0}, ("reference",))
    verdict = compiled._judged(tmp_path, form, tmp_path, quiet)
    assert verdict["refused"] == ""
    assert verdict["capabilities"] == ["8.0", "8.6", "8.9", "12.0"]
    assert "Turing" in verdict["without"]["7.5"]
    on = {"device": {"gpu": {"compute_capability": "7.5"}}}
    [row] = [row for row in compiled._rows(form, verdict, on) if row[1] == "compiled"]
    assert row[2] is None  # neither a pass nor a fault: TensorRT itself has such a product
    assert "not for 7.5" in row[4]


def test_a_builder_that_was_killed_judged_nothing_and_is_asked_again(unpacked, manifest, tmp_path, scripted):
    killed = {"failed": "killed", "problems": ["the builder was killed by SIGKILL"]}
    store, form = Store(tmp_path / "store"), some(unpacked)
    asked = scripted(killed, {"failed": "crashed", "problems": ["it ended with code 1"]}, engine(), engine())
    for _ in range(2):
        with pytest.raises(compiled.BackendError, match="did not finish"):
            compiled.verdict_of(unpacked, form, hashes(manifest), "1.7.1", store.obtain, quiet)
    for _ in range(2):
        verdict = compiled.verdict_of(unpacked, form, hashes(manifest), "1.7.1", store.obtain, quiet)
        assert verdict["refused"] == ""
    assert len(asked) == 3  # the second verdict was kept, and another release would not use it
    compiled.verdict_of(unpacked, form, hashes(manifest), "1.8", store.obtain, quiet)
    assert len(asked) == 4


def test_a_refusal_is_a_verdict_with_the_parsers_words(unpacked, manifest, tmp_path, scripted):
    asked = scripted(*[{"failed": "graph", "problems": ["Conv_1: must be of same type"]}] * 9)
    rows = list(compiled.judge(unpacked, manifest, Store(tmp_path / "store").obtain, quiet))
    assert {row[2] for row in rows} == {0.0}
    assert all("Conv_1: must be of same type" in row[4] for row in rows)
    assert not [row for row in rows if row[0] == "engine"]  # what was not built has no size
    count = len(asked)
    assert list(compiled.judge(unpacked, manifest, Store(tmp_path / "store").obtain, quiet)) == rows
    assert len(asked) == count


@pytest.mark.parametrize(
    ("told", "text"),
    [({"host_ports": ["cached"]}, "cached lies on the host"), ({"half_share": 0.1}, "FP16 in 0.1 of its kernels")],
)
def test_an_engine_with_a_fault_that_finalize_would_find_is_a_fault_here(
    unpacked, manifest, tmp_path, scripted, told, text
):
    scripted(engine(**told))
    form = some(unpacked)
    verdict = compiled.verdict_of(unpacked, form, hashes(manifest), "1.7.1", Store(tmp_path / "s").obtain, quiet)
    value, said = next(row[2::2] for row in compiled._rows(form, verdict, manifest.target))
    assert value == 0
    assert text in said


def test_what_does_not_fit_the_device_is_told_with_its_parts(unpacked, manifest, tmp_path, scripted):
    scripted(*[engine(scratch={"p": 1_500_000_000}, weights=300_000_000)] * 9)
    rows = list(compiled.judge(unpacked, manifest, Store(tmp_path / "store").obtain, quiet))
    [row] = [row for row in rows if row[0] == "engine"]
    assert row[2] == 0  # of the 4096 MB of an Orin Nano half is for engines
    assert "weights 900 + scratch 1500 + cache" in row[4]
    assert "of 4096 MB" in row[4]


@pytest.mark.parametrize(("found", "text"), [(None, "is not installed"), ("1.5.0", "older than 1.7")])
def test_without_the_package_nothing_is_judged_and_requiring_it_fails(
    unpacked, manifest, tmp_path, monkeypatch, found, text
):
    def version(name):
        if found is None:
            raise PackageNotFoundError(name)
        return found

    monkeypatch.setattr(rtx, "version", version)
    rows = list(compiled.judge(unpacked, manifest, Store(tmp_path / "store").obtain, quiet))
    assert {(row[1], row[2]) for row in rows} == {("compiled", None)}
    assert all(text in row[4] and "pip install 'gsvexport[nvidia-check]'" in row[4] for row in rows)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "tensorrt_rtx", found and SimpleNamespace(__version__=found))
        with pytest.raises(EnvironmentProblem, match=r"cannot be loaded|is 1\.5\.0"):
            rtx.adapter(["8.9"])
    monkeypatch.setenv("GSVEXPORT_CACHE", str(tmp_path))
    checks, name = pack._compiled(unpacked, manifest, quiet)
    assert name is None
    assert [(one.metric, one.status) for one in checks] == [("compiled", "not_run")] * 4
    strict = insist(Report(tuple(checks)), Depth(required=("compiled",)).required)
    assert [one.status for one in strict.checks] == ["fail"] * 4
    assert all("required, but not run" in one.reason for one in strict.checks)


def test_a_refused_graph_fails_the_report_by_name(unpacked, manifest, tmp_path, monkeypatch, scripted):
    monkeypatch.setenv("GSVEXPORT_CACHE", str(tmp_path / "cache"))
    scripted(*[engine()] * 2, *[{"failed": "graph", "problems": ["head/MatMul: must have same input types"]}] * 9)
    checks, name = pack._compiled(unpacked, manifest, quiet)
    assert name == "tensorrt-rtx 1.7.1, no GPU"
    report = Report(tuple(checks), compiled=name)
    assert not report.passed
    assert "head/MatMul" in report.failures[0].reason
    assert report.failures[0].against.startswith(name)
    assert Report.from_json(report.to_json()) == report
    assert f"compiled: {name}" in report.table()
    alone = Report(tuple(one for one in checks if one.status == "pass"), compiled=name)
    assert not alone.passed  # a compiler proves no numbers


def test_a_full_disk_is_the_machines_fault_and_ends_the_attempts(monkeypatch, capsys):
    import io

    def build(trt, request, say):
        raise EnvironmentProblem("the disk is full while writing engine.plan", fix="free some space")

    monkeypatch.setattr(builder, "build", build)
    monkeypatch.setattr(builder, "import_tensorrt", lambda: None)
    monkeypatch.setattr(builder.sys, "stdin", io.StringIO("{}"))
    builder.main()
    answer = json.loads(capsys.readouterr().out)
    assert answer["failed"] == "machine"
    assert "the disk is full" in answer["problems"][0]
    assert building.Ladder(1 << 30, 4 << 30).after("machine") is None


def test_an_interruption_ends_the_builder_and_leaves_nothing(unpacked, manifest, tmp_path, monkeypatch):
    killed = []

    class Process:
        stdin = stdout = None
        returncode = -9

        def kill(self):
            killed.append(True)

        def wait(self):
            return -9

    def listen(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(building, "_listen", listen)
    monkeypatch.setattr(building.subprocess, "Popen", lambda *arguments, **more: Process())
    store = Store(tmp_path / "store")
    with pytest.raises(KeyboardInterrupt):
        compiled.verdict_of(unpacked, some(unpacked), hashes(manifest), "1.7.1", store.obtain, quiet)
    assert killed
    assert store.entries() == []
    assert not list((tmp_path / "store").glob("*.partial"))
