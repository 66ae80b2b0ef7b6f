"""A vocoder lowered for a chip and run again: by a double and by the real toolkit; and by a double of the device's."""

import json
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gsvexport.artifact.manifest import StageEntry
from gsvexport.backends.onnxruntime.session import open_session as open_exact
from gsvexport.backends.rknn import BACKEND, audit, place, toolkit
from gsvexport.backends.rknn.carriage import reads
from gsvexport.backends.rknn.lower import lower
from gsvexport.backends.rknn.recipe import read_recipe
from gsvexport.backends.rknn.session import open_session
from gsvexport.errors import ArtifactError, BackendError, EnvironmentProblem
from gsvexport.files import canonical_json

DOUBLE = Path(__file__).with_name("rknn_double.py")
NPU = {"npu": {"chip": "rk3588"}}


def lowered(small, out, **changes):
    folder, model, seen = small
    return lower(folder, model, {"vocoder": "fp16"}, out, **{"device": NPU, "calibration": seen, **changes})


def test_what_is_lowered_says_what_was_done_and_any_length_is_the_sources_sound(tool, small, tmp_path):
    told = []
    done = lowered(small, tmp_path, say=told.append)
    assert done.files == {"vocoder": "vocoder.json"}
    notes = " | ".join(done.notes["vocoder"])
    assert "ge is a constant" in notes
    assert "the host computes the last Tanh" in notes
    assert "compiled for rk3588 with rknn-toolkit2 2.5.0; its simulator ran the graph, not the file" in notes
    assert "operators on the NPU of the rk3588 |" in notes
    assert "gives other bytes" in notes
    assert notes.endswith("taken")
    assert any(text.startswith("simulating vocoder-window for rk3588") for text in told)
    folder, model, seen = small
    recipe = read_recipe(tmp_path / "vocoder.json")
    exact = open_exact(folder / model.files["vocoder"])
    session = open_session(tmp_path / "vocoder.json")
    for count in (1, recipe.valid // 2, recipe.valid, recipe.valid + 1, seen.latent.shape[2]):
        feeds = {"latent": seen.latent[:, :, :count], "ge": seen.ge}
        want, got = exact.run(feeds)["audio"], session.run(feeds)["audio"]
        assert want.shape == got.shape
        assert 10 * np.log10((want**2).sum() / ((want - got) ** 2).sum()) > 45
    with pytest.raises(BackendError, match="'ge' is another voice's"):
        session.run({"latent": seen.latent[:, :, :4], "ge": seen.ge + 1})
    session.close()
    session.close()
    with pytest.raises(BackendError, match="was closed"):
        session.run(feeds)


@pytest.fixture(scope="module")
def once(small, tmp_path_factory):
    """What the double makes of it, once for all tests that only read or change it."""
    out = tmp_path_factory.mktemp("rknn-made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place, "missing", lambda: "")
        patch.setattr(
            toolkit, "command", lambda: (sys.executable, "-I", str(DOUBLE), "fine", str(out.parent / "asked"))
        )
        lowered(small, out)
    return out


@pytest.fixture
def made(double, once, tmp_path):
    """(a folder with a copy, what makes the double misbehave from now on)."""
    double()
    for path in once.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path, double


def findings(folder, model, chip="rk3588"):
    entries = {"vocoder": StageEntry("vocoder.json", "rknn", "fp16")}
    manifest = types.SimpleNamespace(
        stages=entries, target={"device": {"npu": {"chip": chip}}}, members={"vocoder-placement.json": None}
    )
    (folder / "model.json").write_text(canonical_json(model.to_json()))
    stages = {"vocoder": {"file": "vocoder.json", "backend": "rknn"}}
    (folder / "manifest.json").write_text(json.dumps({"stages": stages}))
    return {metric: (value, why) for _, metric, value, _, why in audit.audit(folder, manifest)}, manifest


def test_an_artifact_is_audited_without_the_toolkit(made, small, monkeypatch):
    folder, _ = made
    monkeypatch.setattr(place, "missing", lambda: "not here")
    found, manifest = findings(folder, small[1])
    assert {name: value for name, (value, _) in found.items()} == {"other_context": 0, "mapped_share": 1, "ports": 0}
    assert "operators on the NPU of the rk3588, as rknn-toolkit2 2.5.0 says" in found["mapped_share"][1]
    assert "THE VENDOR'S ESTIMATE" in audit.described(manifest, lambda name: (folder / name).read_bytes())
    assert reads(folder) == {"vocoder.rknn", "vocoder-window.onnx", "vocoder-placement.json"}
    other, _ = findings(folder, small[1], "rk3576")
    assert other["other_context"] == (1, "it is for rk3588, which is not the target's")
    file = folder / "vocoder.rknn"
    file.write_bytes(file.read_bytes().replace(b'["rk3588"]', b'["rk3576"]'))
    assert findings(folder, small[1])[0]["other_context"] == (1, "it is for rk3576, and not for rk3588")
    file.write_bytes(b"")
    assert findings(folder, small[1])[0]["other_context"] == (1, "it does not begin as an .rknn file")
    (folder / "vocoder-placement.json").write_text("{}")
    assert np.isnan(findings(folder, small[1])[0]["other_context"][0])


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        (
            "vocoder.rknn",
            lambda data: data.replace(b'["rk3588"]', b'["rk3566"]'),
            "file for another chip: it is for rk3566",
        ),
        ("vocoder.rknn", lambda data: b"\x7fELF" + data, "does not begin as an .rknn file"),
        ("vocoder.rknn", lambda data: b"", r"vocoder\.rknn"),
        (
            "vocoder.rknn",
            lambda data: data[:5] + bytes(255 - one for one in data[5:-9990]) + data[-9990:],
            "is not what rknn-toolkit2 2.5.0 makes of",
        ),
        ("vocoder-window.onnx", lambda data: b"\xff" * 100, r"vocoder-window\.onnx"),
    ],
)
def test_a_file_that_is_another_is_not_opened(name, change, words, made):
    path = made[0] / name
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises((ArtifactError, BackendError), match=words):
        open_session(made[0] / "vocoder.json")


def test_bytes_that_the_compiler_leaves_unset_may_differ(made):
    made[1]("drifts")
    open_session(made[0] / "vocoder.json").close()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "../vocoder.rknn"}, "no file beside it"),
        ({"window": 10**9}, "window"),
        ({"valid": 65}, "do not go into a window"),
        ({"chip": "rk9999"}, "chip"),
        ({"more": 1}, "more"),
        ({"toolkit": "2.4.0"}, "made by rknn-toolkit2 2.4.0, and here is 2.5.0"),
    ],
)
def test_a_strange_recipe_is_refused(changes, words, made):
    path = made[0] / "vocoder.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises((ArtifactError, EnvironmentProblem), match=words):
        open_session(path)


def test_without_any_runtime_it_says_what_brings_one(made, monkeypatch):
    monkeypatch.setattr(place, "missing", lambda: "it is not there")
    with pytest.raises(EnvironmentProblem, match="can neither be run nor simulated") as caught:
        open_session(made[0] / "vocoder.json")
    assert "rknn-toolkit-lite2" in str(caught.value)
    assert "make rknn-env" in str(caught.value)
    assert caught.value.exit_code == 7


class Lite:
    """A double of the device's RKNNLite."""

    codes: tuple = (0, 0)
    seen: list = []  # noqa: RUF012

    def load_rknn(self, path):
        assert Path(path).read_bytes().startswith(b"RKNN")
        return self.codes[0]

    def init_runtime(self):
        return self.codes[1]

    def inference(self, inputs, data_format):
        assert len(inputs) == len(data_format)
        self.seen.append([one.shape for one in inputs])
        return [np.full((1, inputs[-1].shape[-1]), 0.5, np.float16)]

    def release(self):
        self.seen.append("released")


def test_a_device_runs_the_file(made, small, monkeypatch):
    folder, seen = made[0], small[2]
    monkeypatch.setattr(Lite, "seen", [])
    package, api = types.ModuleType("rknnlite"), types.ModuleType("rknnlite.api")
    package.__spec__, api.RKNNLite = types.SimpleNamespace(), Lite
    monkeypatch.setitem(sys.modules, "rknnlite", package)
    monkeypatch.setitem(sys.modules, "rknnlite.api", api)
    session = open_session(folder / "vocoder.json")
    sound = session.run({"latent": seen.latent[:, :, :70]})["audio"]
    assert sound.shape == (1, 560)
    np.testing.assert_allclose(sound, np.tanh(0.5), atol=1e-6)
    recipe = read_recipe(folder / "vocoder.json")
    assert Lite.seen[0] == [(1, seen.latent.shape[1], 64), *((1, 1, 64 * rate) for rate in recipe.masks)]
    session.close()
    assert Lite.seen[-1] == "released"
    for codes, words in (((-1, 0), "cannot load it"), ((0, -3), "cannot start it, it returned -3")):
        monkeypatch.setattr(Lite, "codes", codes)
        with pytest.raises(BackendError, match=words):
            open_session(folder / "vocoder.json")


@pytest.mark.parametrize("how", ["wrong", "nan"])
def test_what_computes_something_else_in_every_form_is_refused(how, small, double, tmp_path):
    log = double(how)
    with pytest.raises(BackendError, match=r"computes something else(.|\n)*width(.|\n)*refused(.|\n)*height"):
        lowered(small, tmp_path)
    assert len(log.read_text().splitlines()) == 4
    assert not list(tmp_path.glob("vocoder*"))


def test_what_cannot_be_lowered_is_refused(small, double, tmp_path, monkeypatch):
    folder, model, seen = small
    double()
    with pytest.raises(BackendError, match="cannot lower stage step to fp16"):
        lower(folder, model, {"step": "fp16"}, tmp_path, device=NPU, calibration=seen)
    with pytest.raises(BackendError, match="needs calibration"):
        lowered(small, tmp_path, calibration=None)
    with pytest.raises(BackendError, match="no chip 'rk1' is known"):
        lowered(small, tmp_path, device={"npu": {"chip": "rk1"}})
    silent = replace(model, baked={name: file for name, file in model.baked.items() if name != "ge"})
    with pytest.raises(BackendError, match="without a baked reference"):
        lowered((folder, silent, seen), tmp_path)
    monkeypatch.setattr(place, "missing", lambda: "it is not there")
    with pytest.raises(EnvironmentProblem, match="it is not there") as caught:
        lowered(small, tmp_path)
    assert "make rknn-env" in str(caught.value)


def test_the_declaration_says_how_far_a_run_here_proves():
    assert BACKEND.proof.value == "ran in the vendor's simulator (the graph, not the file)"
