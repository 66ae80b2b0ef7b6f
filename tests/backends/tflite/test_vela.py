"""A vocoder for an Ethos-U: 8-bit weights, 16-bit activations, compiled by Arm's own compiler."""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from passes.graphs import run, snr
from tflite.small_vocoder import feeds, vocoder
from tflite.test_integer_vocoder import MODEL, Heard, graphs

pytest.importorskip("ai_edge_litert")
pytest.importorskip("ethosu.vela", reason="ethos-u-vela is not installed: pip install 'gsvexport[ethosu]'")

from gsvexport.artifact.manifest import Manifest, StageEntry
from gsvexport.artifact.proof import Proof
from gsvexport.backends import declared, open_session
from gsvexport.backends.tflite import vela
from gsvexport.backends.tflite.audit import audit
from gsvexport.backends.tflite.finalize import reads
from gsvexport.backends.tflite.flatbuffer import CUSTOM, parse
from gsvexport.backends.tflite.integers import faults
from gsvexport.backends.tflite.lower import lower
from gsvexport.backends.tflite.segments import products
from gsvexport.backends.tflite.session import Part
from gsvexport.calibrate import Estimator, observe
from gsvexport.compiler.plan import check
from gsvexport.errors import ArtifactError, BackendError, EnvironmentProblem, InputError, TargetError
from gsvexport.files import canonical_json
from gsvexport.target.detect import Candidate, rank, recorded
from gsvexport.target.target import read_target

DOUBLE = Path(__file__).with_name("vela_double.py")
CHIP = "ethos-u65-256"
DEVICE = {"tpu": None, "npu": {"chip": CHIP}, "runtimes": {}}


class Loud(Heard):
    """The same, and the extremes of every tensor."""

    def extremes(self, stage, model, tensors):
        return observe(model, tensors, self.feeds(stage), Estimator("minmax"))


def lowered(folder, device=DEVICE, precision="int16x8", tolerated=0.2, say=lambda _: None):
    folder.mkdir(parents=True)
    source = folder.with_name(f"{folder.name}-source")
    source.mkdir()
    ir.save(vocoder(), source / "vocoder.onnx")
    done = lower(source, MODEL, {"vocoder": precision}, folder, device=device, calibration=Loud(tolerated), say=say)
    return done


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """An unpacked artifact of the small vocoder alone; nobody writes to it."""
    folder = tmp_path_factory.mktemp("vela") / "files"
    said = []
    done = lowered(folder, say=said.append)
    entry = {"vocoder": StageEntry("vocoder.json", "tflite", "int16x8")}
    manifest = Manifest("tiny", "v2", {"name": "board", "device": DEVICE}, "0" * 64, None, {}, entry, {})
    (folder / "manifest.json").write_text(canonical_json(manifest.to_json()))
    (folder / "model.json").write_text(canonical_json(replace(MODEL, files={"vocoder": "vocoder.json"}).to_json()))
    return folder, done, manifest, said


@pytest.fixture
def copied(built, tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    for path in built[0].iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.fixture
def double(monkeypatch, tmp_path):
    def choose(how):
        monkeypatch.setattr(vela, "COMMAND", (sys.executable, str(DOUBLE), how, str(tmp_path / "log")))
        return tmp_path / "log"

    return choose


def compiled(folder, say=lambda _: None):
    """`vocoder.tflite` of an unpacked artifact, compiled once more."""
    part = Part("vocoder.tflite", 16, 4, 4, 8)
    return vela.compile_part(folder, "vocoder", part, vela.chips()[CHIP], say, seconds=0.01, rest=0)


def mapped(folder, manifest, device=DEVICE):
    of_board = replace(manifest, target={**manifest.target, "device": device})
    return next(found for found in audit(folder, of_board) if found[1] == "mapped_share")


def test_the_whole_vocoder_is_on_the_npu_and_sounds_like_its_source(built):
    folder, done, manifest, said = built
    (whole,) = graphs(folder)
    assert faults(whole, "int16x8") == []
    assert any("is int16" in text for text in faults(whole))
    assert {one.precision for one in done.decisions["vocoder"].groups} == {"int16x8"}
    sound = open_session("tflite", folder, done.files["vocoder"]).run(feeds(100))["audio"]
    assert snr(sound, run(vocoder(), feeds(100))["audio"]) > 30
    report = vela.read(folder)
    assert (report.on_npu, report.mapped_share) == (report.operators, 1)
    assert report.npu_macs >= products(whole)  # Vela pads channels
    assert mapped(folder, manifest)[2:4] == (1, report.operators)
    assert [text for text in said if "compiling vocoder.tflite for ethos-u65-256 with Vela 5.2" in text]
    assert any("VELA'S ESTIMATE" in note for note in done.notes["vocoder"])
    assert reads(folder) == {"vocoder.tflite", "vocoder_vela.tflite", "ethosu.json"}


def test_eight_bits_leave_more_to_the_processor(tmp_path):
    done = lowered(tmp_path / "files", precision="int8", tolerated=0.04)
    assert {one.precision for one in done.decisions["vocoder"].groups} == {"int8", "float"}
    report = vela.read(tmp_path / "files")
    assert report.rest_macs
    assert report.mapped_share < 0.9
    assert "on ethos-u65-256" in report.page()


def test_equal_inputs_give_equal_bytes(built, copied):
    before = {path.name: path.read_bytes() for path in built[0].iterdir()}
    report = compiled(copied)
    assert report.compiled_sha256 == vela.read(copied).compiled_sha256
    assert (copied / "vocoder_vela.tflite").read_bytes() == before["vocoder_vela.tflite"]


@pytest.mark.parametrize("chip", vela.chips())
@pytest.mark.thorough
def test_vela_takes_every_chip_of_the_table(copied, chip):
    part = Part("vocoder.tflite", 16, 4, 4, 8)
    report = vela.compile_part(copied, "vocoder", part, vela.chips()[chip], lambda _: None, seconds=0.01, rest=0)
    assert report.mapped_share == 1


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("crash", "died of signal 9 for ethos-u65-256"),
        ("fail", "failed with code 1 for ethos-u65-256"),
        ("nothing", "wrote no vocoder_vela.tflite"),
        ("other", "vocoder_vela.tflite is not made of vocoder.tflite"),
        ("silent", "_per-layer.csv, which Vela wrote, is empty"),
    ],
)
def test_what_vela_does_not_do_right_is_an_error(copied, double, how, words):
    double(how)
    with pytest.raises(BackendError, match=words):
        compiled(copied)


def test_vela_is_stopped(copied, double, monkeypatch):
    double("hang")
    monkeypatch.setenv(vela.VARIABLE, "0.5")
    with pytest.raises(BackendError, match=r"did not end in 0\.5 s") as caught:
        compiled(copied)
    assert vela.VARIABLE in caught.value.fix
    monkeypatch.setenv(vela.VARIABLE, "soon")
    with pytest.raises(InputError, match="is 'soon'"):
        compiled(copied)


def test_a_model_that_vela_leaves_on_the_processor_is_refused(copied):
    from tflite.small_vocoder import emitted

    from gsvexport.backends.tflite.flatbuffer import dump

    (copied / "vocoder.tflite").write_bytes(dump(emitted()))  # float: no NPU takes it
    with pytest.raises(BackendError, match="0 operators 'ethos-u', not one"):
        compiled(copied)


def test_without_vela_nothing_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(vela, "PACKAGE", "no-such-package")
    with pytest.raises(EnvironmentProblem, match="is not installed") as caught:
        lowered(tmp_path / "files")
    assert "gsvexport[ethosu]" in caught.value.fix
    assert not list((tmp_path / "files").iterdir())
    monkeypatch.setattr(vela, "PACKAGE", "numpy")
    with pytest.raises(EnvironmentProblem, match=r"numpy is .*"):
        vela.version()


@pytest.mark.parametrize("damage", ["compiled", "model", "chip", "missing", "report", "more"])
def test_a_compiled_file_that_is_another_ones_is_noticed(built, copied, damage):
    manifest, device = built[2], DEVICE
    report = json.loads((copied / vela.MEMBER).read_text())
    if damage in ("compiled", "model"):
        path = copied / ("vocoder_vela.tflite" if damage == "compiled" else "vocoder.tflite")
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(bytes(data))
    elif damage == "chip":
        device = {**DEVICE, "npu": {"chip": "ethos-u85-256"}}
    elif damage == "missing":
        (copied / "vocoder_vela.tflite").unlink()
    else:
        change = {"cycles": -1} if damage == "report" else {"on_npu": report["operators"] + 1}
        (copied / vela.MEMBER).write_text(json.dumps({**report, **change}))
    found = mapped(copied, manifest, device)
    assert np.isnan(found[2])
    words = {
        "compiled": "was not compiled from this",
        "model": "was not compiled from this",
        "chip": "is for ethos-u65",
    }
    words |= {"missing": "is missing", "report": "cycles", "more": "more runs on the NPU than there is"}
    assert words[damage] in found[4]


def test_the_compiled_file_holds_one_operator_and_the_models_ports(built):
    before, after = (parse((built[0] / name).read_bytes(), name) for name in ("vocoder.tflite", "vocoder_vela.tflite"))
    assert [(one.kind, one.options["custom_code"]) for one in after.operators] == [(CUSTOM, "ethos-u")]
    names = [{graph.tensors[index].name for index in graph.inputs} for graph in (before, after)]
    assert names[0] == names[1]


def test_only_an_ethos_u_has_sixteen_bits(tmp_path):
    coral = {"tpu": {"sram_mb": 8, "tops_int8": 4, "link": "pcie", "link_gbs": 0.4}, "npu": None}
    with pytest.raises(BackendError, match="no 16-bit activations") as caught:
        lowered(tmp_path / "files", device={**coral, "runtimes": {"edgetpu": ">=14"}})
    assert "device.npu" in caught.value.fix


def test_a_chip_that_vela_does_not_know_is_told_before_anything_is_built(tmp_path):
    path = tmp_path / "board.toml"
    path.write_text('extends = "imx93"\ntitle = "A board"\n[device.npu]\nchip = "ethos-u65-257"\n')
    with pytest.raises(TargetError, match=r"did you mean ethos-u65-256\?"):
        check(read_target(str(path)))


def test_no_run_here_says_more_than_that_it_was_compiled():
    target = read_target("imx93")
    assert declared("tflite").proves(asdict(target.device)) is Proof.COMPILED
    assert declared("tflite").proves(asdict(read_target("coral-dev-board").device)) is Proof.RUNTIME


def test_a_board_without_the_npu_is_not_offered_it():
    target = read_target("imx93")
    board = Candidate("imx93", asdict(target.device), 1)
    text = "processor : 0\nFeatures : fp asimd asimdhp asimddp fphp\nCPU implementer : 0x41\nCPU part : 0xd05\n"
    without, with_it = (recorded("aarch64", text, npus=npus) for npus in ((), ("ethos-u",)))
    assert "wants an ethos-u65-256" in str(rank(without, [board]))
    assert "wants an ethos-u65-256" not in str(rank(with_it, [board]))


def test_a_report_from_a_stranger_is_bounded(copied):
    (copied / vela.MEMBER).write_bytes(b"[" * 100_000)
    with pytest.raises(ArtifactError, match=vela.MEMBER):
        vela.read(copied)
