"""Files of an artifact for TensorRT that no build writes: each ends with exit code 6, in the script, too."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gsvexport.artifact import container
from gsvexport.backends.tensorrt import compiled, finalize, plans, prove
from gsvexport.backends.tensorrt.session import open_session
from gsvexport.errors import ArtifactError
from gsvexport.files import canonical_json

VALUES = (None, True, -1, 1 << 62, 0.5, "", "../x", "x" * 30_000, [], [[]], [None], {}, {"": 0}, {"x": {}})
LESS, MORE = object(), object()


@pytest.fixture
def copy(unpacked, tmp_path):
    """The artifact under a name of its own, to be damaged."""
    return Path(shutil.copytree(unpacked, tmp_path / "artifact"))


def places(value, at=()):
    """The way to every value in a JSON value; of a list only the first."""
    if at:
        yield at
    items = value.items() if isinstance(value, dict) else list(enumerate(value))[:1] if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*at, key))


def changes(value):
    """The text of `value` with another value at each place, and what was done, one after the other."""
    for at in list(places(value)):
        inner = value
        for key in at[:-1]:
            inner = inner[key]
        before = inner[at[-1]]
        for new in (*VALUES, LESS, MORE):
            if new is LESS:
                del inner[at[-1]]
            elif new is MORE and isinstance(before, dict):
                inner[at[-1]] = {**before, "more": 1}
            elif new is not MORE:
                inner[at[-1]] = new
            yield f"{at} = {str(new)[:20]}", json.dumps(value)
            if new is LESS and isinstance(inner, list):
                inner.insert(at[-1], before)
            else:
                inner[at[-1]] = before


def refusal(read, folder):
    """What is said of a file that is refused; empty where it is taken."""
    try:
        read(folder)
    except ArtifactError as error:
        return str(error)
    return ""


def small(recipe):
    """Of each engine what has something of its own; hundreds of names and ports are all alike."""
    for one in recipe["engines"].values():
        one["single"] = one["single"][:1]
        for form in filter(None, (one, one["in_place"])):
            form["ports"] = {side: dict(list(ports.items())[:2]) for side, ports in form["ports"].items()}
            form["profiles"] = form["profiles"][:1]
            form["aliases"] = dict(list(form.get("aliases", {}).items())[:1])
        del one["aliases"]
    return recipe


def test_what_is_no_recipe_is_refused_and_what_is_taken_can_be_used(copy):
    recipe = small(json.loads((copy / plans.RECIPE).read_text()))
    taken = refused = 0
    for title, text in changes(recipe):
        (copy / plans.RECIPE).write_text(text)
        if said := refusal(plans.read_recipe, copy):
            refused += 1
            assert "tensorrt.json" in said, title
            assert len(said) < 3000, title
            continue
        taken += 1
        assert all(isinstance(stage, str) for form in compiled.forms(plans.read_recipe(copy)) for stage in form.stages)
        assert all(isinstance(name, str) and "/" not in name for name in finalize.reads(copy))
        finalize.ports(copy, "t2s.onnx")
    assert refused > 1500
    assert taken < refused / 3


@pytest.mark.parametrize(
    "change",
    [
        lambda one: one.update(name="../../acoustic"),  # it names a file in the cache
        lambda one: one.update(name="t2s"),
        lambda one: one.update(graph="../acoustic.onnx"),
        lambda one: one.update(weak="/etc/passwd"),
        lambda one: one.update(stages=[]),
        lambda one: one.update(profiles=[]),
        lambda one: one.update(profiles=one["profiles"][:1] * 2),
        lambda one: one.update(half=2),
        lambda one: one.update(context=[1, 2]),
        lambda one: one["profiles"][0]["shapes"].update(codes=[[1], [2]]),
        lambda one: one["ports"]["inputs"].update(codes="object"),
        lambda one: one.update(in_place={"graph": "x.onnx"}),
    ],
)
def test_one_that_contradicts_itself_is_refused_before_the_device_is_looked_at(copy, change):
    recipe = json.loads((copy / plans.RECIPE).read_text())
    change(recipe["engines"]["acoustic"])
    (copy / plans.RECIPE).write_text(json.dumps(recipe))
    for use in (
        lambda: finalize.finalize(copy, str),
        lambda: finalize.reads(copy),
        lambda: finalize.reject(copy),
        lambda: open_session(copy / "acoustic.onnx"),
    ):
        with pytest.raises(ArtifactError, match=r"tensorrt\.json cannot be right"):
            use()


def test_t2s_without_a_cache_is_refused(copy):
    recipe = json.loads((copy / plans.RECIPE).read_text())
    for one in recipe["engines"]["t2s"]["profiles"]:
        one["shapes"].pop("keys")
    (copy / plans.RECIPE).write_text(json.dumps(recipe))
    with pytest.raises(ArtifactError, match=r"no ids .* beside a cache"):
        plans.read_recipe(copy)


@pytest.mark.parametrize("data", [b"", b"[1]", b"1", b"[" * 90_000, b'{"schema": 1e999}', b"\xff", b'{"a": 1, "a": 1}'])
@pytest.mark.parametrize("name", ["tensorrt.json", "manifest.json", "golden/golden.json", "report.json"])
def test_what_is_no_such_file_is_refused_by_the_device_itself(copy, name, data):
    read = {
        "tensorrt.json": plans.read_recipe,
        "manifest.json": plans.read_manifest,
        "golden/golden.json": prove.read_cases,
        "report.json": prove.read_limits,
    }[name]
    (copy / name).write_bytes(data)
    with pytest.raises(ArtifactError, match=Path(name).name):
        read(copy)


@pytest.mark.parametrize("name", ["manifest.json", "golden/golden.json", "report.json"])
def test_every_value_that_the_device_uses_has_its_type(copy, name):
    value = json.loads((copy / name).read_text())
    for part in ("members", "files"):
        if part in value:
            value[part] = dict(list(value[part].items())[:1])
    read = {"manifest.json": plans.read_manifest, "report.json": prove.read_limits}.get(name, cases_and_ruler)
    refused = 0
    for title, text in changes(value):
        (copy / name).write_text(text)
        if said := refusal(read, copy):
            refused += 1
            assert len(said) < 3000, title
    assert refused > 50


def cases_and_ruler(folder):
    prove._unit(folder)
    prove.read_cases(folder)


def test_stages_that_the_manifest_lacks_are_named(copy):
    manifest = json.loads((copy / "manifest.json").read_text())
    del manifest["stages"]["step"]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match="stages that the manifest lacks") as caught:
        finalize.finalize(copy, str)
    assert caught.value.problems == ("step",)


@pytest.mark.parametrize("text", ['{"schema": 1}', "[]", '{"schema": 1, "phones": 1, "engines": {"x": 1}}'])
def test_the_carried_script_ends_with_6_too(copy, device, text):
    device()
    (copy / plans.RECIPE).write_text(text)
    manifest = container.with_members(container.read_manifest(copy), copy)
    (copy / "manifest.json").write_text(canonical_json(manifest.to_json()))
    done = subprocess.run([sys.executable, str(copy / "finalize.py")], capture_output=True, text=True, check=False)
    assert done.returncode == ArtifactError.exit_code, done.stderr
    assert "tensorrt.json cannot be right" in done.stderr
    assert "Traceback" not in done.stderr
