"""What a plan says of an Edge TPU before anything is measured."""

import re

import pytest

pytest.importorskip("onnx_ir")
pytest.importorskip("soundfile")

from gsvexport.backends.tflite import BACKEND
from gsvexport.backends.tflite.forecast import host_work, verdicts
from gsvexport.errors import BackendError

DEVICE = {"tpu": {"sram_mb": 8, "tops_int8": 4, "link": "usb3", "link_gbs": 0.4}, "runtimes": {"edgetpu": ">=14"}}
CUT = re.compile(r" +(\d+) +([\d.]+)% +(\d+)/(\d+)(!?) ")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    from gsvexport.compiler.source import write_source
    from gsvexport.synthetic import write_voice
    from gsvexport.voice.voice import read_voice

    folder = tmp_path_factory.mktemp("forecast")
    return write_source(read_voice(write_voice(folder / "voice")), folder / "source")


def page(source, **device):
    return verdicts(source.path, source.model, {"vocoder": "int8"}, {**DEVICE, **device})


def test_the_plan_shows_every_stage_and_every_place_to_cut(source):
    said = page(source)
    for words in ("t2s", "encoders", "flow", "of the vocoder's work", "predicted for runtime 14"):
        assert words in said
    rows = [match.groups() for line in said.splitlines() if (match := CUT.match(line))]
    shares = [float(row[1]) for row in rows]
    assert [int(row[0]) for row in rows] == list(range(1, len(rows) + 1))
    assert shares == sorted(shares)
    assert shares[-1] == 100
    assert all(row[2] == row[3] and not row[4] for row in rows)


def test_a_runtime_that_nobody_knows_is_refused(source):
    with pytest.raises(BackendError, match="no such Edge TPU runtime"):
        page(source, runtimes={"edgetpu": ">=15"})


def test_without_an_edge_tpu_there_is_nothing_to_say(source):
    assert page(source, tpu=None) == ""
    assert {"tpu", "runtimes"} <= set(BACKEND.uses)


def test_what_stays_on_the_processor_is_counted(source):
    works = {one.name: one for one in host_work(source.path, source.model)}
    assert set(works) == {"t2s", "encoders", "flow"}
    dims = source.model.dims
    assert works["t2s"].weights == 12 * dims.L * dims.D**2 + dims.V * dims.D
    assert all(one.macs > 0 and one.weights > 0 for one in works.values())
