"""What is asked of Qualcomm's compiler and emulation, and what is not believed: of a double, and of the real one."""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from gsvexport.backends.qnn import vendor
from gsvexport.backends.qnn.chips import Chip, chips, problems
from gsvexport.errors import BackendError, InputError
from gsvexport.system import vendor as process
from gsvexport.system.patience import seconds_of

DOUBLE = Path(__file__).with_name("qnn_double.py")
CHIP = chips()["SM8650"]
SHAPE = (1, 16, 1, 64)


@pytest.fixture
def graph(tmp_path):
    return convolution(tmp_path / "vocoder.onnx", SHAPE)


def convolution(path, shape, outputs=8):
    weight = (np.random.default_rng(0).standard_normal((outputs, shape[1], 1, 3)) / 7).astype(np.float32)
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[1, 3], pads=[0, 1, 0, 1])
    ports = [onnx.helper.make_tensor_value_info(name, 1, one) for name, one in (("x", shape), ("y", None))]
    made = onnx.helper.make_graph([node], "g", ports[:1], ports[1:], [onnx.numpy_helper.from_array(weight, "w")])
    onnx.save(onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def double(monkeypatch, tmp_path):
    def choose(how="fine"):
        monkeypatch.setattr(vendor, "COMMAND", (sys.executable, str(DOUBLE), how, str(tmp_path / "log")))
        return tmp_path / "log"

    return choose


@pytest.fixture(params=["double", "real"])
def tool(request, double):
    """The double and the real one: both have to behave as the tests say."""
    if request.param == "real":
        request.getfixturevalue("real")
    else:
        double()
    return request.param


def silent(text):
    pass


def test_what_is_compiled_is_run_as_it_was_compiled(tool, graph, tmp_path):
    context, told = tmp_path / "context.onnx", []
    assert vendor.compile_for(graph, context, CHIP, told.append) == "2.51.0"
    x = np.random.default_rng(2).standard_normal((2, *SHAPE)).astype(np.float32)
    found = vendor.emulate(context, [{"x": one} for one in x], CHIP, told.append)
    plain = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    for one, got in zip(x, found, strict=True):
        np.testing.assert_allclose(plain.run(None, {"x": one})[0], got, atol=5e-3)
    assert not np.array_equal(*found)
    assert any("compiling vocoder for SM8650" in text for text in told)
    assert any("emulating context on SM8650" in text for text in told)


def test_the_same_graph_gives_the_same_bytes(tool, graph, tmp_path):
    made = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        beside = tmp_path / name / graph.name
        beside.write_bytes(graph.read_bytes())
        vendor.compile_for(beside, tmp_path / name / "context.onnx", CHIP, silent)
        made.append((tmp_path / name / "context.onnx").read_bytes())
    assert made[0] == made[1]
    assert str(tmp_path).encode() not in made[0]


def test_an_architecture_that_the_compiler_does_not_know_is_noticed(tool, graph, tmp_path):
    with pytest.raises(BackendError, match="architecture 0, chip number 57; SM9999 is architecture 77"):
        vendor.compile_for(graph, tmp_path / "context.onnx", Chip("SM9999", 77, 57), silent)


def test_a_chip_that_the_compiler_does_not_know_is_refused_by_it(tool, graph, tmp_path):
    with pytest.raises(BackendError, match="Qualcomm's tool failed with code 1"):
        vendor.compile_for(graph, tmp_path / "context.onnx", Chip("SM9999", 75, 9999), silent)


def test_a_free_axis_is_refused(tool, tmp_path):
    graph = convolution(tmp_path / "vocoder.onnx", (1, 16, 1, "T"))
    with pytest.raises(BackendError, match="failed with code 1"):
        vendor.compile_for(graph, tmp_path / "context.onnx", CHIP, silent)


def test_a_context_of_a_newer_architecture_does_not_run(tool, graph, tmp_path):
    vendor.compile_for(graph, tmp_path / "context.onnx", chips()["SM8850"], silent)
    with pytest.raises(BackendError, match="failed with code 1"):
        vendor.emulate(tmp_path / "context.onnx", [{"x": np.zeros(SHAPE, np.float32)}], CHIP, silent)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("crash", r"died of signal 11 \(SIGSEGV\)"),
        ("fail", "failed with code 1(.|\n)*QNN SetupBackend failed"),
        ("silent", "ended without an error and wrote no context"),
        ("empty", "wrote no context"),
        ("other", "not what Qualcomm's compiler was asked for: it is for architecture 73"),
    ],
)
def test_a_compiler_that_misbehaves_is_told_of(how, words, double, graph, tmp_path):
    double(how)
    (tmp_path / "context.onnx").write_bytes(b"of another build")
    with pytest.raises(BackendError, match=words) as caught:
        vendor.compile_for(graph, tmp_path / "context.onnx", CHIP, silent)
    assert "\x1b" not in str(caught.value)


def test_an_emulation_without_a_result_is_told_of(double, graph):
    double("mute")
    with pytest.raises(BackendError, match="gave no result"):
        vendor.emulate(graph, [{"x": np.zeros(SHAPE, np.float32)}], CHIP, silent)


def test_a_compiler_that_hangs_is_stopped(double, graph, tmp_path, monkeypatch):
    log, told = double("hang"), []
    monkeypatch.setenv(vendor.TOOL.variable, "1")
    started = time.monotonic()
    with pytest.raises(BackendError, match=r"no end after 1 s(.|\n)*GSVEXPORT_QNN_SECONDS"):
        vendor.compile_for(graph, tmp_path / "context.onnx", CHIP, told.append)
    assert time.monotonic() - started < 30
    assert len(log.read_text().splitlines()) == 1
    assert told[0] == "compiling vocoder for SM8650, 0 s of at most 1"


def test_ctrl_c_leaves_no_compiler_behind(double, graph, tmp_path, monkeypatch):
    double("hang")
    processes = []
    popen = process.subprocess.Popen
    monkeypatch.setattr(process.subprocess, "Popen", lambda *a, **k: processes.append(popen(*a, **k)) or processes[-1])

    def interrupt(text):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vendor.compile_for(graph, tmp_path / "context.onnx", CHIP, interrupt)
    assert processes[0].poll() is not None
    with pytest.raises(ProcessLookupError):
        os.kill(processes[0].pid, 0)


@pytest.mark.parametrize("text", ["", "0", "-1", "soon", "inf", "nan"])
def test_a_limit_that_is_none_is_refused(text, monkeypatch):
    monkeypatch.setenv(vendor.TOOL.variable, text)
    with pytest.raises(InputError, match=vendor.TOOL.variable):
        seconds_of(vendor.TOOL.variable, vendor.TOOL.seconds)


def test_the_tool_is_told_which_chip(double, graph, tmp_path):
    log = double()
    vendor.compile_for(graph, tmp_path / "context.onnx", CHIP, silent)
    assert json.loads(log.read_text()) == [
        *("compile", str(graph), str(tmp_path / "context.onnx")),
        *("htp_arch=75", "soc_model=57"),
    ]


def test_a_file_that_is_no_context_is_refused(graph, tmp_path):
    with pytest.raises(BackendError, match="not everything is in one context"):
        vendor.about(graph)
    (tmp_path / "noise").write_bytes(b"\xff" * 100)
    with pytest.raises(BackendError, match="cannot be read as ONNX"):
        vendor.about(tmp_path / "noise")


def test_an_unknown_chip_gets_the_nearest_name():
    assert problems({"npu": {"chip": "SM8650"}}) == []
    assert "did you mean SM8650?" in problems({"npu": {"chip": "sm865"}})[0]
    assert "there are: SM8450" in problems({"npu": {"chip": "Tensor G4"}})[0]
    assert "[device.npu]" in problems({"npu": None})[0]
