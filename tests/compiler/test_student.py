"""A target that takes students is built of the smaller voice that lies beside the one that was named."""

import pytest
from click.testing import CliRunner

from gsvexport.cli.commands import cli
from gsvexport.compiler import build as building
from gsvexport.compiler.inputs import export_source, open_voice
from gsvexport.compiler.student import of_targets
from gsvexport.errors import TargetError
from gsvexport.files import sha256_file
from gsvexport.synthetic import write_voice
from gsvexport.target.target import read_target, read_targets

SLIM = """
[slim]
teacher = "../alice"
teacher_gpt = "{gpt}"
teacher_sovits = "{sovits}"
recipe = "tiny"
recipe_digest = "0"
data = "0"
seed = 0
[slim.losses]
"""
TARGETS = ("raspberry-pi-5", "raspberry-pi-5+mobile")


def student(folder, name, **changes):
    """A student of alice in a folder beside hers, with what `changes` of [slim]."""
    made = write_voice(folder / name, **({"layers": 1} if name == "small" else {}))
    hashes = {part: sha256_file(folder / "alice" / file) for part, file in FILES.items()}
    toml = made / "voice.toml"
    text = toml.read_text().replace('name = "synthetic"', f'name = "{name}"')
    toml.write_text(text + SLIM.format(**{**hashes, **changes}))
    return made


FILES = {"gpt": "gpt.ckpt", "sovits": "sovits.pth"}


@pytest.fixture
def alice(tmp_path):
    folder = write_voice(tmp_path / "alice")
    toml = folder / "voice.toml"
    toml.write_text(toml.read_text().replace('name = "synthetic"', 'name = "alice"'))
    return folder


def taken(path, said=None):
    """The names of the voices that `TARGETS` are built of."""
    found = of_targets(open_voice(path), read_targets(TARGETS), progress=None if said is None else said.append)
    return [one.subject.name for one in found]


def test_the_smallest_student_beside_the_voice_is_taken(alice, tmp_path):
    said = []
    (tmp_path / "loose").write_text("a file")
    write_voice(tmp_path / "stranger")
    assert taken(alice, said) == ["alice", "alice"]
    assert not said
    student(tmp_path, "large")
    assert taken(alice) == ["alice", "large"]
    student(tmp_path, "small")
    assert taken(alice / "voice.toml", said) == ["alice", "small"]
    (word,) = [one for one in said if "is taken" in one]
    assert word.startswith("raspberry-pi-5-mobile: ")
    assert word.endswith("larger: large")
    assert taken(tmp_path / "large") == ["large", "large"]  # named, so it is what is asked for
    source = export_source(alice, tmp_path / "source").path
    assert taken(source) == ["alice", "alice"]


def test_what_is_no_student_of_these_weights_is_passed_over(alice, tmp_path):
    student(tmp_path, "older", sovits="0" * 64)
    broken = student(tmp_path, "broken")
    (broken / "gpt.ckpt").unlink()
    student(tmp_path, "stranger", gpt="0" * 64, sovits="0" * 64)
    toml = tmp_path / "stranger" / "voice.toml"
    toml.write_text(toml.read_text().replace("../alice", "../bob"))
    said = []
    assert taken(alice, said) == ["alice", "alice"]
    assert len(said) == 2
    assert "broken is no smaller voice to take" in said[0]
    assert "gpt.ckpt" in said[0]
    assert said[1].endswith("older is no smaller voice to take: it was made of other weights of alice")


def test_a_build_and_a_plan_name_the_student(alice, tmp_path, monkeypatch):
    student(tmp_path, "small")
    monkeypatch.setenv("GSVEXPORT_CACHE", str(tmp_path / "cache"))
    jobs = []
    monkeypatch.setattr(building, "_build_one", jobs.append)
    monkeypatch.setattr(building, "_deliver", lambda *_, **__: None)
    outputs = building.build(alice, TARGETS, tmp_path / "out")
    assert [path.name for path in outputs] == ["alice-raspberry-pi-5.gsv", "small-raspberry-pi-5-mobile.gsv"]
    assert [job.source.model.name for job in jobs] == ["alice", "small"]
    assert jobs[1].opened.teacher.exported.digest == jobs[0].source.digest

    page = CliRunner().invoke(cli, ["plan", "-t", TARGETS[1], str(alice)])
    assert page.exit_code == 0, page.output
    assert "small-raspberry-pi-5-mobile.gsv" in page.stdout
    assert "is taken, a smaller alice" in page.stderr


def test_a_profile_says_whether_it_takes_students(tmp_path):
    assert read_target(TARGETS[1]).to_json()["student"] is True
    assert "student" not in read_target(TARGETS[0]).to_json()
    mine = tmp_path / "mine.toml"
    for wrong in ('"yes"', "1"):
        mine.write_text(f'extends = "raspberry-pi-5"\nstudent = {wrong}\n')
        with pytest.raises(TargetError, match="'student' takes true or false"):
            read_target(str(mine))
