"""`gsvexport bake`, `--reference`, and artifacts that clone, through the command line."""

from __future__ import annotations

import contextlib
import io
import json
from collections import namedtuple
from dataclasses import replace

import numpy as np
import pytest
from test_bake import record

import gsvexport
from gsvexport.artifact.container import read_manifest, unpack
from gsvexport.cli import run as command
from gsvexport.files import canonical_json
from gsvexport.signal.audio import decode
from gsvexport.synthetic import write_voice

TEXT = "Hello there, how are you?"


@pytest.fixture(scope="module")
def work(tmp_path_factory, networks):
    """A v2 voice with a HuBERT, and no reference."""
    work = tmp_path_factory.mktemp("rebake")
    folder = write_voice(work / "voice", reference=False)
    with open(folder / "voice.toml", "a", encoding="utf-8") as file:
        file.write(f'\n[pretrained]\nhubert = "{networks[0] / networks[1]["hubert"]}"\n')
    record(work / "one.wav")
    record(work / "two.wav", seed=1)
    return work


Done = namedtuple("Done", "returncode stderr")


def run(work, *arguments, cache="cache"):
    """One command in this process, with a cache of its own."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        patch.setenv("GSVEXPORT_CACHE", str(work / cache))
        return Done(command([str(one) for one in arguments]), said.getvalue())


@pytest.fixture(scope="module")
def built(work):
    """An artifact with a reference that was given on the command line."""
    done = run(
        work,
        *("--target", "x86-64", work / "voice", "-o", work / "dist", "--compress", "none"),
        *("--reference", work / "one.wav", "--reference-text", TEXT, "--language", "en"),
    )
    assert done.returncode == 0, done.stderr
    return work / "dist/synthetic-x86-64.gsv"


def test_an_artifact_that_was_compiled_for_one_reference_is_refused_at_once(built, tmp_path):
    """As if its vocoder were for an NPU."""
    from gsvexport.artifact import container

    unpack(built, tmp_path / "files")
    manifest = read_manifest(built)
    vocoder = replace(manifest.stages["vocoder"], backend="qnn")
    npu = replace(manifest, stages={**manifest.stages, "vocoder": vocoder})
    (tmp_path / "files/manifest.json").write_text(canonical_json(npu.to_json()))
    container.write(npu, tmp_path / "files", tmp_path / "npu.gsv")
    reference = ("--reference", record(tmp_path / "one.wav"), "--reference-text", TEXT, "--language", "en")
    done = run(tmp_path, "bake", tmp_path / "npu.gsv", *reference, "-o", tmp_path / "other.gsv")
    assert done.returncode == 2
    assert "was compiled for one reference, which is a part of its stage vocoder" in done.stderr
    assert "gsvexport --target x86-64 VOICE --reference FILE" in done.stderr


@pytest.mark.thorough
def test_a_build_takes_its_reference_from_the_command_line(built):
    manifest = read_manifest(built)
    assert set(manifest.stages) == {"prefill", "step", "acoustic", "vocoder"}
    with gsvexport.load(built) as voice:
        assert voice.baked["prompt"].shape == (1, 99)
        assert voice.synthesize(TEXT, max_tokens=12).samples.size


def test_a_new_reference_is_baked_without_lowering_and_an_old_one_cannot_be_used_with_it(work, built, tmp_path):
    new, again = work / "two.gsv", work / "three.gsv"
    done = run(work, "bake", built, "--reference", work / "two.wav", "--reference-text", TEXT, "-o", new)
    assert done.returncode == 0, done.stderr
    assert "lowering" not in done.stderr
    old, made = read_manifest(built), read_manifest(new)
    assert made.baked_key != old.baked_key
    assert made.source != old.source
    changed = {name for name in made.plain.members if old.plain.members.get(name) != made.plain.members[name]}
    assert changed
    assert all(name.startswith(("baked/", "golden/")) or name == "model.json" for name in changed)
    new_folder = unpacked(new, work / "unpacked")
    assert json.loads((new_folder / "report.json").read_text())["passed"]
    # The constants of one reference in an artifact of another are refused: every way in leads through the manifest.
    (new_folder / "baked/ge.npy").write_bytes((unpacked(built, tmp_path / "old") / "baked/ge.npy").read_bytes())
    stale = run(work, "verify", new_folder)
    assert stale.returncode == 6
    assert "baked/ge.npy" in stale.stderr
    assert run(work, "bake", new_folder, "--reference", work / "one.wav", "-o", tmp_path / "no.gsv").returncode == 6
    # once more, from what the cache holds of the first bake; and by the way of a whole build
    done = run(work, "bake", new, "--reference", work / "one.wav", "--reference-text", TEXT, "-o", again, "-q")
    assert done.returncode == 0, done.stderr
    assert read_manifest(again).baked_key == old.baked_key
    assert read_manifest(again).plain.members == old.plain.members


def unpacked(path, folder):
    unpack(path, folder)
    return folder


def test_what_cannot_be_baked_says_why(work, built, tmp_path):
    def refused(code, told, *arguments):
        done = run(work, "bake", *arguments)
        assert done.returncode == code, done.stderr
        assert told in done.stderr
        assert not (tmp_path / "no.gsv").exists()

    out = ("-o", tmp_path / "no.gsv")
    one = ("--reference", work / "one.wav")
    refused(2, "there is no recording", built, "--reference", tmp_path / "absent.wav", *out)
    refused(2, "exist", built, *one, "-o", built)
    refused(2, "is not what", built, *one, *out, "--source", write_voice(tmp_path / "other", seed=5, reference=False))
    refused(3, "lasts 1.00 s", built, "--reference", record(tmp_path / "s.wav", 1.0), "--reference-text", TEXT, *out)
    empty = run(work, "bake", built, *one, *out, cache="another")
    assert empty.returncode == 2
    assert "--source VOICE" in empty.stderr


def test_an_artifact_without_a_reference_clones_by_itself(work, tmp_path):
    done = run(work, "--target", "x86-64", work / "voice", "-o", tmp_path, "--compress", "none")
    assert done.returncode == 0, done.stderr
    [path] = tmp_path.glob("*.gsv")
    assert {"ssl", "prompt", "reference"} <= set(read_manifest(path).stages)
    samples, rate = decode(work / "one.wav")
    with gsvexport.load(path) as voice:
        other = voice.clone(samples[:, 0], rate, TEXT)
        assert other.baked["prompt"].shape == (1, 99)
        assert np.isfinite(other.synthesize(TEXT, max_tokens=12).samples).all()
        assert not voice.baked
    done = run(work, "bake", path, "--reference", work / "one.wav", "-o", tmp_path / "no.gsv")
    assert done.returncode == 2
    assert "clones by itself" in done.stderr
