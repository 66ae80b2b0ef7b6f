"""The main job on a small voice: built, verified, delivered whole, resumed and refused."""

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from building import gsvexport, left, start
from safetensors.numpy import load_file

from gsvexport.artifact import container
from gsvexport.compiler.build import build, report_path
from gsvexport.compiler.inputs import export_source, open_voice
from gsvexport.compiler.pack import verify_packed
from gsvexport.compiler.reproduce import build_in
from gsvexport.compiler.source import write_source
from gsvexport.device.unpack import unpack_to
from gsvexport.errors import ArtifactError, EnvironmentProblem, GateFailed, InputError, TargetError, VoiceError
from gsvexport.files import sha256_file
from gsvexport.runtime.pipeline import load
from gsvexport.synthetic import write_voice
from gsvexport.voice.voice import read_voice

NAME = "synthetic-x86-64.gsv"


@pytest.fixture(scope="module")
def voice(tmp_path_factory):
    folder = write_voice(tmp_path_factory.mktemp("voice") / "synthetic")
    (folder / "NOTICE").write_text("Made of random numbers.\n")
    return folder


@pytest.fixture(scope="module")
def built(voice, tmp_path_factory):
    """(cache, artifact) of an uninterrupted build; tests only read them."""
    base = tmp_path_factory.mktemp("built")
    done = gsvexport(base / "cache", "--target", "x86-64", voice, "-o", base / "out", "-q")
    assert done.returncode == 0, done.stderr
    assert left(base / "out") == [NAME]
    return base / "cache", base / "out" / NAME


@pytest.fixture
def cache(built, tmp_path, monkeypatch):
    """A store of one's own that holds what the module's build made."""
    shutil.copytree(built[0], tmp_path / "cache")
    monkeypatch.setenv("GSVEXPORT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_an_artifact_holds_what_it_needs_and_no_more(built):
    manifest = container.read_manifest(built[1])
    names = set(manifest.members)
    assert {"model.json", "weights.safetensors", "NOTICE", "golden/golden.json", "baked/ge.npy"} <= names
    assert list(manifest.stages) == ["acoustic", "prefill", "step", "vocoder"]
    assert not names & {"prompt.onnx", "reference.onnx", "source.json"}
    assert manifest.report is not None
    assert container.read_member(built[1], "NOTICE") == b"Made of random numbers.\n"


def test_nothing_machine_local_is_in_an_artifact(built, voice):
    data = built[1].read_bytes()
    for text in (str(built[0]), str(voice), str(Path.home() / "x"), "/home/trainer"):
        assert text.encode() not in data


def test_the_report_inside_says_that_it_passed(built):
    report = json.loads(container.read_member(built[1], "report.json"))
    assert report["passed"] is True
    assert {"prefill", "acoustic", "vocoder"} <= {check["stage"] for check in report["checks"]}
    assert not [check for check in report["checks"] if check["status"] == "fail"]


def test_weights_of_left_out_stages_are_left_out_and_the_rest_is_the_same(built, cache, voice, tmp_path):
    source = export_source(voice, tmp_path / "source")
    before = load_file(source.path / "weights.safetensors")
    folder = container.unpacked(built[1])
    after = {**load_file(folder / "weights.safetensors"), **load_file(folder / "t2s.safetensors")}
    gone = before.keys() - after.keys()
    assert after.keys() < before.keys()
    assert all(
        name.startswith(("sovits.ref_enc", "sovits.ssl_proj", "sovits.codebook.doubled", "sovits.codebook.squares"))
        for name in gone
    ), sorted(gone)
    for name, array in after.items():
        np.testing.assert_array_equal(array, before[name])


def test_an_artifact_speaks_what_its_source_speaks(built, cache, voice, tmp_path):
    export_source(voice, tmp_path / "source")
    with load(built[1]) as artifact, load(tmp_path / "source") as source:
        phones = np.arange(1, 20)
        heard = [one.synthesize(phones=phones, seed=3, max_tokens=20) for one in (artifact, source)]
    np.testing.assert_array_equal(heard[0].samples, heard[1].samples)
    assert np.abs(heard[0].samples).max() > 0


def test_a_second_build_takes_everything_from_the_store_and_gives_the_same_bytes(built, cache, voice, tmp_path):
    told = []
    (path,) = build(voice, "x86-64", tmp_path / "again", progress=told.append)
    assert sha256_file(path) == sha256_file(built[1])
    assert not [text for text in told if "lowering" in text or "verifying" in text]


def test_a_source_is_a_voice_too(cache, voice, tmp_path):
    export_source(voice, tmp_path / "source")
    (path,) = build(tmp_path / "source", ["x86-64"], tmp_path / "out")
    with load(path) as artifact:
        assert artifact.synthesize(phones=[1, 2, 3], max_tokens=12).seconds > 0
    assert open_voice(tmp_path / "source").subject.kind == "source"
    weights = tmp_path / "source" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(ArtifactError, match=r"weights\.safetensors has changed"):
        build(tmp_path / "source", ["x86-64"], tmp_path / "other")


def test_an_existing_output_is_refused_before_any_work(built, cache, voice):
    before = sha256_file(built[1])
    told = []
    with pytest.raises(InputError, match="exist already") as caught:
        build(voice, "x86-64", built[1].parent, progress=told.append)
    assert str(built[1]) in caught.value.problems
    assert len(told) == 1  # it had to read the voice to know its name
    assert sha256_file(built[1]) == before


def test_force_replaces_an_output(cache, voice, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / NAME).write_text("old")
    (path,) = build(voice, "x86-64", tmp_path / "out", force=True)
    assert container.read_manifest(path).name == "synthetic"
    assert left(tmp_path / "out") == [NAME]


def test_what_cannot_be_built_is_refused_before_any_work(voice, tmp_path):
    for arguments, error, says in (
        ((voice, []), InputError, "no target"),
        ((voice, ["x86_64"]), TargetError, "did you mean 'x86-64'"),
        ((tmp_path / "nothing", ["x86-64"]), InputError, "there is no voice"),
    ):
        with pytest.raises(error, match=says):
            build(*arguments, tmp_path / "out")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="not a folder"):
        build(voice, "x86-64", tmp_path / "file")
    (tmp_path / "a.gsv").write_text("")
    with pytest.raises(InputError, match="an artifact already"):
        build(tmp_path / "a.gsv", "x86-64", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def strict(tmp_path, name, gates):
    path = tmp_path / f"{name}.toml"
    path.write_text(f'extends = "x86-64"\n[gates]\n{gates}\n')
    return str(path)


def test_a_missed_gate_leaves_the_report_and_no_artifact_and_the_other_targets_are_built(cache, voice, tmp_path):
    out = tmp_path / "out"
    targets = [strict(tmp_path, "one", '"vocoder.snr_db" = 500'), "x86-64", strict(tmp_path, "two", "snr_db = 501")]
    with pytest.raises(GateFailed, match="2 of 3 targets failed") as caught:
        build(voice, targets, out)
    assert caught.value.exit_code == 5
    one, two = caught.value.problems
    assert "vocoder.snr_db" in one
    assert "500" in one
    assert "501" in two
    report = report_path(out / "synthetic-one.gsv")
    assert left(out) == [report.name, "synthetic-two.report.json", NAME]
    assert json.loads(report.read_text())["passed"] is False
    (path,) = build(voice, strict(tmp_path, "one", '"vocoder.snr_db" = 5'), out)
    assert left(out) == [path.name, "synthetic-two.report.json", NAME]  # the first report is out of date


def test_a_damaged_step_in_the_store_is_made_again(built, cache, voice, tmp_path):
    for file in (cache / "store").glob("*/content/artifact.gsv"):
        file.write_bytes(b"x" * file.stat().st_size)
    told = []
    (path,) = build(voice, "x86-64", tmp_path / "out", progress=told.append)
    assert any("is damaged (artifact.gsv has changed): making it again" in text for text in told)
    assert sha256_file(path) == sha256_file(built[1])


def test_a_full_disk_on_delivery_leaves_no_file(cache, voice, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gsvexport.artifact.container.directory", full)
    with pytest.raises(EnvironmentProblem, match="the disk is full"):
        build(voice, "x86-64", tmp_path / "out")
    assert left(tmp_path / "out") == []


def test_force_replaces_a_source_and_nothing_else(voice, tmp_path):
    export_source(voice, tmp_path / "source")
    export_source(voice, tmp_path / "source", force=True)
    mine = tmp_path / "mine" / "file"
    mine.parent.mkdir()
    mine.write_text("mine")
    for out in (mine.parent, mine):
        with pytest.raises(InputError, match="choose another output"):
            export_source(voice, out, force=True)
    assert mine.read_text() == "mine"


def test_weights_that_become_nan_are_named_without_a_warning(voice, tmp_path, recwarn):
    read = read_voice(voice)
    name = "dec.ups.0.weight_v"
    zero = np.zeros_like(read.sovits.tensors[name])
    broken = replace(read, sovits=replace(read.sovits, tensors={**read.sovits.tensors, name: zero}))
    with pytest.raises(VoiceError, match=r"sovits\.dec\.ups\.0\.weight"):
        write_source(broken, tmp_path / "source")
    assert not recwarn.list
    assert not list(tmp_path.iterdir())


def test_another_notice_is_another_artifact(voice, tmp_path):
    copy = shutil.copytree(voice, tmp_path / "copy")
    before = open_voice(copy).subject.digest
    assert before == open_voice(voice).subject.digest  # wherever it lies
    (copy / "NOTICE").write_text("Other terms.\n")
    assert open_voice(copy).subject.digest != before


def test_a_licence_and_a_notice_go_into_the_source_and_so_into_every_artifact(voice, tmp_path):
    copy = shutil.copytree(voice, tmp_path / "copy")
    (copy / "TERMS.txt").write_text("Ask first.\n")
    toml = (copy / "voice.toml").read_text()
    toml = toml.replace("[voice]\n", '[voice]\nlicence = "CC-BY-4.0"\nnotice = "TERMS.txt"\n', 1)
    (copy / "voice.toml").write_text(toml)
    assert open_voice(copy).notice == b"Licence of the voice: CC-BY-4.0\n\nAsk first.\n"
    export_source(copy, tmp_path / "source")
    assert open_voice(tmp_path / "source").notice == open_voice(copy).notice
    (tmp_path / "secret").write_text("mine")
    (copy / "binary").write_bytes(b"\0")
    (copy / "link").symlink_to(tmp_path / "secret")
    for name, says in (("../secret", "outside of the voice"), ("link", "outside of the voice"), ("binary", "no text")):
        (copy / "voice.toml").write_text(toml.replace("TERMS.txt", name))
        with pytest.raises(VoiceError, match=says):
            open_voice(copy)


def test_an_artifact_is_unpacked_for_those_who_link_its_files(built, cache, tmp_path):
    out = tmp_path / "raw"
    manifest = unpack_to(built[1], out)
    assert container.differences(out, manifest, hashes=True) == []
    told = (out / "README.txt").read_text()
    assert "vocoder, once for each sentence: vocoder.onnx, onnxruntime, fp32" in told
    assert "in   latent" in told
    assert verify_packed(out).passed
    with load(out) as plain, load(built[1]) as packed:
        said = [one.synthesize(phones=[1, 2, 3], max_tokens=12).samples for one in (plain, packed)]
    np.testing.assert_array_equal(*said)
    with pytest.raises(InputError, match="exists already"):
        unpack_to(built[1], out)
    unpack_to(built[1], out, force=True)
    with pytest.raises(InputError, match="other things in it"):
        unpack_to(built[1], tmp_path, force=True)


def test_how_it_is_compressed_changes_the_file_and_not_what_it_does(built, cache, voice, tmp_path, monkeypatch):
    (packed,) = build(voice, "x86-64", tmp_path, compress="fast")
    before, after = container.read_manifest(built[1]), container.read_manifest(packed)
    assert before.digest == after.digest
    assert before == after.plain
    assert "quality 5" in after.compression
    assert built[1].stat().st_size > packed.stat().st_size
    with load(built[1]) as one, load(packed) as other:
        said = [voice.synthesize(phones=[1, 2, 3], max_tokens=12).samples for voice in (one, other)]
    np.testing.assert_array_equal(*said)
    monkeypatch.delenv("GSVEXPORT_COMPRESS")
    (default,) = build(voice, "x86-64", tmp_path / "default")
    assert sha256_file(default) == sha256_file(packed)
    with pytest.raises(InputError, match=r"compress \(or GSVEXPORT_COMPRESS\) takes none, fast, release"):
        build(voice, "x86-64", tmp_path / "again", compress="best")


def test_verify_reads_every_byte_of_what_was_unpacked(built, cache, tmp_path):
    assert verify_packed(built[1]).passed
    folder = container.unpacked(built[1])
    weights = folder / "weights.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(good[:-1] + b"\x7f")
    assert verify_packed(built[1]).passed
    assert weights.read_bytes() == good  # the file is whole, so it was unpacked anew
    own = tmp_path / "own"
    shutil.copytree(folder, own)
    (own / weights.name).write_bytes(good[:-1] + b"\x7f")
    with pytest.raises(ArtifactError, match="damaged") as caught:
        verify_packed(own)
    assert caught.value.problems == ("weights.safetensors has changed (SHA-256 differs)",)


STOPS = ("writing the weights", "golden vectors", "lowering", "packing", "verifying", "running the source")


@pytest.mark.thorough  # test_killed.py stops a build at every change
def test_a_build_that_is_killed_anywhere_leaves_nothing_and_resumes_to_the_same_bytes(built, voice, tmp_path):
    """Kill by SIGKILL and SIGINT in turn, each time one step further, then let it finish."""
    out, store = tmp_path / "out", tmp_path / "cache"
    for number, stop in enumerate(STOPS):
        how = signal.SIGINT if number % 2 else signal.SIGKILL
        process = start(store, "--target", "x86-64", voice, "-o", out)
        for line in process.stderr:
            if stop in line:
                process.send_signal(how)
                break
        errors = process.communicate(timeout=120)[1]
        assert process.returncode == (130 if number % 2 else -9), (stop, errors)
        if number % 2:
            assert "interrupted" in errors
            assert "Traceback" not in errors
            assert not list((store / "store").glob("*.partial"))
        assert left(out) == [], stop
    done = gsvexport(store, "--target", "x86-64", voice, "-o", out)
    assert done.returncode == 0, done.stderr
    assert "source:" not in done.stderr  # resumed, not begun again
    assert left(out) == [NAME]
    assert sha256_file(out / NAME) == sha256_file(built[1])
    assert not list((store / "store").glob("*.partial"))


def test_two_builds_at_once_on_one_store_both_finish(built, voice, tmp_path):
    both = [start(tmp_path / "cache", "-t", "x86-64", voice, "-o", tmp_path / name) for name in ("one", "two")]
    for process in both:
        errors = process.communicate(timeout=300)[1]
        assert process.returncode == 0, errors
    for name in ("one", "two"):
        assert left(tmp_path / name) == [NAME]
        assert sha256_file(tmp_path / name / NAME) == sha256_file(built[1])


def test_other_surroundings_give_the_same_bytes(built, voice, tmp_path):
    """Another path, home, cache, time zone, umask, hash seed, locale, and one processor core."""
    surroundings = {"TZ": "Pacific/Niue", "PYTHONHASHSEED": "7", "LC_ALL": "C", "umask": "077", "cores": "1"}
    other = build_in(tmp_path, voice, "x86-64", surroundings)
    assert other.members == {name: item.sha256 for name, item in container.read_manifest(built[1]).files.items()}
    assert other.sha256 == sha256_file(built[1])
