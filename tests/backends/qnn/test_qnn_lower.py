"""A vocoder lowered for a chip: by the real compiler run in its emulation, and by a double what is refused."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gsvexport.artifact import tools
from gsvexport.backends.onnxruntime.session import open_session as open_exact
from gsvexport.backends.qnn import BACKEND, plugin, vendor
from gsvexport.backends.qnn.lower import lower
from gsvexport.backends.qnn.recipe import read_recipe
from gsvexport.backends.qnn.session import open_session
from gsvexport.errors import ArtifactError, BackendError, EnvironmentProblem
from gsvexport.npu import lowering
from gsvexport.npu.windows import remembered, spans

DOUBLE = Path(__file__).with_name("qnn_double.py")
NPU = {"npu": {"chip": "SM8650"}}
CHIP = {"htp_arch": "75", "soc_model": "57"}


@pytest.fixture
def double(monkeypatch, tmp_path):
    def choose(how="fine"):
        monkeypatch.setattr(vendor, "COMMAND", (sys.executable, str(DOUBLE), how, str(tmp_path / "log")))
        return tmp_path / "log"

    monkeypatch.setattr(plugin, "missing", lambda: "")
    return choose


def test_any_length_is_the_sources_sound(small, compiled):
    folder, model, seen = small
    session, exact = open_session(compiled[0] / "vocoder.json"), open_exact(folder / model.files["vocoder"])
    valid = read_recipe(compiled[0] / "vocoder.json").valid
    for count in (1, valid // 2, valid, valid + 1, seen.latent.shape[2]):
        feeds = {"latent": seen.latent[:, :, :count], "ge": seen.ge}
        want, got = exact.run(feeds)["audio"], session.run(feeds)["audio"]
        assert want.shape == got.shape
        assert 10 * np.log10((want**2).sum() / ((want - got) ** 2).sum()) > 45
        assert np.abs(want - got).max() < 0.01
    session.close()
    with pytest.raises(BackendError, match="was closed"):
        session.run(feeds)


@pytest.mark.parametrize(("emulated", "again"), [(True, 0), (False, 1)])
def test_the_emulation_is_not_asked_twice_for_one_window(emulated, again, small, compiled, monkeypatch):
    asked, opened = [], plugin.open_graph

    class Counts:
        def __init__(self, session):
            self.session, self.get_modelmeta = session, session.get_modelmeta

        def run(self, names, feeds):
            asked.append(feeds)
            return self.session.run(names, feeds)

    monkeypatch.setattr(plugin, "open_graph", lambda path, options, *rest: Counts(opened(path, CHIP, *rest)))
    monkeypatch.setattr(plugin, "emulates", lambda: emulated)
    session = open_session(compiled[0] / "vocoder.json")
    frames = small[2].latent[:, :, : read_recipe(compiled[0] / "vocoder.json").valid]
    first = session.run({"latent": frames})["audio"]
    assert np.array_equal(session.run({"latent": frames})["audio"], first)
    assert len(asked) == 1 + again
    assert not np.array_equal(session.run({"latent": frames + 1})["audio"], first)
    session.run({"latent": frames[..., :-1]})
    assert len(asked) == 3 + again


def test_only_the_last_windows_are_kept():
    asked = []
    window = remembered(lambda feeds: asked.append(feeds["x"][0]) or feeds["x"], most=2)
    for value in (1, 2, 2, 3, 2, 1):
        assert window({"x": np.array([value], np.float32)}) == value
    assert asked == [1, 2, 3, 1]


def test_what_was_done_is_told(compiled):
    _, done, told = compiled
    notes = " | ".join(done.notes["vocoder"])
    assert "the host computes the last Tanh" in notes
    assert "ge is a constant" in notes
    assert "compiled for SM8650 (v75) with QAIRT 2.51.0, run as compiled in its emulation" in notes
    assert "time on the width" in notes
    assert notes.endswith("taken")
    assert any(text.startswith("emulating vocoder-context on SM8650") for text in told)
    assert done.files == {"vocoder": "vocoder.json"}


def test_another_voice_is_refused(small, compiled):
    session = open_session(compiled[0] / "vocoder.json")
    with pytest.raises(BackendError, match="'ge' is another voice's"):
        session.run({"latent": small[2].latent[:, :, :4], "ge": small[2].ge + 1})


def other_recipe(compiled, folder, **changes):
    value = json.loads((compiled[0] / "vocoder.json").read_text())
    (folder / value["context"]).write_bytes((compiled[0] / value["context"]).read_bytes())
    path = folder / "vocoder.json"
    path.write_text(json.dumps({**value, **changes}))
    return path


@pytest.mark.parametrize(
    ("name", "number", "words"),
    [
        ({"name": "SM8550", "htp_arch": 73, "soc_model": 43}, 0, "context for another chip: it is for architecture 75"),
        ({"name": "SM8850", "htp_arch": 81, "soc_model": 87}, 0, "context for another chip: it is for architecture 75"),
    ],
)
def test_a_context_for_another_chip_is_not_opened(name, number, words, compiled, tmp_path):
    with pytest.raises(ArtifactError, match=words):
        open_session(other_recipe(compiled, tmp_path, chip=name))


def test_a_damaged_context_is_told_of(compiled, tmp_path):
    path = other_recipe(compiled, tmp_path)
    context = path.with_name("vocoder-context.onnx")
    data = bytearray(context.read_bytes())
    at = len(data) // 2
    data[at : at + 3000] = bytes(3000)
    context.write_bytes(data[: len(data) - 3000])
    with pytest.raises((ArtifactError, BackendError), match=r"vocoder-context\.onnx"):
        open_session(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"context": "../vocoder-context.onnx"}, "no file beside it"),
        ({"window": 10**9}, "window"),
        ({"valid": 65}, "do not go into a window"),
        ({"left": 40, "right": 40}, "keeps none of them"),
        ({"masks": [1, 1000]}, "more samples than the sound"),
        ({"tail": "exp"}, "tail"),
        ({"schema": 2}, "schema"),
        ({"more": 1}, "more"),
    ],
)
def test_a_strange_recipe_is_refused(changes, words, compiled, tmp_path):
    with pytest.raises(ArtifactError, match=words):
        open_session(other_recipe(compiled, tmp_path, **changes))


def test_spans_keep_every_frame_once(compiled):
    recipe = read_recipe(compiled[0] / "vocoder.json")
    for frames in (1, recipe.valid - 1, recipe.valid, recipe.valid + 1, 500):
        kept = [frame for one in spans(frames, recipe) for frame in range(one.first, one.last)]
        assert kept == list(range(frames))
        for one in spans(frames, recipe):
            assert one.stop - one.start <= recipe.valid
            assert one.first - one.start == min(recipe.left, one.first)
            assert one.stop == frames or one.stop - one.last == recipe.right


@pytest.mark.parametrize("how", ["wrong", "nan"])
def test_what_computes_something_else_in_every_form_is_refused(how, small, double, tmp_path):
    folder, model, seen = small
    log = double(how)
    with pytest.raises(BackendError, match=r"SM8650 computes something else(.|\n)*width(.|\n)*refused(.|\n)*height"):
        lower(folder, model, {"vocoder": "fp16"}, tmp_path, device=NPU, calibration=seen)
    assert len(log.read_text().splitlines()) == 4
    assert not list(tmp_path.glob("vocoder*"))


def test_a_form_that_the_compiler_gets_wrong_is_lowered_round(small, double, tmp_path, monkeypatch):
    folder, model, seen = small
    double()
    measured = lowering._measured
    worse = lambda form, *rest: replace(measured(form, *rest), snr=3.9) if not form.tall else measured(form, *rest)  # noqa: E731
    monkeypatch.setattr(lowering, "_measured", worse)
    done = lower(folder, model, {"vocoder": "fp16"}, tmp_path, device=NPU, calibration=seen)
    assert "time on the width: 3.9 dB" in done.notes["vocoder"][-2]
    assert "refused" in done.notes["vocoder"][-2]
    assert done.notes["vocoder"][-1].startswith("time on the height")
    assert (tmp_path / "vocoder-context.onnx").is_file()


@pytest.mark.parametrize(
    ("version", "words"), [("absent", "is not installed"), ("2.6.1", "2.6.1 is installed, and 2.7")]
)
def test_a_package_that_is_absent_or_another_is_told_of(version, words, small, tmp_path, monkeypatch):
    folder, model, seen = small
    monkeypatch.setattr(tools, "tool_version", lambda name: version)
    with pytest.raises(EnvironmentProblem, match=words) as caught:
        lower(folder, model, {"vocoder": "fp16"}, tmp_path, device=NPU, calibration=seen)
    assert "gsvexport[qnn]" in str(caught.value)


def test_what_cannot_be_lowered_is_refused(small, double, tmp_path):
    folder, model, seen = small
    double()
    with pytest.raises(BackendError, match="cannot lower stage step to fp16"):
        lower(folder, model, {"step": "fp16"}, tmp_path, device=NPU, calibration=seen)
    with pytest.raises(BackendError, match="needs calibration"):
        lower(folder, model, {"vocoder": "fp16"}, tmp_path, device=NPU)
    with pytest.raises(BackendError, match="no chip 'SM1' is known"):
        lower(folder, model, {"vocoder": "fp16"}, tmp_path, device={"npu": {"chip": "SM1"}}, calibration=seen)
    silent = replace(model, baked={name: file for name, file in model.baked.items() if name != "ge"})
    with pytest.raises(BackendError, match="without a baked reference"):
        lower(folder, silent, {"vocoder": "fp16"}, tmp_path, device=NPU, calibration=seen)


def test_the_declaration_says_how_far_a_run_here_proves():
    assert BACKEND.proof.value == "ran as compiled bytes in the vendor's emulation"
