"""The bench on tiny voices: what it prints and returns, never how fast anything is."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from building import ROOT, gsvexport

from gsvexport.bench import Bench, Figure, Subject, bench
from gsvexport.bench import child as child_process
from gsvexport.bench.child import call, memory
from gsvexport.bench.machine import describe
from gsvexport.bench.work import convolution_macs, weight_bytes
from gsvexport.compiler.inputs import export_source
from gsvexport.errors import ArtifactError, BackendError, GsvError, InputError
from gsvexport.synthetic import write_voice

WORKLOAD = {"threads": 1, "runs": 2, "tokens": 6, "prompt": 4, "phones": 5}
FIGURES = {
    "load_s",
    "import_s",
    "prefill_s",
    "step_ms",
    "sampling_ms",
    "acoustic_s",
    "vocoder_s",
    "sovits_s",
    "sentence_s",
    "first_audio_s",
    "streamed_s",
    "rtf",
}
MEMORY = {"peak_mb", "anonymous_mb", "mapped_mb"}
LINUX = sys.platform == "linux"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    return export_source(write_voice(folder / "voice", "v2"), folder / "source").path


@pytest.fixture(scope="module")
def small(source):
    """Machine limits of small arrays: what is tested is not what they are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gsvexport.bench.call", _quick_limits)
        yield source


def _quick_limits(function, *, threads, **arguments):
    if function.endswith(":limits"):
        from gsvexport.bench import machine

        with pytest.MonkeyPatch.context() as patch:
            for name, value in (("_BYTES", 1 << 16), ("_SIDE", 16), ("_REPEAT", 2)):
                patch.setattr(machine, name, value)
            return machine.limits(threads)
    return call(function, threads=threads, **arguments)


@pytest.fixture(scope="module")
def measured(small):
    return bench(small, small, **WORKLOAD)


def test_every_quantity_is_measured_for_subject_and_baseline(measured):
    assert len(measured.subjects) == 2
    for subject in measured.subjects:
        assert set(subject.figures) == FIGURES | (MEMORY if LINUX else set())
        assert all(0 < figure.low <= figure.median <= figure.high for figure in subject.figures.values())
        assert subject.figures["step_ms"].n == 2 * 5  # the first of 6 codes comes from the prefill
        assert subject.figures["load_s"].n == 2
        assert subject.sizes["disk_mb"] > subject.sizes["weights_mb"] > 1
    assert measured.workload["audio_s"] == 6 / 25
    figures = measured.subjects[0].figures
    assert figures["rtf"].median == pytest.approx(figures["sentence_s"].median / (6 / 25))
    assert figures["first_audio_s"].high <= figures["streamed_s"].high
    parts = ("prefill_s", "acoustic_s", "vocoder_s")
    assert sum(figures[name].low for name in parts) < figures["sentence_s"].high


def test_the_json_has_a_fixed_form(measured):
    value = json.loads(json.dumps(measured.to_json(), allow_nan=False))
    assert set(value) == {
        "schema",
        "command",
        "machine",
        "workload",
        "subjects",
        "ratios",
        "limits",
        "method",
    }
    assert value["schema"] == 1
    assert set(value["subjects"][0]) == {"name", "role", "figures", "sizes", "work", "bounds"}
    assert set(value["subjects"][0]["figures"]["step_ms"]) == {"median", "p90", "low", "high", "n"}
    assert set(value["workload"]) == {*WORKLOAD, "audio_s"}
    assert set(value["limits"]) == {
        "read_gbs",
        "copy_gbs",
        "gemm_numpy_gmacs",
        "gemm_fp32_gmacs",
        "gemm_int8_gmacs",
    }
    assert set(value["subjects"][0]["bounds"]) == {"step_at_least_ms", "vocoder_at_least_s"}
    assert {"cpu", "arch", "features", "cores", "load", "onnxruntime", "numpy"} <= set(value["machine"])


def test_the_table_shows_all_of_it_with_units_in_columns(measured):
    text = measured.table()
    lines = text.splitlines()
    assert lines[0] == f"$ {measured.command}"
    header = next(line for line in lines if "median" in line)
    assert header.split() == ["unit", "median", "p90", "range", "n", "baseline", "range", "ratio"]
    for title in ("load, memory-mapped", "step", "vocoder", "RTF", "on disk", "memory read", "vocoder at least"):
        row = next(line for line in lines if line.startswith(title + "  "))
        assert re.match(r"\S+$", row[30:37].strip()), row  # the unit
        assert float(row[37:45]) >= 0, row
    assert max(map(len, lines[1:])) <= 120
    assert "one piece" in text


def test_the_command_reproduces_every_option(measured, small):
    assert measured.command == (
        f"gsvexport bench {small} --baseline {small} --threads 1 --runs 2 --tokens 6 --prompt 4 --phones 5"
    )


def _hand_made(step, baseline=None):
    def one(name, median):
        return Subject(
            name,
            {"step_ms": Figure.of([median])},
            {"disk_mb": 10.0 * median},
            {"step_read_mb": 60.0, "vocoder_float_gmac": 8.0, "vocoder_integer_gmac": 20.0},
        )

    return Bench(
        "gsvexport bench",
        {**describe(), "cpu": "c"},
        {**WORKLOAD, "audio_s": 1.0},
        (one("a", step), one("b", baseline)) if baseline else (one("a", step),),
        {
            name: Figure.of([rate / 2, rate])
            for name, rate in {
                "read_gbs": 20.0,
                "copy_gbs": 9.0,
                "gemm_numpy_gmacs": 30.0,
                "gemm_fp32_gmacs": 40.0,
                "gemm_int8_gmacs": 100.0,
            }.items()
        },
    )


def test_a_ratio_is_how_many_times_as_much_the_baseline_takes():
    found = _hand_made(5.0, baseline=30.0)
    assert found.ratios == {"step_ms": 6.0, "disk_mb": 6.0}
    row = next(line for line in found.table().splitlines() if line.startswith("step "))
    assert row.endswith(" 6.00")


def test_without_a_baseline_there_are_no_ratios():
    found = _hand_made(5.0)
    assert found.ratios == {}
    assert "ratio" not in found.table()


def test_bounds_are_work_over_the_best_that_the_machine_did():
    found = _hand_made(5.0)
    bounds = found.bounds(found.subjects[0])
    assert bounds == {"step_at_least_ms": 3.0, "vocoder_at_least_s": pytest.approx(8 / 40 + 20 / 100)}


def test_figures_are_median_ninetieth_percentile_and_range():
    assert Figure.of([3.0, 1.0, 2.0]) == Figure(2.0, 3.0, 1.0, 3.0, 3)
    assert Figure.of(list(range(1, 101))) == Figure(50.5, 90, 1, 100, 100)
    assert Figure.of_groups([[1.0, 2.0, 9.0], [4.0, 5.0, 6.0]]) == Figure(4.5, 9.0, 2.0, 5.0, 6)


def test_work_is_counted_in_the_graph(tmp_path):
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def weights(name, *shape, dtype=np.float32):
        return numpy_helper.from_array(np.zeros(shape, dtype), name)

    nodes = [
        helper.make_node("Conv", ["latent", "w"], ["a"], pads=[1, 1]),  # 1·8·4·3 a frame
        helper.make_node("ConvTranspose", ["a", "t"], ["b"], strides=[2], pads=[1, 1]),  # 8·2·4 a frame
        helper.make_node("QuantizeLinear", ["b", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        helper.make_node("Conv", ["d", "v"], ["e"]),  # 1·2 for each of 2F
        helper.make_node("Gather", ["table", "row"], ["g"]),
        helper.make_node("Add", ["e", "g"], ["audio"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("latent", TensorProto.FLOAT, [1, 4, "F"])],
        [helper.make_tensor_value_info("audio", TensorProto.FLOAT, [1, 1, "N"])],
        [
            weights("w", 8, 4, 3),
            weights("t", 8, 2, 4),
            weights("v", 1, 2, 1),
            weights("table", 9, 1),
            numpy_helper.from_array(np.array(1.0, np.float32), "scale"),
            numpy_helper.from_array(np.array(0, np.uint8), "zero"),
            numpy_helper.from_array(np.array([0]), "row"),
        ],
    )
    path = tmp_path / "vocoder.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    assert convolution_macs(path, {"F": 10}) == (10 * (8 * 4 * 3 + 8 * 2 * 4), 2 * 10 * 2)
    assert weight_bytes(path) == 4 * (8 * 4 * 3 + 8 * 2 * 4 + 2 + 1) + 1 + 8  # without the table


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"tokens": 0}, ["tokens = 0; it must be 2 to 1500"]),
        ({"tokens": 9999}, ["tokens = 9999"]),
        ({"prompt": 4000}, ["prompt = 4000; it must be 0 to 3998"]),
        ({"prompt": 3990, "tokens": 20}, ["tokens = 20; it must be 2 to 10"]),
        ({"phones": 0, "runs": 0, "threads": 0, "prompt": -1}, ["phones", "runs", "threads", "prompt = -1"]),
    ],
)
def test_lengths_that_no_voice_takes_are_refused_all_at_once(source, wrong, says):
    with pytest.raises(InputError) as error:
        bench(source, **{**WORKLOAD, **wrong})
    assert len(error.value.problems) == len(says)
    for problem, words in zip(sorted(error.value.problems), sorted(says), strict=True):
        assert words in problem


def test_what_is_no_artifact_is_refused(source, tmp_path):
    (tmp_path / "text.gsv").write_text("hello")
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "text.gsv", tmp_path / "empty"):
        with pytest.raises(ArtifactError):
            bench(path, **WORKLOAD)
        with pytest.raises(ArtifactError):
            bench(source, path, **WORKLOAD)
    with pytest.raises(InputError, match="does not exist"):
        bench(tmp_path / "nothing.gsv", **WORKLOAD)


def test_an_artifact_for_another_machine_is_refused_unless_any_is_taken(small, monkeypatch):
    def refuse(target, where):
        raise ArtifactError(f"{where} was made for another machine")

    monkeypatch.setattr("gsvexport.bench.check_machine", refuse)
    proven = SimpleNamespace(manifest=SimpleNamespace(target={}, stages={}))
    with monkeypatch.context() as patch:
        patch.setattr("gsvexport.artifact.trust.prove", lambda path, key: proven)
        _refused_unless_any_is_taken(small)


def _refused_unless_any_is_taken(small):
    manifest = small / "manifest.json"
    manifest.write_text("{}")
    try:
        with pytest.raises(ArtifactError, match="another machine"):
            bench(small, **WORKLOAD)
        with pytest.raises(GsvError, match="manifest"):  # it is run, and this one is none
            bench(small, any_machine=True, **WORKLOAD)
    finally:
        manifest.unlink()


def test_a_voice_that_fails_while_it_is_measured_is_named_with_its_own_words(source, tmp_path):
    broken = shutil.copytree(source, tmp_path / "broken")
    (broken / "vocoder.onnx").write_bytes(b"no graph")
    with pytest.raises(BackendError, match="broken") as error:
        bench(broken, **WORKLOAD)
    assert "vocoder.onnx" in str(error.value)


@pytest.mark.parametrize(
    ("function", "says"),
    [("gsvexport.bench.nowhere:measure", "No module named"), ("gsvexport.bench.child:vanish", "has no attribute")],
)
def test_a_process_that_dies_is_reported_with_its_last_words(function, says):
    with pytest.raises(BackendError, match="ended with code 1") as error:
        call(function, threads=1)
    assert says in str(error.value)


@pytest.mark.skipif(not LINUX, reason="signals")
def test_a_process_that_is_killed_is_reported_with_its_signal(monkeypatch):
    monkeypatch.setattr(child_process, "_CHILD", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(BackendError, match="SIGKILL") as error:
        call("gsvexport.bench.subject:measure", threads=1, folder="voices/alice")
    assert "voices/alice" in str(error.value)
    assert "memory" in str(error.value)


@pytest.mark.skipif(not LINUX, reason="/proc")
def test_memory_is_the_childs_own(source):
    code = "import json; from gsvexport.bench.child import memory; print(json.dumps(memory()))"
    block = np.ones(30_000_000)  # 240 MB of this process
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=ROOT)
    found = json.loads(done.stdout)
    assert found["peak_mb"] < 150 < memory()["anonymous_mb"]
    assert block[0] == 1


def test_the_command_line_prints_the_table_or_json(source, tmp_path):
    options = ("--threads", 1, "--runs", 1, "--tokens", 3, "--prompt", 0, "--phones", 4)
    done = gsvexport(tmp_path, "bench", source, *options, "--json")
    assert done.returncode == 0, done.stderr
    assert "run 1 of 1: source" in done.stderr
    value = json.loads(done.stdout)
    assert [one["name"] for one in value["subjects"]] == ["source"]
    assert value["workload"]["prompt"] == 0
    done = gsvexport(tmp_path, "bench", tmp_path / "nothing", *options)
    assert done.returncode == 2
    assert "does not exist" in done.stderr
