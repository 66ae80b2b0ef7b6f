"""From a voice to a smaller one, with a few steps on a tiny voice: files, resuming, refusals."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gsvexport.calibrate.ranges import Estimator
from gsvexport.cli import run
from gsvexport.compiler.build import build, source_of
from gsvexport.compiler.inputs import open_voice
from gsvexport.compiler.plan import make_plan
from gsvexport.compiler.source import write_source
from gsvexport.compiler.store import Store
from gsvexport.errors import EnvironmentProblem, InputError, VoiceError
from gsvexport.report.stored import read_stored
from gsvexport.runtime.pipeline import load
from gsvexport.slim import prune
from gsvexport.slim.recipe import T2S, Integers, Sovits, read_recipe
from gsvexport.slim.run import slim
from gsvexport.slim.shape import of, slimmer
from gsvexport.slim.write import write
from gsvexport.synthetic import write_voice
from gsvexport.target.target import read_target
from gsvexport.verify import verify_artifact
from gsvexport.verify.cases import Size
from gsvexport.verify.depth import Depth
from gsvexport.verify.gates import resolve
from gsvexport.verify.student import compare, refuse_another, unknown
from gsvexport.voice.networks import load_networks
from gsvexport.voice.profile import read_profile
from gsvexport.voice.voice import read_voice

SHORT = Size("short", phones=9, prompt=0, tokens=6, codes=6, speed=1.0, spectrogram=16, ssl=14, bert=False)
FILES = ("gpt.ckpt", "sovits.pth", "voice.toml")


@pytest.fixture(scope="module")
def made(teacher, recipe, tmp_path_factory):
    """The student, and the folder of its work."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GSVEXPORT_CACHE", str(folder / "cache"))
        return slim(teacher, recipe, folder / "half", work=folder / "work"), folder


def test_a_smaller_voice_is_a_voice(made, teacher, tmp_path):
    found, folder = made
    voice, old = read_voice(folder / "half"), read_voice(teacher)
    assert (voice.t2s.layers, voice.t2s.width, voice.t2s.heads) == (1, 32, 2)
    assert (voice.acoustics.upsample_initial, voice.acoustics.filter) == (32, 32)
    assert voice.version == "v2"
    assert (voice.reference.prompt_codes == old.reference.prompt_codes).all()
    assert voice.reference.phones == old.reference.phones
    assert all(after < before for before, after in zip(found.before.parameters, found.after.parameters, strict=True))
    told = read_profile(folder / "half").slim
    assert told.teacher_gpt == old.gpt.sha256
    assert told.recipe == "mine"
    assert float(told.losses["recovered.vocoder.mel"]) <= float(told.losses["cut.vocoder.mel"])
    assert voice.provenance["slim"]["losses"] == told.losses
    assert voice.provenance["slim"]["teacher"] == ""
    source = write_source(voice, tmp_path / "source")
    with load(source.path, threads=1) as small:
        assert np.isfinite(small.synthesize(phones=[20, 30, 40], max_tokens=12).samples).all()


def test_a_vocoder_that_learned_to_be_rounded_is_all_that_differs(made, teacher, recipe, tmp_path, monkeypatch):
    _, folder = made
    monkeypatch.setenv("GSVEXPORT_CACHE", str(folder / "cache"))
    monkeypatch.setattr("gsvexport.slim.rounding.Estimator", lambda _: Estimator("minmax"))
    train = replace(recipe.train, integer_steps=2, integer_batch=1, integer_rate=1e-5)
    whole = replace(recipe, name="int8", t2s=T2S(), sovits=Sovits(), integers=Integers(8), train=train)
    found = slim(teacher, whole, tmp_path / "round", work=folder / "work")
    assert found.before == found.after
    voice, old = read_voice(tmp_path / "round"), read_voice(teacher)
    for one, other in ((voice.gpt, old.gpt), (voice.sovits, old.sovits)):
        assert one.tensors.keys() == other.tensors.keys()
        changed = {name for name, value in one.tensors.items() if not np.array_equal(value, other.tensors[name])}
        assert {name.partition(".")[0] for name in changed} <= {"dec"}
    told = read_profile(tmp_path / "round").slim
    assert told.recipe == "int8"
    assert {"cut.own.gate", "cut.float.gate", "recovered.integers.mel", "recovered.float.mel"} <= told.losses.keys()
    assert not [name for name in told.losses if "t2s" in name or "prior" in name]
    ours, theirs = (load_networks(one)[1] for one in (voice, old))
    latent, ge = torch.randn(1, old.acoustics.inter, 9), torch.zeros(1, old.acoustics.gin, 1)
    with torch.no_grad():
        apart = (ours.vocoder(latent, ge) - theirs.vocoder(latent, ge)).abs().max()
    assert apart < 0.05  # half-precision files, and two small steps, or none: they are kept where they helped


def test_what_another_recipe_trained_is_not_trained_again(made, teacher, recipe, tmp_path, monkeypatch):
    _, folder = made
    monkeypatch.setenv("GSVEXPORT_CACHE", str(folder / "cache"))
    words = []
    wider = replace(recipe, sovits=replace(recipe.sovits, channels=1.0))
    slim(teacher, wider, tmp_path / "wider", work=folder / "work", progress=words.append)
    assert not [one for one in words if one.startswith(("choosing", "t2s 1", "prior 1", "vocoder 1"))]
    ours, theirs = (read_voice(one).gpt.tensors for one in (tmp_path / "wider", folder / "half"))
    assert all(np.array_equal(value, theirs[name]) for name, value in ours.items())


def test_a_student_is_compared_with_its_teacher(made, teacher, tmp_path, monkeypatch):
    _, folder = made
    monkeypatch.setenv("GSVEXPORT_CACHE", str(folder / "cache"))
    say = []
    found = open_voice(folder / "half", progress=say.append)
    assert found.subject.teacher == found.teacher.subject.digest
    plan = make_plan(read_target("x86-64"), found.subject)
    assert "compare it with the teacher that it was made of, too" in plan.text()
    own = write_source(found.voice, tmp_path / "own")
    theirs = source_of(teacher, Store(), say.append)
    checks = [one for one in verify_artifact(own.path, teacher=theirs.path).checks if one.against == "teacher"]
    values = {(one.stage, one.metric): (one.value, one.status) for one in checks}
    assert {status for _, status in values.values()} <= {"info", "pass", "not_run"}
    assert values["step", "kl"][0] > 0  # it is another network
    assert values["pipeline", "log_mel_l1"][0] > 0
    assert values["pipeline", "valid"] == (1, "pass")
    with load(theirs.path, threads=1) as one:
        same = {check.metric: check.value for check in compare(one, one, resolve(), (SHORT,), Depth(), say.append)}
    assert (same["kl"], same["log_mel_l1"]) == (0, 0)
    refuse_another(own.meta["provenance"], theirs.meta["provenance"], "alice")
    with pytest.raises(InputError, match="but the student learned from"):
        refuse_another(own.meta["provenance"], own.meta["provenance"], "half")


def test_a_teacher_that_is_gone_is_told(made, tmp_path):
    _, folder = made
    shutil.copytree(folder / "half", tmp_path / "half")
    toml = tmp_path / "half" / "voice.toml"
    said = []

    def opened(place):
        toml.write_text(re.sub("^teacher = .*", f'teacher = "{place}"', toml.read_text(), flags=re.M))
        return open_voice(tmp_path / "half", progress=said.append)

    found = opened("../gone")
    assert (found.teacher, found.subject.teacher) == (None, "")
    assert found.untaught == "its teacher does not lie where voice.toml says"
    assert "is not compared with: there is no voice at" in said[-1]
    assert opened(".").teacher is None  # itself
    assert "it has other weights" in said[-1]
    [row] = unknown(resolve(), found.untaught)
    assert (row.status, row.against, row.reason) == ("not_run", "teacher", found.untaught)


def test_the_report_of_a_build_shows_both(made, teacher, tmp_path, monkeypatch, capsys):
    _, folder = made
    monkeypatch.setenv("GSVEXPORT_CACHE", str(folder / "cache"))
    [artifact] = build(folder / "half", "x86-64", tmp_path)
    against = {one.against for one in read_stored(artifact).report.checks}
    assert {"source", "teacher"} <= against
    assert run(["verify", str(artifact), "--teacher", str(teacher)]) == 0
    assert "teacher" in capsys.readouterr().out
    assert run(["verify", str(artifact), "--teacher", str(teacher), "--self-test"]) == 2


@pytest.mark.thorough  # tests/train kills the loop itself
def test_a_run_that_is_killed_anywhere_ends_with_equal_numbers(made, teacher, recipe, monkeypatch, tmp_path):
    _, folder = made
    monkeypatch.setenv("GSVEXPORT_CACHE", str(folder / "cache"))
    shutil.copytree(folder / "work" / "data", tmp_path / "work" / "data")
    lost = next((tmp_path / "work" / "data").rglob("s00001-*.npz"))
    lost.write_bytes(lost.read_bytes()[:-30])  # what a power cut leaves; and the last utterance is not there yet

    class Killed(BaseException):
        pass

    def ask(*, kill):
        words = []

        def say(text):
            words.append(text)
            if kill and text.startswith(kill):
                raise Killed

        return slim(teacher, recipe, tmp_path / "half", work=tmp_path / "work", progress=say), words

    for where in ("choosing", "t2s 1/3", "prior 2/2", "vocoder 2/3"):
        with pytest.raises(Killed):
            ask(kill=where)
        assert not (tmp_path / "half").exists()
    _, words = ask(kill="")
    assert not [one for one in words if one.startswith(("choosing", "t2s 1", "prior 1", "vocoder 1"))]
    for name in ("gpt.ckpt", "sovits.pth"):
        assert (tmp_path / "half" / name).read_bytes() == (folder / "half" / name).read_bytes(), name
    tomls = [(one / "half" / "voice.toml").read_text().splitlines() for one in (tmp_path, folder)]
    assert [one for one, other in zip(*tomls, strict=True) if one != other and not one.startswith("teacher =")] == []


@pytest.mark.parametrize("version", ["v1", "v2ProPlus", pytest.param("v2Pro", marks=pytest.mark.thorough)])
def test_every_version_is_read_back(version, tmp_path):
    voice = read_voice(write_voice(tmp_path / "voice", version))
    before = of(voice)
    after = slimmer(before, read_recipe("tiny"))
    t2s, synthesizer = load_networks(voice)
    groups = [
        *prune.t2s_groups(before.t2s, after.t2s, [1]),
        *prune.vocoder_groups(before.sovits, after.sovits),
        *prune.prior_groups(before.sovits, after.sovits),
    ]
    kept = {group.name: torch.arange(group.keep) for group in groups}
    told = {"name": "tiny", "recipe": "tiny", "teacher": "../voice", "losses": {}, "seed": 0}
    told |= dict.fromkeys(("teacher_gpt", "teacher_sovits", "recipe_digest", "data"), "0")
    small = prune.smaller_t2s(t2s, before.t2s, after.t2s, [1], kept)
    write(
        voice, after, small, prune.smaller_sovits(synthesizer, after.sovits, kept), told, tmp_path / "tiny", force=False
    )
    found = read_voice(tmp_path / "tiny")
    assert (found.version, found.t2s, found.acoustics) == (version, after.t2s, after.sovits)
    assert found.sovits.header == voice.sovits.header
    assert found.gpt.config["inference"] == voice.gpt.config["inference"]
    assert b"/home/" not in (tmp_path / "tiny" / "sovits.pth").read_bytes()[:20000]


def test_what_cannot_be_a_teacher_is_refused(teacher, tmp_path, capsys, monkeypatch):
    text = (teacher / "voice.toml").read_text()
    bare = tmp_path / "bare"
    shutil.copytree(teacher, bare)
    (bare / "voice.toml").write_text(text[: text.index("[reference]")])
    monkeypatch.setenv("GSVEXPORT_CACHE", str(tmp_path / "cache"))
    assert run(["slim", str(bare), "--recipe", "tiny", "-o", str(tmp_path / "out")]) == VoiceError.exit_code
    assert "has no [reference], and the teacher has to speak" in capsys.readouterr().err
    (tmp_path / "there").mkdir()
    assert run(["slim", str(teacher), "--recipe", "tiny", "-o", str(tmp_path / "there")]) == 2
    monkeypatch.setattr("gsvexport.cli.slim.find_spec", lambda name: None)
    assert run(["slim", str(teacher), "--recipe", "tiny", "-o", str(tmp_path / "out")]) == 7
    assert "pip install 'gsvexport[slim]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_told_and_loses_nothing(made, teacher, recipe, tmp_path, monkeypatch):
    _, folder = made
    monkeypatch.setenv("GSVEXPORT_CACHE", str(folder / "cache"))

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gsvexport.slim.write.write_checkpoint", full)
    with pytest.raises(EnvironmentProblem, match="the disk is full"):
        slim(teacher, recipe, tmp_path / "half", work=folder / "work")
    assert list(Path(tmp_path).iterdir()) == []


def test_force_replaces_a_student_and_nothing_else(made, teacher, recipe, tmp_path):
    _, folder = made
    other = tmp_path / "voices"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    work = folder / "work"
    with pytest.raises(InputError, match="other things in it"):
        slim(teacher, recipe, other, work=work, force=True)
    with pytest.raises(InputError, match="other things in it"):
        slim(teacher, recipe, teacher, work=work, force=True)
    student = shutil.copytree(folder / "half", tmp_path / "half")
    with pytest.raises(InputError, match="lies in"):
        slim(student, recipe, student, work=work, force=True)
    with pytest.raises(InputError, match="lies in"):
        slim(teacher, recipe, tmp_path / "new", work=tmp_path / "new" / "work")
    assert run(["slim", str(teacher), "--recipe", "tiny", "--config-only", "-o", str(other), "--force"]) == 2
    assert (other / "notes.txt").read_text() == "mine"
    assert (student / "voice.toml").is_file()
