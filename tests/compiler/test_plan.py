"""Plans as text are golden files: `pytest --golden` writes them anew."""

from dataclasses import replace
from pathlib import Path

import pytest
from test_layering import PACKAGE, arrows, modules

from gsvexport.compiler.explain import FULL_V2, explain
from gsvexport.compiler.plan import (
    CODE,
    Subject,
    artifact_name,
    building,
    code_versions,
    make_plan,
    missing_backends,
    sound_gates,
)
from gsvexport.errors import InputError
from gsvexport.target.target import Limits, read_target, target_names

GOLDEN = Path(__file__).parents[1] / "golden" / "plans"
BAKED = Subject("voice", "alice", "v2", True, "a" * 64)
CLONING = Subject("voice", "bob", "v2Pro", False, "b" * 64)
MEL = Subject("voice", "eve", "v4", True, "c" * 64)


@pytest.fixture(autouse=True)
def _node(monkeypatch):
    """Plans are those of a machine where onnxruntime-web runs, and Core ML does not."""
    monkeypatch.setattr("gsvexport.backends.web.runtime.missing", str)
    monkeypatch.setattr("gsvexport.backends.coreml.runtime.missing", lambda: "not here")


def versions(target):
    return dict.fromkeys(code_versions(target), "1")


def plan(subject=BAKED, target=None, **changes):
    target = target or read_target("x86-64")
    return make_plan(target, subject, versions={**versions(target), **changes})


BUILDABLE = [name for name in target_names() if not missing_backends(read_target(name))]


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILDABLE)
def test_the_plan_of_every_target_is_as_recorded(name, request):
    target = read_target(name)
    baked, cloning = (plan(subject, target) for subject in (BAKED, CLONING))
    text = "\n".join((baked.text(keys=True) + explain(baked, FULL_V2), cloning.text(keys=True)))
    path = GOLDEN / f"{name}.txt"
    if request.config.getoption("--golden"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), "the plan changed; if that is right: pytest --golden"
    assert len(plan(BAKED, target).text().splitlines()) <= 40


def test_the_plans_of_a_v4_voice_are_as_recorded(request):
    names = ("x86-64", "x86-64-fp16", "x86-64-int8", "jetson-orin")
    text = "\n".join(plan(MEL, read_target(name)).text() for name in names)
    path = GOLDEN.parent / "v4-plans.txt"
    if request.config.getoption("--golden"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), "the plan changed; if that is right: pytest --golden"


@pytest.mark.parametrize("name", BUILDABLE)
def test_every_target_takes_the_stages_of_v4(name):
    places = [line.split()[0] for step in plan(MEL, read_target(name)).lowerings.values() for line in step.lines]
    assert {"prefill", "step", "features", "cfm", "vocoder"} <= set(places)


def test_no_recorded_plan_is_without_its_target():
    assert sorted(path.stem for path in GOLDEN.glob("*.txt")) == BUILDABLE


def test_a_baked_voice_leaves_the_cloning_stages_out():
    assert BAKED.stages(read_target("x86-64")) == ("prefill", "step", "acoustic", "vocoder")
    assert CLONING.stages(read_target("x86-64")) == ("prompt", "reference", "prefill", "step", "acoustic", "vocoder")
    assert list(plan().lowerings) == ["onnxruntime"]


def keys(made):
    return {step.name: step.key for step in made.steps}


def changed(before, after):
    return {name for name, key in keys(before).items() if keys(after)[name] != key}


def test_equal_arguments_give_equal_keys():
    assert keys(plan()) == keys(plan())


def test_a_change_reaches_the_steps_that_build_on_it_and_no_other():
    every = {"source", "ruler", "golden", "lower onnxruntime", "pack", "verify"}
    assert changed(plan(), plan(replace(BAKED, digest="c" * 64))) == every
    assert changed(plan(), plan(golden="2")) == {"golden", "pack", "verify"}
    assert changed(plan(), plan(ruler="2")) == {"ruler", "golden", "pack", "verify"}  # float stages ask no ruler
    assert changed(plan(), plan(**{"lower:onnxruntime": "2"})) == {"lower onnxruntime", "pack", "verify"}
    assert changed(plan(), plan(verify="2")) == {"verify"}
    target = replace(read_target("x86-64"), limits=Limits(tokens=500))
    assert changed(plan(), plan(target=target)) == {"pack", "verify"}


def test_the_code_of_a_step_is_part_of_its_key(monkeypatch, tmp_path):
    target = read_target("x86-64")
    before = code_versions(target)
    assert all(len(version) == 64 for version in before.values())
    assert before == code_versions(target)
    monkeypatch.setattr("gsvexport.compiler.plan.tool_version", lambda name: "0")
    assert code_versions(target)["source"] != before["source"]


def test_a_calibrated_stage_adds_its_step_and_the_gate_that_it_has_to_keep():
    target = read_target("x86-64-vnni")
    one = make_plan(target, BAKED, versions=versions(target))
    assert [step.name for step in one.steps][3:5] == ["calibrate", "lower onnxruntime"]
    share, absolute = {"sound_share": 0.5}, {"log_mel_l1": 0.05, "snr_db": 25.0}
    gates = one.lowerings["onnxruntime"].params["gates"]["vocoder"]
    assert gates == {"ruled": share, "absolute": {**share, **absolute}}
    other_ruler = make_plan(target, BAKED, versions={**versions(target), "ruler": "2"})
    assert "lower onnxruntime" in changed(one, other_ruler)
    other = replace(target, gates={"vocoder.log_mel_l1": 0.1})
    assert "lower onnxruntime" in changed(one, make_plan(other, BAKED, versions=versions(target)))
    longer = replace(target, calibration=replace(target.calibration, sentences=7))
    assert "calibrate" in changed(one, make_plan(longer, BAKED, versions=versions(target)))


def test_float_stages_need_no_calibration():
    target = read_target("x86-64")
    assert "calibrate" not in [step.name for step in make_plan(target, BAKED, versions=versions(target)).steps]


@pytest.mark.parametrize("step", ["ruler", "golden", "calibrate", "verify"])
def test_a_step_is_done_again_when_code_changes_that_its_result_depends_on(step):
    """A kept verdict of an older measure would be a pass of what did not run."""
    found = modules()
    files = {name: path.relative_to(PACKAGE).as_posix() for name, path in found.items()}
    to, listed = arrows(found), CODE[step][0]

    def counts(file):
        return any(file == one or file.startswith(f"{one}/") for one in listed)

    reached = [name for name, file in files.items() if counts(file)]
    for name in reached:
        reached += [other for other in sorted(to[name]) if other not in reached]
    computing = ("runtime/", "signal/", "text/", "verify/", "calibrate/", "backends/onnxruntime/")
    assert not [files[name] for name in reached if files[name].startswith(computing) and not counts(files[name])]


def test_backends_are_found_by_their_folder():
    assert "onnxruntime" in building()


@pytest.mark.parametrize(
    ("voice", "name"),
    [
        ("alice", "alice-x86-64.gsv"),
        ("../a b/c", "a-b-c-x86-64.gsv"),
        ("...", "voice-x86-64.gsv"),
        ("花火", "花火-x86-64.gsv"),
    ],
)
def test_an_artifact_is_named_after_voice_and_target(voice, name):
    assert artifact_name(replace(BAKED, name=voice), read_target("x86-64")) == name


def test_a_deeper_verification_is_another_step_and_changes_no_other():
    target = read_target("x86-64-int8")
    one, deep = (make_plan(target, BAKED, versions=versions(target), level=level) for level in (2, 3))
    assert changed(one, deep) == {"verify"}
    assert "held-out sentences" in deep.text()
    with pytest.raises(InputError, match="level 4"):
        make_plan(target, BAKED, versions=versions(target), level=4)


def test_pretrained_networks_go_where_a_target_takes_them():
    given = replace(CLONING, pretrained=("ssl", "speaker", "bert"))
    server, board = read_target("x86-64"), read_target("raspberry-pi-5")
    assert given.stages(server)[:5] == ("ssl", "prompt", "speaker", "reference", "bert")
    assert not {"ssl", "speaker", "bert"} & {*given.stages(board)}
    assert replace(given, baked=True).stages(server)[0] == "bert"  # what is cloned is baked; text is not
    text = make_plan(server, replace(given, baked=True)).text()
    assert "left out, because the voice is baked: ssl, prompt, speaker, reference" in text
    text = make_plan(board, replace(given, baked=True)).text()
    assert "left out, because the target's 'pretrained' does not name them: bert" in text


def test_noise_before_the_vocoder_leaves_room_for_the_vocoders_own():
    """Without a ruler the whole has one limit of noise, which both together have to keep."""
    gates = {
        stage: sound_gates(read_target("x86-64-int8"), stage)["absolute"]["snr_db"] for stage in ("acoustic", "vocoder")
    }
    ruled = [sound_gates(read_target("x86-64-int8"), stage)["ruled"]["sound_share"] for stage in gates]
    assert ruled == [0.251, 0.5]  # with one, what is heard: a quarter of its power
    noise = sum(10 ** (-limit / 10) for limit in gates.values())
    assert gates["acoustic"] > gates["vocoder"]
    assert 10 ** (-gates["vocoder"] / 10) < noise < 1.3 * 10 ** (-gates["vocoder"] / 10)
