"""Building engines ahead of time: what is planned, asked of NVIDIA's library and told in the manifest, and what a build
does where the library is not there, too old, or stopped."""

import json
import shutil
import sys
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import double_rtx
import jsonschema
import pytest
from test_ahead import CARD
from test_real_library import forked, needs_library

import gsvexport
from gsvexport.artifact import container
from gsvexport.artifact.manifest import Manifest
from gsvexport.backends.tensorrt import ahead, building, plans, ready, rtx
from gsvexport.backends.tensorrt.told import make_logger
from gsvexport.cli import main
from gsvexport.compiler import pack
from gsvexport.compiler.build import _engines
from gsvexport.compiler.plan import ABSENT, Subject, code_versions, make_plan
from gsvexport.compiler.reproduce import Built, verdict
from gsvexport.compiler.store import Store
from gsvexport.errors import BackendError, EnvironmentProblem, GsvError, InputError, TargetError
from gsvexport.files import canonical_json, sha256_bytes, sha256_file
from gsvexport.target.target import AHEAD, ON_DEVICE, read_target

PUBLISHED = json.loads((Path(gsvexport.__file__).parent / "data" / "manifest.schema.json").read_text(encoding="utf-8"))
BAKED = Subject("voice", "alice", "v2", True, "a" * 64)
CARDS = ("rtx-3060", "rtx-4090", "rtx-5090")


def quiet(text):
    pass


def installed(monkeypatch, version):
    """Have this version of NVIDIA's package; None: none."""

    def found(name):
        if version is None:
            raise PackageNotFoundError(name)
        return version

    monkeypatch.setattr(rtx, "version", found)


def plan(name, engine=None, **changes):
    target = read_target(name)
    return make_plan(target, BAKED, engine=engine, versions={**dict.fromkeys(code_versions(target), "1"), **changes})


# --- what is planned ---


@pytest.mark.parametrize("name", CARDS)
def test_rtx_targets_build_ahead_of_time_where_the_library_is_there(name, monkeypatch):
    installed(monkeypatch, "1.7.1.116")
    assert list(make_plan(read_target(name), BAKED).engines) == ["tensorrt"]
    assert list(plan(name).engines) == ["tensorrt"]
    assert plan(name, ON_DEVICE).engines == {}
    assert "compiled, not run" in plan(name).text()


@pytest.mark.parametrize("version", [None, "1.5.0"])
def test_without_it_the_plan_is_the_one_for_the_device_and_insisting_says_what_to_install(version, monkeypatch):
    installed(monkeypatch, version)
    target = read_target("rtx-4090")
    assert code_versions(target)["engines:tensorrt"] == ABSENT
    default, on_device = make_plan(target, BAKED), make_plan(target, BAKED, engine=ON_DEVICE)
    assert default.engines == {}
    assert [step.key for step in default.steps] == [step.key for step in on_device.steps]
    with pytest.raises(EnvironmentProblem) as error:
        make_plan(target, BAKED, engine=AHEAD)
    assert "pip install 'gsvexport[nvidia-check]'" in str(error.value)
    assert error.value.exit_code == 7


def test_nothing_that_comes_before_the_engines_depends_on_them():
    without, with_them = plan("rtx-4090", ON_DEVICE), plan("rtx-4090")
    keys = [{step.name: step.key for step in one.steps} for one in (without, with_them)]
    assert {name for name, key in keys[1].items() if keys[0].get(name) != key} == {"engines tensorrt", "pack", "verify"}
    other = {step.name: step.key for step in plan("rtx-4090", **{"engines:tensorrt": "1.8"}).steps}
    assert {name for name, key in keys[1].items() if other[name] != key} == {"engines tensorrt", "pack", "verify"}


def test_two_targets_with_equal_graphs_share_the_engines():
    assert plan("rtx-3060").engines["tensorrt"].key == plan("rtx-4090").engines["tensorrt"].key


@pytest.mark.parametrize(
    ("name", "text"),
    [("jetson-orin", "compute capability 8.6, 8.9, 12.0; it has 8.7"), ("x86-64", "no engines"), ("h100", "has 9.0")],
)
def test_what_no_such_engine_can_be_for_is_refused_with_the_way_out(name, text, monkeypatch):
    installed(monkeypatch, "1.7.1.116")
    with pytest.raises(TargetError, match="ahead of time") as error:
        plan(name, AHEAD)
    assert text in str(error.value)
    assert "leave --engine out" in str(error.value)
    assert plan(name).engines == plan(name, ON_DEVICE).engines == {}


def test_a_target_of_ones_own_may_ask_for_it_and_cannot_ask_for_nonsense(tmp_path, monkeypatch):
    installed(monkeypatch, "1.7.1.116")
    path = tmp_path / "my-card.toml"
    path.write_text('extends = "rtx-4090"\ntitle = "Mine"\nengine = "on-device"\n')
    assert make_plan(read_target(str(path)), BAKED).engines == {}
    assert list(make_plan(read_target(str(path)), BAKED, engine=AHEAD).engines) == ["tensorrt"]
    path.write_text('extends = "jetson-orin"\ntitle = "Mine"\nengine = "ahead-of-time"\n')
    with pytest.raises(TargetError, match="cannot be built ahead of time"):
        make_plan(read_target(str(path)), BAKED)
    path.write_text('extends = "rtx-4090"\ntitle = "Mine"\nengine = "tomorrow"\n')
    with pytest.raises(TargetError) as error:
        read_target(str(path))
    assert "my-card.toml:3" in str(error.value)
    with pytest.raises(InputError):
        make_plan(read_target("rtx-4090"), BAKED, engine="tomorrow")


def test_the_command_line_ends_with_the_machines_code_where_it_is_absent(monkeypatch, capsys, tmp_path):
    installed(monkeypatch, None)
    monkeypatch.setenv("GSVEXPORT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        sys, "argv", ["gsvexport", "--target", "rtx-4090", "--engine", "ahead-of-time", "-o", str(tmp_path)]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 7
    assert "pip install" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.gsv"))


# --- what is asked ---


def test_one_profile_serves_what_several_do_and_is_tuned_for_the_second():
    def profile(name, *sizes):
        return {"name": name, "shapes": {"x": [[1, one] for one in sizes]}}

    made = ahead.one_profile([profile("a", 1, 1, 64), profile("b", 65, 256, 256), profile("c", 257, 1000, 1000)])
    assert made == {"name": "all", "shapes": {"x": [[1, 1], [1, 256], [1, 1000]]}}
    assert ahead.one_profile([profile("a", 2, 3, 4)])["shapes"] == {"x": [[1, 2], [1, 3], [1, 4]]}


@pytest.fixture
def scripted(monkeypatch):
    """`scripted(answer)`: what every builder process says; what they were asked."""
    asked = []

    def play(answer):
        def child(request, log, name, say):
            asked.append(request)
            return answer

        monkeypatch.setattr(building, "child", child)
        installed(monkeypatch, "1.7.1.116")
        return asked

    return play


@pytest.mark.parametrize(
    ("kind", "error", "text"),
    [
        ("graph", BackendError, "refuses acoustic.onnx"),
        ("killed", BackendError, "did not finish acoustic.onnx"),
        ("machine", EnvironmentProblem, "cannot be built on this machine"),
    ],
)
def test_a_builder_that_fails_ends_the_build_with_its_words_and_leaves_nothing(
    unpacked, tmp_path, scripted, kind, error, text
):
    asked = scripted({"failed": kind, "problems": ["the disk is full while writing acoustic.plan"]})
    store = Store(tmp_path / "store")
    with pytest.raises(error, match=text) as found:
        store.obtain("a" * 64, lambda work: _engines("tensorrt", unpacked, quiet, work), "engines")
    assert "the disk is full" in str(found.value)
    assert len(asked) == 1
    assert store.entries() == []
    assert not list((tmp_path / "store").rglob("*.plan"))
    if error is BackendError:
        assert "--engine on-device" in found.value.fix


def test_ctrl_c_ends_the_builder_and_leaves_nothing(unpacked, tmp_path, monkeypatch):
    installed(monkeypatch, "1.7.1.116")
    killed = []
    process = SimpleNamespace(stdin=None, stdout=None, kill=lambda: killed.append(True), wait=lambda: -9)

    def listen(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(building, "_listen", listen)
    monkeypatch.setattr(building.subprocess, "Popen", lambda *arguments, **more: process)
    store = Store(tmp_path / "store")
    with pytest.raises(KeyboardInterrupt):
        store.obtain("a" * 64, lambda work: _engines("tensorrt", unpacked, quiet, work), "engines")
    assert killed
    assert store.entries() == []


@pytest.mark.parametrize(
    ("engine", "text"),
    [
        ({"host_ports": ["cached"]}, "cached lies on the host"),
        ({"half_share": 0.1}, "FP16 in 0.1"),
        ({}, "tells nothing"),
    ],
)
def test_an_engine_that_finalize_would_refuse_is_not_shipped(unpacked, tmp_path, scripted, engine, text):
    told = {"host_ports": [], "half_share": 1.0, "scratch": {}, "weights": 1, "kernels_of_all": 1, **engine}
    (tmp_path / "acoustic.plan").write_bytes(b"plan")
    scripted({"done": {"cpu": 1.0, "peak_mb": 1.0, "engine": told if engine else {}}})
    with pytest.raises(BackendError, match=r"acoustic\.onnx") as error:
        ahead.build(unpacked, tmp_path, quiet)
    assert text in str(error.value)


# --- the library itself ---


@pytest.fixture(scope="module")
def real(unpacked, tmp_path_factory):
    """The tiny voice's engines without the slow one (`test_compiled.py` builds it): where they are, what is said."""
    graphs, folder = tmp_path_factory.mktemp("graphs"), tmp_path_factory.mktemp("real")
    for path in unpacked.iterdir():
        if path.suffix in (".onnx", ".safetensors"):
            shutil.copyfile(path, graphs / path.name)
    recipe = json.loads((unpacked / "tensorrt.json").read_text())
    del recipe["engines"]["acoustic"]
    (graphs / "tensorrt.json").write_text(json.dumps(recipe))
    return folder, ahead.build(graphs, folder, quiet)


def vocoder(unpacked, plan):
    """The smallest of them, alone."""
    return ahead._built(unpacked, plans.read_recipe(unpacked)["engines"]["vocoder"], plan, quiet)


@needs_library
def test_the_library_builds_every_engine_for_three_kinds_of_gpus_at_once(real, unpacked):
    folder, told = real
    assert sorted(path.name for path in folder.iterdir()) == sorted(told["plans"]) == ["t2s.plan", "vocoder.plan"]
    assert told["capabilities"] == ["8.6", "8.9", "12.0"]
    assert told["version"] == rtx.installed()[0]
    entries = plans.read_recipe(unpacked)["engines"]
    for name, one in told["plans"].items():
        assert min(one["kernels"], one["weights"]) > 0, name
        form = next(form for form in ready.forms(entries[one["engine"]]) if form["graph"] == one["graph"])
        assert list(ready.gaps(form, one)) == []
    assert told["plans"]["t2s.plan"]["graph"] == "t2s.kv.onnx"


@needs_library
def test_a_second_build_gives_other_bytes_and_the_manifest_says_so(real, unpacked, tmp_path):
    folder, told = real
    again = vocoder(unpacked, tmp_path / "vocoder.plan")
    assert again == told["plans"]["vocoder.plan"]  # all that is said of it is the same
    assert told["reproducible"] is False
    assert (folder / "vocoder.plan").read_bytes() != (tmp_path / "vocoder.plan").read_bytes()


@pytest.mark.parametrize("which", ["the double", pytest.param("tensorrt_rtx", marks=needs_library)])
def test_the_first_bytes_tell_what_is_no_engine(which, request, unpacked, tmp_path):
    """The double and the library say the same, up to what takes a GPU."""
    if which == "the double":
        request.getfixturevalue("device")(**CARD)
        trt, ask = sys.modules["tensorrt_rtx"], lambda work: work()
        whole = double_rtx.header(CARD["version"], [86, 89, 120]) + b"{}"
    else:
        trt, ask = rtx.adapter(["8.9"]), forked
        whole = (request.getfixturevalue("real")[0] / "vocoder.plan").read_bytes()
    assert trt.Runtime(make_logger(trt)).engine_header_size == double_rtx.HEADER
    major, minor, patch = CARD["version"].split(".")[:3]
    assert whole[:4] == double_rtx.MAGIC
    if trt.__version__ == CARD["version"]:
        assert tuple(whole[24:27]) == (int(major), int(minor), int(patch))

    def asked(data):
        (tmp_path / "x.plan").write_bytes(data)
        return ask(lambda: [ready.invalid(trt, tmp_path / "x.plan")])[0]

    for data in (whole[:20], whole[:63], b"", b"garbage " * 99):
        assert asked(data) == "it is cut short, or no engine"
    assert asked(whole) == asked(whole[:64])  # of the rest it says nothing
    if which == "the double":  # which plays a GPU; without a driver the library calls all invalid, and says no more
        assert asked(whole) == ""
        assert asked(double_rtx.header("1.8.0.1", [89])) == "another release built it"
        assert asked(double_rtx.header(CARD["version"], [120])) == "it is for GPUs of other compute capabilities"
    for name, bit in double_rtx.BITS.items():
        assert int(getattr(trt.EngineInvalidityDiagnostics, name)) == bit


@needs_library
def test_a_disk_without_room_is_named_and_leaves_no_engine(unpacked, tmp_path):
    """A limit on the size of files stands in for the disk: the builder's own process meets it."""
    import resource

    def work():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            vocoder(unpacked, tmp_path / "vocoder.plan")
        except GsvError as error:
            return [type(error).__name__, str(error)]
        return ["built", ""]

    kind, text = forked(work)
    assert kind == "EnvironmentProblem", text
    assert "vocoder" in text
    assert not list(tmp_path.glob("*.plan"))


# --- what goes into an artifact ---

MADE = {
    "engine": "vocoder",
    "graph": "vocoder.onnx",
    "profiles": [{"name": "all", "shapes": {"latent": [[1, 8, 1], [1, 8, 2], [1, 8, 9]]}}],
    "serves": {"codes-64": 0},
    "weights": 1,
    "scratch": 2,
    "kernels": 3,
}
TOLD = {
    "backend": "tensorrt",
    "library": "tensorrt_rtx",
    "version": "1.7.1.116",
    "portability": "portable",
    "capabilities": ["8.9"],
    "flags": [],
    "reproducible": False,
    "notice": "what it is",
}


def assembled(unpacked, source, work, plan_bytes=None):
    """The manifest and files of an artifact, of lowered graphs and, with bytes, of one engine."""
    lowered = work / "lowered"
    (lowered / "files").mkdir(parents=True)
    for path in unpacked.iterdir():
        if path.suffix in (".onnx", ".safetensors") or path.name == "tensorrt.json":
            shutil.copyfile(path, lowered / "files" / path.name)
    stages = container.read_manifest(unpacked).stages
    value = {"stages": {name: one.to_json() for name, one in stages.items()}, "weights": []}
    (lowered / pack.LOWERED).write_text(canonical_json(value))
    parts = [lowered]
    if plan_bytes is not None:
        parts.append(work / "engines")
        (parts[1] / "files").mkdir(parents=True)
        (parts[1] / "files" / "vocoder.plan").write_bytes(plan_bytes)
        made = {**MADE, "made_from": {"vocoder.onnx": sha256_file(unpacked / "vocoder.onnx")}}
        (parts[1] / pack.ENGINES).write_text(canonical_json({**TOLD, "plans": {"vocoder.plan": made}}))
    opened = SimpleNamespace(notice=b"Terms.", voice=None, exported=source)
    manifest = pack._assemble(plan("rtx-4090"), opened, parts, work / "files")
    return container.with_members(manifest, work / "files")


@pytest.fixture
def three(unpacked, source, tmp_path):
    """Without engines, and twice with one, whose bytes differ."""
    return [
        assembled(unpacked, source, tmp_path / str(number), data) for number, data in enumerate((None, b"one", b"two"))
    ]


def test_every_other_member_is_the_same_with_engines_and_without(three, tmp_path):
    without, one, other = three
    assert {name for name in one.members if one.members[name] != without.members.get(name)} == {"vocoder.plan"}
    assert set(without.members) == set(one.members) - {"vocoder.plan"}
    assert without.engines is None
    assert "engines" not in without.to_json()
    assert one.unrepeatable == ("vocoder.plan",)
    assert len({one.digest, other.digest, without.digest}) == 3
    assert {one.repeatable.digest, other.repeatable.digest} == {without.digest}
    for made in three:
        assert Manifest.from_bytes(canonical_json(made.to_json()).encode(), "it") == made
        jsonschema.Draft202012Validator(PUBLISHED).validate(json.loads(canonical_json(made.to_json())))
    assert PUBLISHED["$defs"]["plan"]["required"] == list(PUBLISHED["$defs"]["plan"]["properties"])
    assert container.differences(tmp_path / "1" / "files", one, hashes=True) == ["manifest.json is missing"]


def test_two_builds_are_equal_but_for_the_engines_and_that_is_told(three):
    without, one, other = (
        Built(
            made.digest,
            made.digest,
            {name: item.sha256 for name, item in made.files.items()},
            1.0,
            made.unrepeatable,
            made.repeatable.digest,
        )
        for made in three
    )
    assert verdict(without, without) == (True, "equal bytes")
    same, told = verdict(one, other)
    assert same
    assert told.startswith("equal bytes but for vocoder.plan: their compiler writes other bytes each time")
    changed = replace(other, members={**other.members, "acoustic.onnx": "0"})
    assert verdict(one, changed) == (False, "1 members differ: acoustic.onnx")
    assert verdict(one, replace(other, repeatable="0")) == (False, "the manifests differ")
    assert verdict(without, one) == (False, "1 members differ: vocoder.plan")  # only one of them has it


@pytest.mark.parametrize("turned", [False, True])
def test_comparing_with_and_without_engines_says_so_and_is_no_regression(tmp_path, turned):
    from report.crafted import artifact, manifest

    from gsvexport.report.compare import compare_artifacts

    plain = artifact(tmp_path / "plain.gsv", filler=200_000)
    found = [plain]
    for word in (b"a", b"b"):
        folder = tmp_path / word.decode()
        made = {**MADE, "made_from": {"vocoder.onnx": sha256_bytes(b"graph")}}
        path = artifact(
            folder / "x.gsv",
            made=manifest(engines={**TOLD, "plans": {"vocoder.plan": made}}),
            more={"vocoder.plan": word * 500_000},
            filler=200_000,
        )
        found.append(path)
    pair = (found[1], plain) if turned else (plain, found[1])
    done = compare_artifacts(*pair)
    assert done.passed, done.reasons
    who = "baseline" if turned else "candidate"
    assert f"only the {who} has engines that were built ahead of time: vocoder.plan" in done.notes
    again = compare_artifacts(found[1], found[2])
    assert again.passed
    words = "engines that were built ahead of time have other bytes in every build; everything else is the same"
    assert words in again.notes
    assert "tensorrt_rtx 1.7.1.116 for 8.9" in [line[2] for line in again.about]
