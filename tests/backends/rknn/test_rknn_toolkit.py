"""What is asked of Rockchip's toolkit, and what is not believed: of a double, and of the real one."""

import json
import os
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from gsvexport.backends.rknn import place
from gsvexport.backends.rknn.chips import problems
from gsvexport.backends.rknn.placement import parse, read_log
from gsvexport.backends.rknn.toolkit import TOOL, Toolkit, same
from gsvexport.errors import ArtifactError, BackendError, EnvironmentProblem
from gsvexport.system import vendor as process

SHAPE = (1, 16, 1, 64)


def convolution(path, shape=SHAPE, name="x"):
    weight = (np.random.default_rng(0).standard_normal((8, shape[1], 1, 3)) / 7).astype(np.float32)
    node = onnx.helper.make_node("Conv", [name, "w"], ["y"], kernel_shape=[1, 3], pads=[0, 1, 0, 1])
    ports = [onnx.helper.make_tensor_value_info(one, 1, axes) for one, axes in ((name, shape), ("y", None))]
    made = onnx.helper.make_graph([node], "g", ports[:1], ports[1:], [onnx.numpy_helper.from_array(weight, "w")])
    onnx.save(onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def graph(tmp_path):
    return convolution(tmp_path / "vocoder.onnx")


def test_what_is_compiled_is_placed_and_its_graph_simulated(tool, graph, tmp_path):
    told = []
    x = np.random.default_rng(2).standard_normal((2, *SHAPE)).astype(np.float32)
    with Toolkit(told.append) as toolkit:
        placed = toolkit.build(graph, tmp_path / "vocoder.rknn", "rk3588")
        found = toolkit.run([{"x": one} for one in x])
    exact = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    for one, got in zip(x, found, strict=True):
        np.testing.assert_allclose(exact.run(None, {"x": one})[0], got, atol=5e-3)
    assert not np.array_equal(*found)
    assert [one.kind for one in placed.operators if one.macs] == ["Conv"]
    assert placed.mapped_share == 1
    assert placed.cycles > 0
    assert told[0].startswith("compiling vocoder for rk3588, 0 s of at most 1800")
    assert any("simulating vocoder for rk3588" in text for text in told)
    assert not list(Path(toolkit._work.parent).glob(toolkit._work.name))


def test_the_same_graph_gives_the_same_file_but_for_what_is_never_set(tool, graph, tmp_path):
    for name in ("a", "b"):
        with Toolkit() as toolkit:
            toolkit.build(graph, tmp_path / name, "rk3576")
    assert same(tmp_path / "a", tmp_path / "b")
    made = (tmp_path / "a").read_bytes()
    assert b"gsvexport-rknn-" not in made
    assert str(tmp_path).encode() not in made
    at = len(made) - 8000  # more than is ever left unset, changed
    (tmp_path / "b").write_bytes(made[:at] + bytes(255 - one for one in made[at:][:6000]) + made[at + 6000 :])
    assert not same(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b").write_bytes(made + b"x")
    assert not same(tmp_path / "a", tmp_path / "b")


def test_a_chip_that_the_toolkit_does_not_know_is_refused_by_it(tool, graph, tmp_path):
    with Toolkit() as toolkit, pytest.raises(BackendError, match=r"Rockchip's toolkit failed(.|\n)*config"):
        toolkit.build(graph, tmp_path / "vocoder.rknn", "rk9999")


def test_a_free_axis_is_refused(tool, tmp_path):
    graph = convolution(tmp_path / "vocoder.onnx", (1, 16, 1, "T"))
    with Toolkit() as toolkit, pytest.raises(BackendError, match=r"Rockchip's toolkit failed(.|\n)*load_onnx"):
        toolkit.build(graph, tmp_path / "vocoder.rknn", "rk3588")


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("crash", r"died of signal 11 \(SIGSEGV\)"),
        ("end", "failed with code 1(.|\n)*the graph is not liked"),
        ("babble", "answered what is no answer"),
        ("silent", "ended without an error and wrote no file"),
        ("empty", "wrote no file"),
        ("noise", "does not begin as an .rknn file"),
        ("other", "it is for rk3562, and not for rk3588"),
        ("rows", "does not say what runs where"),
        ("old", "says that it is 2.4.0, and not 2.5.0"),
    ],
)
def test_a_compiler_that_misbehaves_is_told_of(how, words, double, graph, tmp_path):
    double(how)
    with Toolkit() as toolkit, pytest.raises(BackendError, match=words) as caught:
        toolkit.build(graph, tmp_path / "vocoder.rknn", "rk3588")
    assert "\x1b" not in str(caught.value)
    assert not (tmp_path / "vocoder.rknn").exists()


def test_a_simulator_without_a_result_is_told_of(double, graph, tmp_path):
    double("mute")
    with Toolkit() as toolkit:
        toolkit.build(graph, tmp_path / "vocoder.rknn", "rk3588")
        with pytest.raises(BackendError, match="gave no result"):
            toolkit.run([{"x": np.zeros(SHAPE, np.float32)}])


def test_a_compiler_that_hangs_is_stopped(double, graph, tmp_path, monkeypatch):
    asked, told = double("hang"), []
    monkeypatch.setenv(TOOL.variable, "2")
    started = time.monotonic()
    with (
        pytest.raises(BackendError, match=r"no end after 2 s(.|\n)*GSVEXPORT_RKNN_SECONDS"),
        Toolkit(told.append) as toolkit,
    ):
        toolkit.build(graph, tmp_path / "vocoder.rknn", "rk3588")
    assert time.monotonic() - started < 30
    assert told[0] == "compiling vocoder for rk3588, 0 s of at most 2"
    assert json.loads(asked.read_text())["chip"] == "rk3588"


def test_a_voice_as_an_input_never_ends_and_is_stopped(tool, tmp_path, monkeypatch):
    """Why `ge` is a constant."""
    monkeypatch.setenv(TOOL.variable, "2" if tool == "double" else "40")
    draw = np.random.default_rng(0)
    weights = {"w": draw.standard_normal((8, 16, 1)), "v": draw.standard_normal((8, 16, 1, 3))}
    nodes = [
        onnx.helper.make_node("Conv", ["ge", "w"], ["c"], kernel_shape=[1]),
        onnx.helper.make_node("Unsqueeze", ["c", "axes"], ["c2"]),
        onnx.helper.make_node("Conv", ["x", "v"], ["a"], kernel_shape=[1, 3], pads=[0, 1, 0, 1]),
        onnx.helper.make_node("Add", ["a", "c2"], ["y"]),
    ]
    ports = [
        onnx.helper.make_tensor_value_info(*one) for one in (("x", 1, SHAPE), ("ge", 1, (1, 16, 1)), ("y", 1, None))
    ]
    held = [onnx.numpy_helper.from_array(one.astype(np.float32), name) for name, one in weights.items()]
    held.append(onnx.numpy_helper.from_array(np.array([2]), "axes"))
    made = onnx.helper.make_graph(nodes, "g", ports[:2], ports[2:], held)
    onnx.save(
        onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), tmp_path / "g"
    )
    with pytest.raises(BackendError, match="so it was stopped"), Toolkit() as toolkit:
        toolkit.build(tmp_path / "g", tmp_path / "vocoder.rknn", "rk3588")


def test_ctrl_c_leaves_no_compiler_behind(double, graph, tmp_path, monkeypatch):
    double("hang")
    processes = []
    popen = process.subprocess.Popen
    monkeypatch.setattr(process.subprocess, "Popen", lambda *a, **k: processes.append(popen(*a, **k)) or processes[-1])

    def interrupt(text):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Toolkit(interrupt) as toolkit:
        toolkit.build(graph, tmp_path / "vocoder.rknn", "rk3588")
    assert processes[0].poll() is not None
    with pytest.raises(ProcessLookupError):
        os.kill(processes[0].pid, 0)


@pytest.mark.parametrize(
    ("installed", "words"),
    [(None, "is not there"), ("", "is not installed for"), ("2.4.1", "2.4.1 is installed for .*, and 2.5.0 is what")],
)
def test_a_toolkit_that_is_absent_or_another_is_told_of(installed, words, tmp_path, monkeypatch):
    there = tmp_path / "bin/python"
    monkeypatch.setenv(place.VARIABLE, str(there))
    if installed is not None:
        there.parent.mkdir()
        there.write_text("")
        packages = tmp_path / "lib/python3.11/site-packages"
        (packages / f"rknn_toolkit2-{installed}.dist-info" if installed else packages).mkdir(parents=True)
    with pytest.raises(EnvironmentProblem, match=words) as caught:
        Toolkit()
    assert "make rknn-env" in str(caught.value)


# Rows as the toolkit 2.5.0 prints them for an RK3576, whose table has a column more, and for an RK3566.
LOG = b"""\
D RKNN: [12:57:59.240] 0  InputOperator  FLOAT16  CPU  \\  (1,112,64)  0/0/0  0  InputOperator:latent
D RKNN: [12:57:59.240] 1  Reshape  FLOAT16  NPU  (1,112,64),(4)  (1,112,1,64)  0/0/0  14  Reshape:Conv/lift0_2rs
D RKNN: [12:57:59.240] 2  Conv  FLOAT16  NPU  (1,112,1,64),(512,112,1,7)  (1,512,1,64)  9/5/118518  0%  800  Conv:Conv
D RKNN: [12:57:59.240] 3  ConvTranspose  FLOAT16  CPU  (1,16,1,4096),(16,8,1,40)  (1,8,1,40960)  0/0/0  148  Up:up5/Up
D RKNN: [12:57:59.240] 4  OutputOperator  FLOAT16  CPU  (1,40960)  \\  0/0/0  80  OutputOperator:audio
D RKNN: [12:58:00.000] Total Internal Memory Size: 2603.62KB
D RKNN: [12:58:00.000] Total Weight Memory Size: 4897.06KB
"""


def test_what_runs_where_is_read_from_the_log(tmp_path):
    (tmp_path / "log").write_bytes(LOG)
    placed = read_log(tmp_path / "log", "vocoder", "rk3566")
    assert [(one.kind, one.where) for one in placed.elsewhere] == [("ConvTranspose", "CPU")]
    assert placed.cycles == 118518
    conv, up = 512 * 64 * 112 * 7, 16 * 4096 * 8 * 40
    assert placed.mapped_share == conv / (conv + up)
    assert placed.words == "2 of 3 operators on the NPU of the rk3566, 1 ConvTranspose on the CPU"
    page = placed.page()
    assert "THE VENDOR'S ESTIMATE of a window: 0.12 million cycles" in page
    assert "not on the NPU: ConvTranspose up5/Up, CPU" in page
    assert parse(placed.text().encode(), "x") == placed
    with pytest.raises(ArtifactError, match=r"x cannot be read(.|\n)*where"):
        parse(placed.text().replace('"CPU"', '"TPU"').encode(), "x")


@pytest.mark.parametrize(
    "lost", [b"D RKNN: [12:57:59.240] 2 ", b"D RKNN: [12:57:59.240] 4 ", b"D RKNN: [12:58:00.000] Total Weight"]
)
def test_a_log_that_is_not_whole_is_not_believed(lost, tmp_path):
    (tmp_path / "log").write_bytes(b"".join(line for line in LOG.splitlines(True) if not line.startswith(lost)))
    with pytest.raises(BackendError, match="does not say what runs where"):
        read_log(tmp_path / "log", "vocoder", "rk3566")


def test_an_unknown_chip_gets_the_nearest_name():
    assert problems({"npu": {"chip": "rk3588"}}) == []
    assert "did you mean rk3588?" in problems({"npu": {"chip": "RK3588s"}})[0]
    assert "there are: rk3588" in problems({"npu": {"chip": "SM8650"}})[0]
    assert "[device.npu]" in problems({"npu": None})[0]
