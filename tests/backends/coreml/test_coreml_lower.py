"""A vocoder written for Core ML by coremltools and read back by us; what is refused; what is said where Core ML is."""

import json
import subprocess
import sys
import types
from dataclasses import replace

import numpy as np
import pytest

from gsvexport.artifact import tools
from gsvexport.artifact.manifest import StageEntry
from gsvexport.backends import emulated
from gsvexport.backends.coreml import audit, lower, package, runtime, session, stand_in, systems
from gsvexport.backends.coreml.carriage import reads
from gsvexport.backends.coreml.recipe import read_recipe
from gsvexport.backends.onnxruntime.session import open_session as open_exact
from gsvexport.errors import ArtifactError, BackendError, EnvironmentProblem
from gsvexport.files import canonical_json

MODE = next(iter(stand_in.MODES))


def lowered(small, out, **changes):
    folder, model, seen = small
    return lower.lower(folder, model, {"vocoder": "fp16"}, out, **{"device": {}, "calibration": seen, **changes})


def opened(folder):
    return stand_in.opener(MODE)("coreml", folder, "vocoder.json")


def test_what_is_lowered_says_what_was_done_and_any_length_is_the_sources_sound(small, written):
    folder, model, seen = small
    out, done, told = written
    assert done.files == {"vocoder": "vocoder.json"}
    notes = " | ".join(done.notes["vocoder"])
    assert "ge is a constant" in notes
    assert "the host computes the last Tanh" in notes
    assert "operators, written with coremltools 9" in notes
    assert "Core ML has not run it: what is compared is our own reading of the file" in notes
    assert notes.endswith("taken")
    assert any(text.startswith("writing vocoder for Core ML, 0 s") for text in told)
    names = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert names == sorted(["vocoder.json", *(f"vocoder.mlpackage/{name}" for name in package.FILES)])
    recipe = read_recipe(out / "vocoder.json")
    exact, read = open_exact(folder / model.files["vocoder"]), opened(out)
    for count in (1, recipe.valid // 2, recipe.valid, recipe.valid + 1, seen.latent.shape[2]):
        feeds = {"latent": seen.latent[:, :, :count], "ge": seen.ge}
        want, got = exact.run(feeds)["audio"], read.run(feeds)["audio"]
        assert want.shape == got.shape
        assert 10 * np.log10((want**2).sum() / ((want - got) ** 2).sum()) > 45
    with pytest.raises(BackendError, match="'ge' is another voice's"):
        read.run({"latent": seen.latent[:, :, :4], "ge": seen.ge + 1})


def test_the_same_graph_gives_the_same_bytes(small, written, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONHASHSEED", "77")
    lowered(small, tmp_path)
    for name in ("vocoder.json", *(f"vocoder.mlpackage/{file}" for file in package.FILES)):
        assert (tmp_path / name).read_bytes() == (written[0] / name).read_bytes(), name


_ASKED = """
import json, sys
import numpy as np
sys.modules.update(dict.fromkeys(("torch", "tensorflow", "sklearn", "scipy", "transformers")))
import coremltools
from coremltools.libmilstoragepython import _BlobStorageReader
folder = sys.argv[1]
spec = coremltools.utils.load_spec(folder)  # by Apple's own reader of packages and of protobuf
stored = _BlobStorageReader(folder + "/Data/com.apple.CoreML/weights/weight.bin")
block = spec.mlProgram.functions["main"].block_specializations["CoreML7"]
found = {}
for one in block.operations:
    value = one.attributes["val"] if one.type == "const" else None
    if value is not None and value.HasField("blobFileValue"):
        bits = np.array(stored.read_fp16_data(value.blobFileValue.offset), np.uint16)
        found[one.outputs[0].name] = bits.tolist()
print(json.dumps({"weights": found, "operators": [one.type for one in block.operations if one.type != "const"]}))
"""


def test_apples_own_reader_finds_the_same_weights_and_operators(written):
    folder = written[0] / "vocoder.mlpackage"
    asked = subprocess.run([sys.executable, "-c", _ASKED, str(folder)], capture_output=True, check=True, text=True)
    apples, ours = json.loads(asked.stdout.splitlines()[-1]), package.read(folder)
    assert [one.kind for one in ours.operations] == apples["operators"]
    assert len(apples["weights"]) >= 5
    for name, bits in apples["weights"].items():
        assert ours.constants[name].reshape(-1).view(np.uint16).tolist() == bits


@pytest.mark.parametrize("name", package.FILES)
def test_a_file_that_is_cut_short_or_another_is_refused(name, copy):
    path = copy / "vocoder.mlpackage" / name
    whole = path.read_bytes()
    for data in (b"", whole[:1], whole[: len(whole) // 2], whole[:-3], b"\xff" * 100):
        path.write_bytes(data)
        with pytest.raises(ArtifactError, match=r"vocoder\.mlpackage"):
            opened(copy)
    path.unlink()
    with pytest.raises(ArtifactError, match=r"vocoder\.mlpackage"):
        opened(copy)


def test_no_byte_of_a_program_makes_it_end_otherwise_than_by_a_refusal(copy, small):
    path, draw = copy / "vocoder.mlpackage" / package.MODEL, np.random.default_rng(5)
    whole = path.read_bytes()
    feeds = {"latent": small[2].latent[:, :, :4]}
    refused = 0
    for _ in range(150):
        data = bytearray(whole)
        data[draw.integers(len(data))] = draw.integers(256)
        path.write_bytes(data)
        try:
            opened(copy).run(feeds)
        except ArtifactError:
            refused += 1
    assert 30 < refused < 150


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os; os.kill(os.getpid(), 11)", r"coremltools died of signal 11 \(SIGSEGV\)"),
        ("import sys; sys.exit('no such operator')", r"coremltools failed with code 1(.|\n)*no such operator"),
        ("", "what coremltools wrote cannot be read"),
        ("import time; time.sleep(60)", r"no end after 1 s(.|\n)*GSVEXPORT_COREML_SECONDS"),
    ],
)
def test_a_writer_that_misbehaves_is_told_of(code, words, small, tmp_path, monkeypatch):
    monkeypatch.setattr(lower, "absent", str)
    monkeypatch.setattr(lower, "COMMAND", (sys.executable, "-c", code))
    if "sleep" in code:
        monkeypatch.setenv(lower.TOOL.variable, "1")
    with pytest.raises(BackendError, match=words):
        lowered(small, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("kind", "parameter", "change"),
    [
        ("conv", "pad", lambda pad: pad + np.array([0, 0, 1, -1])),
        ("conv", "dilations", lambda apart: apart[::-1]),
        ("conv", "weight", lambda weight: weight.swapaxes(0, 1)),
        ("conv", "bias", np.zeros_like),
        ("conv_transpose", "weight", lambda weight: weight[..., ::-1]),
        ("conv_transpose", "pad", lambda pad: pad + np.array([0, 0, -1, 1])),
        ("leaky_relu", "alpha", lambda alpha: alpha * 2),
    ],
)
def test_a_file_that_computes_something_else_is_refused(kind, parameter, change, small, written, tmp_path, monkeypatch):
    program = package.read(written[0] / "vocoder.mlpackage")
    taken = [one.takes for one in program.operations if one.kind == kind]
    if kind == "conv":  # the one with as many channels out as in
        taken = [one for one in taken if len(set(program.constants[one["weight"]].shape[:2])) == 1]
    name = taken[0][parameter]
    spoiled = replace(program, constants={**program.constants, name: change(program.constants[name])})
    monkeypatch.setattr(lower, "absent", str)
    monkeypatch.setattr(lower, "COMMAND", (sys.executable, "-c", ""))
    monkeypatch.setattr(package, "read", lambda folder: spoiled)
    with pytest.raises(BackendError, match=r"computes something else(.|\n)*refused|says that 'c1.*' is \[1, 8, 1"):
        lowered(small, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("version", "words"),
    [("absent", "coremltools is not installed"), ("8.3.0", r"coremltools 8\.3\.0 is installed, and 9\.0 is what")],
)
def test_a_package_that_is_absent_or_another_is_told_of(version, words, small, tmp_path, monkeypatch):
    monkeypatch.setattr(tools, "tool_version", lambda name: version)
    with pytest.raises(EnvironmentProblem, match=words) as caught:
        lowered(small, tmp_path)
    assert "gsvexport[coreml]" in str(caught.value)
    assert caught.value.exit_code == 7


def test_what_cannot_be_lowered_is_refused(small, tmp_path, monkeypatch):
    folder, model, seen = small
    monkeypatch.setattr(lower, "absent", str)
    with pytest.raises(BackendError, match="cannot lower stage acoustic to fp16"):
        lower.lower(folder, model, {"acoustic": "fp16"}, tmp_path, device={}, calibration=seen)
    with pytest.raises(BackendError, match="needs calibration"):
        lowered(small, tmp_path, calibration=None)
    silent = replace(model, baked={name: file for name, file in model.baked.items() if name != "ge"})
    with pytest.raises(BackendError, match="without a baked reference"):
        lowered((folder, silent, seen), tmp_path)
    assert systems.problems({"os": "ios"}) == systems.problems({"os": "macos"}) == []
    assert systems.problems({"os": "linux"}) == ["Core ML is on os = ios or macos, and not on linux"]


def findings(folder, model):
    manifest = types.SimpleNamespace(stages={"vocoder": StageEntry("vocoder.json", "coreml", "fp16")}, members={})
    (folder / "model.json").write_text(canonical_json(model.to_json()))
    stages = {"vocoder": {"file": "vocoder.json", "backend": "coreml"}}
    (folder / "manifest.json").write_text(json.dumps({"stages": stages}))
    return {metric: (value, why) for _, metric, value, _, why in audit.audit(folder, manifest)}, manifest


def test_an_artifact_is_audited_without_coremltools(copy, small, monkeypatch):
    monkeypatch.setattr(tools, "tool_version", lambda name: "absent")
    found, manifest = findings(copy, small[1])
    assert {name: value for name, (value, _) in found.items()} == {"ports": 0, "declared_precision": 1}
    assert "float16" in found["declared_precision"][1]
    assert "built, not run" in audit.described(manifest, lambda name: b"")
    assert reads(copy) == {f"vocoder.mlpackage/{name}" for name in package.FILES}
    recipe = json.loads((copy / "vocoder.json").read_text())
    (copy / "vocoder.json").write_text(json.dumps({**recipe, "window": recipe["window"] + 8}))
    assert findings(copy, small[1])[0]["ports"][0] == 1 + len(recipe["masks"])
    (copy / "vocoder.json").write_text(json.dumps({**recipe, "package": "../vocoder.mlpackage"}))
    assert np.isnan(findings(copy, small[1])[0]["ports"][0])


def test_without_core_ml_nothing_runs_and_it_says_what_reads_it(written, monkeypatch):
    monkeypatch.setattr(runtime.sys, "platform", "linux")
    assert emulated("coreml")
    with pytest.raises(EnvironmentProblem, match="Core ML is on Apple's devices alone") as caught:
        session.open_session(written[0] / "vocoder.json")
    assert "gsvexport verify ARTIFACT reads it here" in str(caught.value)
    monkeypatch.setattr(runtime.sys, "platform", "darwin")
    assert not emulated("coreml")
    monkeypatch.setattr(tools, "tool_version", lambda name: "absent")
    assert emulated("coreml")


class Model:
    """A double of coremltools' MLModel: a folder in, arrays by name in and out."""

    seen: list = []  # noqa: RUF012
    fault = ""

    def __init__(self, folder):
        assert folder.endswith("vocoder.mlpackage")
        if self.fault == "load":
            raise RuntimeError("Error compiling model")

    def predict(self, feeds):
        if self.fault == "run":
            raise RuntimeError("Unable to compute the prediction")
        self.seen.append({name: array.shape for name, array in feeds.items()})
        longest = max(array.shape[-1] for array in feeds.values())
        return {"audio": np.full((1, longest), 0.5, np.float32)}


def test_a_mac_runs_the_package(written, small, monkeypatch):
    """Against a double: no Mac has run this."""
    folder, seen = written[0], small[2]
    models = types.SimpleNamespace(MLModel=Model)
    monkeypatch.setitem(sys.modules, "coremltools", types.SimpleNamespace(models=models))
    monkeypatch.setattr(session, "missing", str)
    monkeypatch.setattr(Model, "seen", [])
    one = session.open_session(folder / "vocoder.json")
    sound = one.run({"latent": seen.latent[:, :, :70]})["audio"]
    assert sound.shape == (1, 560)
    np.testing.assert_allclose(sound, np.tanh(0.5), atol=1e-6)
    assert Model.seen[0]["latent"] == (1, seen.latent.shape[1], 64)
    assert all(
        Model.seen[0][f"mask_{rate}"] == (1, 1, 64 * rate) for rate in read_recipe(folder / "vocoder.json").masks
    )
    monkeypatch.setattr(Model, "fault", "run")
    with pytest.raises(BackendError, match=r"does not run vocoder\.mlpackage"):
        one.run({"latent": seen.latent[:, :, :70]})
    monkeypatch.setattr(Model, "fault", "load")
    with pytest.raises(BackendError, match=r"does not load vocoder\.mlpackage"):
        session.open_session(folder / "vocoder.json")
