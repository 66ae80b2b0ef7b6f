"""Integer builds for a device of another kind: calibrated, verified here and said so, refused where they are wrong."""

import json
import platform
import shutil

import pytest
from building import gsvexport, left, start

from gsvexport.artifact import container
from gsvexport.compiler.build import build
from gsvexport.compiler.pack import verify_packed
from gsvexport.errors import ArtifactError, EnvironmentProblem, InputError, VoiceError
from gsvexport.files import sha256_file
from gsvexport.runtime import pipeline
from gsvexport.synthetic import write_voice
from gsvexport.target.machine import Machine

# Few sentences, so that the set lacks phones; gates are for voices that were trained.
PROFILE = """\
extends = "raspberry-pi-5"
title = "Raspberry Pi 5, calibrated in a hurry"

[calibration]
corpus = "en"
sentences = 2

[gates]
max_error = 10
cosine_distance = 1
top1 = 0
top15 = 0
kl = 100
snr_db = 0
log_mel_l1 = 1
mr_stft = 10
silence_change = 1
rms_change_db = 20
"""
NAME = "synthetic-hurried.gsv"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibrated")
    write_voice(folder / "synthetic")
    (folder / "hurried.toml").write_text(PROFILE)
    return folder


@pytest.fixture(scope="module")
def built(base):
    """The artifact, and what was told while it was built; tests only read it."""
    done = gsvexport(base / "cache", "--target", base / "hurried.toml", base / "synthetic", "-o", base / "out")
    assert done.returncode == 0, done.stderr
    return base / "out" / NAME, done.stderr


@pytest.fixture
def cache(base, built, tmp_path, monkeypatch):
    shutil.copytree(base / "cache", tmp_path / "cache")
    monkeypatch.setenv("GSVEXPORT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def pc(monkeypatch):
    """This machine is a PC, whatever it is."""
    monkeypatch.setattr("gsvexport.target.machine.this_machine", lambda: Machine("x86-64", ("avx2",)))


def test_a_narrow_calibration_set_is_warned_of_by_name_and_kept_with_the_artifact(built):
    path, told = built
    assert "warning (missing-phones): no sentence has " in told
    kept = json.loads(container.read_member(path, "calibration.json"))
    assert [one["name"] for one in kept["coverage"]["findings"]] == ["missing-phones"]


def test_strict_refuses_a_narrow_calibration_set_spoken_before_or_not(base, cache, tmp_path):
    for folder in (cache, tmp_path / "new"):
        done = gsvexport(
            folder, "-t", base / "hurried.toml", base / "synthetic", "-o", tmp_path / "out", "--strict", "-q"
        )
        assert done.returncode == InputError.exit_code, done.stderr
        assert "the calibration set for synthetic is too narrow" in done.stderr
        assert "missing-phones: no sentence has" in done.stderr
        assert left(tmp_path / "out") == []


def test_what_was_verified_elsewhere_says_so(built, cache, pc):
    report = verify_packed(built[0], any_machine=True)
    assert report.elsewhere == "x86-64"
    assert "ran on x86-64, not on what it was made for" in report.table()
    stored = json.loads(container.read_member(built[0], "report.json"))
    assert ("elsewhere" in stored) is (platform.machine() != "aarch64")


def test_an_artifact_for_another_architecture_is_refused_unless_any_machine_is_asked_for(built, cache, pc):
    for attempt in (pipeline.load, verify_packed):
        with pytest.raises(ArtifactError, match="made for another machine: hurried") as caught:
            attempt(built[0])
        assert caught.value.problems == ("it wants aarch64 with neon, dotprod, fp16", "this machine is x86-64")
    with pipeline.load(built[0], any_machine=True) as voice:
        assert voice.synthesize(phones=[1, 2, 3], max_tokens=12).seconds > 0


@pytest.mark.skipif(platform.machine() == "aarch64", reason="this machine is of the architecture that is refused")
def test_say_and_verify_refuse_with_an_exit_code_of_their_own(built, cache, tmp_path):
    say = ("say", built[0], "--phones", "5 6 7", "-o", tmp_path / "a.wav", "--max-tokens", 12)
    for arguments in (say, ("verify", built[0])):
        done = gsvexport(cache, *arguments)
        assert done.returncode == 6, done.stderr
        assert "it wants aarch64 with neon, dotprod, fp16" in done.stderr
        done = gsvexport(cache, *arguments, "--any-machine")
        assert done.returncode == 0, done.stderr


@pytest.mark.thorough  # test_build.py damages another step
def test_a_damaged_calibration_in_the_store_is_made_again(base, built, cache, tmp_path):
    (feeds,) = (cache / "store").glob("*/content/feeds.npz")
    feeds.write_bytes(b"x" * feeds.stat().st_size)
    for file in (cache / "store").glob("*/content/lowered.json"):
        shutil.rmtree(file.parent.parent)  # or nothing would ask for the calibration
    told = []
    (path,) = build(base / "synthetic", str(base / "hurried.toml"), tmp_path / "out", progress=told.append)
    assert any("is damaged (feeds.npz has changed): making it again" in text for text in told)
    assert sha256_file(path) == sha256_file(built[0])


@pytest.mark.thorough  # test_build.py has two builds of floats at once
def test_two_calibrated_builds_at_once_on_one_store_both_finish(base, built, tmp_path):
    both = [
        start(tmp_path / "cache", "-t", base / "hurried.toml", base / "synthetic", "-o", tmp_path / name)
        for name in ("one", "two")
    ]
    for process, name in zip(both, ("one", "two"), strict=True):
        errors = process.communicate(timeout=300)[1]
        assert process.returncode == 0, errors
        assert sha256_file(tmp_path / name / NAME) == sha256_file(built[0])


def test_a_voice_without_a_reference_is_refused_before_any_work(base, cache, tmp_path):
    silent = write_voice(tmp_path / "silent", reference=False)
    with pytest.raises(VoiceError, match=r"no baked reference.*: hurried"):
        build(silent, [str(base / "hurried.toml")], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_compiler_that_is_not_here_is_told_before_anything_is_computed_for_it(base, cache, tmp_path, monkeypatch):
    monkeypatch.setattr("gsvexport.backends.coreml.lower.absent", lambda: "coremltools is not installed")
    told = []
    with pytest.raises(EnvironmentProblem, match=r"coremltools is not installed"):
        build(base / "synthetic", ["iphone-13"], tmp_path / "out", progress=told.append)
    assert told == [f"reading {base / 'synthetic'}"]
