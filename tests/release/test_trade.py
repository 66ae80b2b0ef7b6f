"""Teacher and students of one release, side by side."""

import shutil

import pytest

from gsvexport.release.index import Row
from gsvexport.release.overview import overview
from gsvexport.release.run import Job, Outcome, _families, _once
from gsvexport.synthetic import write_voice

SLIM = """
[slim]
teacher = "../alice"
teacher_gpt = "0"
teacher_sovits = "0"
recipe = "tiny"
recipe_digest = "0"
data = "0"
seed = 0
[slim.losses]
"""


def row(voice, size, **taught):
    return Row(
        file=f"{voice}-x86-64.gsv",
        bytes=size,
        sha256="0" * 64,
        digest="0" * 64,
        voice=voice,
        version="v2",
        target="x86-64",
        title="",
        portability="portable",
        precisions={"vocoder": "onnxruntime fp32"},
        verdict="pass",
        checks={"pass": 3},
        place="",
        nearest=None,
        taught=taught,
    )


ROWS = [
    row("alice", 9_000_000),
    row("alice-tiny", 3_000_000, **{"pipeline.log_mel_l1": 0.4, "free_run.p808_drop": 0.25}),
    row("alice-30", 7_000_000, **{"pipeline.log_mel_l1": 0.2}),
    row("bob", 5_000_000),
]
FAMILIES = {"alice-tiny-x86-64.gsv": "alice-x86-64.gsv", "alice-30-x86-64.gsv": "alice-x86-64.gsv"}


def test_the_overview_draws_what_a_student_costs_and_gains():
    page = overview(ROWS, [], {}, FAMILIES)
    assert "alice and its students for x86-64" in page
    section = page[page.index("<h2") :]
    assert "bob" not in section
    assert "not run here" in section  # nothing was measured
    assert section.count("<svg") == 1
    assert "log-mel distance against MB" in section  # the quality that all of them have
    assert section.count("<circle") == 3
    measured = {one.file: {"rtf": 0.1 * (place + 1)} for place, one in enumerate(ROWS)}
    assert overview(ROWS, [], measured, FAMILIES).count("<svg") == 2
    assert overview(ROWS, [], measured) == overview(ROWS, [], measured, {})
    assert "<svg" not in overview(ROWS, [], measured)


@pytest.fixture
def outcomes(tmp_path):
    alice = write_voice(tmp_path / "alice", reference=False)
    for name in ("tiny", "other"):
        shutil.copytree(alice, tmp_path / name)
    toml = tmp_path / "tiny" / "voice.toml"
    toml.write_text(toml.read_text() + SLIM)
    toml = tmp_path / "other" / "voice.toml"
    toml.write_text(toml.read_text() + SLIM.replace("../alice", "../carol"))
    (tmp_path / "source").mkdir()
    jobs = [(name, target) for name in ("alice", "tiny/voice.toml", "other", "source") for target in ("one", "two")]
    made = [
        (tmp_path / name.partition("/")[0] / f"{target}.gsv", Job(str(tmp_path / name), target))
        for name, target in jobs
    ]
    return [Outcome(job, path.with_name(f"{path.parent.name}-{path.name}")) for path, job in made]


def test_a_students_teacher_is_found_by_its_folder_for_the_same_target(outcomes):
    assert _families(outcomes) == {"tiny-one.gsv": "alice-one.gsv", "tiny-two.gsv": "alice-two.gsv"}
    assert _families([one for one in outcomes if one.artifact.name != "alice-one.gsv"]) == {
        "tiny-two.gsv": "alice-two.gsv"
    }
    assert _families([Outcome(outcomes[0].job, None), Outcome(Job(None, "one"), outcomes[0].artifact)]) == {}


def test_what_a_teacher_and_its_student_make_alike_is_there_once(outcomes, tmp_path):
    tiny, own = tmp_path / "tiny-mobile.gsv", tmp_path / "again" / "tiny-mobile.gsv"
    own.parent.mkdir()
    for path in (tiny, own):
        path.write_bytes(b"one")
    made = [Outcome(Job(str(tmp_path / "alice"), "m"), tiny), Outcome(Job(str(tmp_path / "tiny"), "m"), own)]
    assert _once(made) == made[1:]
    assert _once(made[::-1]) == made[1:]
    assert _families(_once(made)) == {}
    own.write_bytes(b"two")
    assert _once(made) == made  # two that are not alike are refused later
    assert _once([Outcome(made[0].job, None), *made[:1]]) == [Outcome(made[0].job, None), *made[:1]]
