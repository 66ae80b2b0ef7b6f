"""Lowering a vocoder to TFLite: the files, what is decided, and what is refused."""

import json
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest
from passes.graphs import run, snr
from tflite.small_vocoder import feeds, vocoder

pytest.importorskip("ai_edge_litert")

from gsvexport.backends import open_session
from gsvexport.backends.tflite.flatbuffer import parse
from gsvexport.backends.tflite.integers import faults
from gsvexport.backends.tflite.lower import lower
from gsvexport.backends.tflite.segments import products
from gsvexport.errors import BackendError
from gsvexport.model import Dims, Model, SamplingDefaults, Spectrogram

pytestmark = pytest.mark.slow

DEVICE = {"tpu": {"sram_mb": 8, "tops_int8": 4, "link": "pcie", "link_gbs": 0.4}, "runtimes": {"edgetpu": ">=14"}}
DIMS = Dims(1, 8, 1, 5, 3, 2, 10, 10, 4, 50)
MODEL = Model(
    "tiny", "en", "v2", "v2", 32000, 8, 4, DIMS, Spectrogram(), SamplingDefaults(), {"vocoder": "vocoder.onnx"}
)


class Heard:
    """A calibration of a few latents; `tolerated` noise, relative to the sound, is exactly at the gates."""

    def __init__(self, tolerated):
        self.tolerated, self.asked = tolerated, []

    def feeds(self, stage):
        return [feeds(length) for length in (20, 60, 33)]

    def damage(self, stage, pairs):
        noise = [np.sqrt(np.square(one - other).mean() / np.square(one).mean()) for one, other in pairs]
        return float(max(noise) / self.tolerated)

    def ranges(self, stage, model, tensors):
        from gsvexport.calibrate import Estimator, observe

        self.asked += tensors
        return observe(model, tensors, self.feeds(stage), Estimator("mse"))


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    ir.save(vocoder(), folder / "vocoder.onnx")
    return folder


@pytest.fixture
def lowered(source, tmp_path):
    def make(tolerated, **device):
        out = tmp_path / f"out{tolerated}"
        out.mkdir()
        calibration = Heard(tolerated)
        done = lower(source, MODEL, {"vocoder": "int8"}, out, device={**DEVICE, **device}, calibration=calibration)
        return out, done, calibration

    return make


def graphs(out):
    recipe = json.loads((out / "vocoder.json").read_text())
    return [parse((out / part["file"]).read_bytes(), part["file"]) for part in recipe["parts"]]


def test_the_longest_beginning_that_the_gates_allow_is_integers(lowered):
    counts = {}
    for tolerated in (0.04, 0.2):
        out, done, _ = lowered(tolerated)
        first, *others = graphs(out)
        assert faults(first) == []
        assert all(faults(other) for other in others)
        decided = done.decisions["vocoder"]
        kept = [group for group in decided.groups if group.precision == "int8"]
        assert decided.reached <= decided.allowed < max(1, *(group.alone for group in decided.groups)) + 1
        assert products(first) // first.tensors[0].shape[2] == sum(group.cost for group in kept)
        counts[tolerated] = len(kept)
        sound = open_session("tflite", out, done.files["vocoder"]).run(feeds(100))["audio"]
        expected = run(vocoder(), feeds(100))["audio"]
        assert 20 < snr(sound, expected) < 80
    assert 1 <= counts[0.04] < counts[0.2] == 4


def test_what_is_stored_is_told(lowered):
    out, done, _ = lowered(0.04)
    assert done.files == {"vocoder": "vocoder.json"}
    assert {path.name for path in out.iterdir()} >= {"vocoder.json", "vocoder.tflite", "vocoder-rest.tflite"}
    assert {(item.kind, item.stages) for item in done.weights} == {
        (kind, ("vocoder",)) for kind in ("int8", "int32", "fp32")
    }
    constants = sum(tensor.bytes for one in graphs(out) for tensor in one.tensors if tensor.data is not None)
    assert sum(item.bytes for item in done.weights) == constants
    assert any(note.startswith("int8: the first") for note in done.notes["vocoder"])


def test_the_search_ends_with_the_first_row_that_is_too_loud(lowered):
    _, done, calibration = lowered(0.04)
    tried = len(done.decisions["vocoder"].groups)
    assert tried < 4
    assert "audio" not in calibration.asked  # of the last segment nobody asked


def test_equal_inputs_give_equal_bytes(source, tmp_path):
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        lower(source, MODEL, {"vocoder": "int8"}, tmp_path / name, device=DEVICE, calibration=Heard(0.2))
        found.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert found[0] == found[1]


def test_a_vocoder_that_cannot_be_integers_at_all_is_an_error(lowered):
    with pytest.raises(BackendError, match="not even its first segment, x1") as caught:
        lowered(1e-6)
    assert caught.value.limit == "0.7"
    assert "of the gates" in caught.value.found


def test_windows_fit_the_memory_of_the_edge_tpu(lowered):
    _, wide, _ = lowered(0.2)
    assert "looked at before and after" in wide.notes["vocoder"][-1]
    with pytest.raises(BackendError, match="no window fits the Edge TPU's memory"):
        lowered(0.3, tpu={**DEVICE["tpu"], "sram_mb": 0.0001})


def test_only_a_calibrated_integer_vocoder_is_taken(source, tmp_path):
    asked = {"placement": {"vocoder": "int8"}, "out": tmp_path, "device": DEVICE}
    with pytest.raises(BackendError, match="needs calibration"):
        lower(source, MODEL, **asked)
    with pytest.raises(BackendError, match="cannot lower stage vocoder to fp32"):
        lower(source, MODEL, **{**asked, "placement": {"vocoder": "fp32"}}, calibration=Heard(1))
    with pytest.raises(BackendError, match="cannot lower stage acoustic"):
        lower(source, replace(MODEL, files={"acoustic": "a.onnx"}), **{**asked, "placement": {"acoustic": "int8"}})
