"""The published JSON Schema of manifest.json and the code say the same; no field of a manifest changes unnoticed."""

import copy
import io
import json
import zlib
from dataclasses import fields, replace
from pathlib import Path

import jsonschema
import pytest
from report.crafted import artifact

import gsvexport
from gsvexport.artifact import container
from gsvexport.artifact.encoding import compress
from gsvexport.artifact.layout import Entry, directory, local_header
from gsvexport.artifact.manifest import SCHEMA, Decisions, Group, Manifest, Member, StageEntry, Weights
from gsvexport.errors import ArtifactError
from gsvexport.files import canonical_json, sha256_bytes
from gsvexport.target.target import read_target, target_names

PUBLISHED = json.loads((Path(gsvexport.__file__).parent / "data" / "manifest.schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(PUBLISHED)
DIGEST = "0" * 64


@pytest.fixture
def packed(tmp_path):
    """An artifact whose weights and report are compressed."""
    plain = artifact(tmp_path / "plain.gsv")
    made, streams = container.read_manifest(plain), {}
    for name, member in made.files.items():
        data = container.read_member(plain, name)
        streams[name] = tmp_path / name
        found = compress(io.BytesIO(data), member, streams[name], 5)
        if found is None:
            streams[name].write_bytes(data)
        elif name == "report.json":
            made = replace(made, report=found)
        else:
            made = replace(made, members={**made.members, name: found})
    made = replace(made, compression="brotli 1, quality 5")
    container.assemble(made, streams.__getitem__, tmp_path / "packed.gsv")
    return tmp_path / "packed.gsv"


def test_it_is_a_schema_of_the_release_that_it_ships_with():
    jsonschema.Draft202012Validator.check_schema(PUBLISHED)
    assert PUBLISHED["properties"]["schema"]["const"] == SCHEMA
    assert set(PUBLISHED["properties"]) == {"schema", *(field.name for field in fields(Manifest))}
    for noun, one in (("member", Member), ("weights", Weights), ("stage", StageEntry), ("decisions", Decisions)):
        assert set(PUBLISHED["$defs"][noun]["properties"]) == {field.name for field in fields(one)}
    group = PUBLISHED["$defs"]["decisions"]["properties"]["groups"]["items"]
    assert set(group["properties"]) == set(group["required"]) == {field.name for field in fields(Group)}


def test_manifests_of_every_target_are_valid(packed):
    made = container.read_manifest(packed)
    every = [replace(made, target=read_target(name).to_json()) for name in target_names()]
    for one in (made, made.plain, replace(made, report=None, baked_key=None), *every):
        text = canonical_json(one.to_json())
        VALIDATOR.validate(json.loads(text))
        assert Manifest.from_bytes(text.encode(), "here") == one


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.update(schema=1),
        lambda value: value.update(surprise=1),
        lambda value: value.pop("weights"),
        lambda value: value.update(name=None),
        lambda value: value.update(target={}),
        lambda value: value.update(tools=["onnx"]),
        lambda value: value.update(stages=[]),
        lambda value: value.update(compression=None),
        lambda value: value["stages"]["step"].pop("notes"),
        lambda value: value["stages"]["step"].update(backend=3),
        lambda value: value["stages"]["vocoder"]["decisions"].update(reached="all"),
        lambda value: value["stages"]["vocoder"]["decisions"]["groups"][0].update(layers=2.5),
        lambda value: value["weights"][0].update(bytes=-1),
        lambda value: value["members"].update({"../evil": {"size": 1, "sha256": DIGEST}}),
        lambda value: value["members"].update({"signature.json": {"size": 1, "sha256": DIGEST}}),
        lambda value: value["members"]["step.onnx"].update(size=1 << 35),
        lambda value: value["members"]["step.onnx"].update(size=1.5),
        lambda value: value["members"]["step.onnx"].update(sha256="A" * 64),
        lambda value: value["members"]["step.onnx"].update(encoding="br"),
        lambda value: value["members"]["weights.safetensors"].update(encoding="zstd"),
        lambda value: value["members"]["weights.safetensors"].pop("stored_size"),
        lambda value: value["members"]["weights.safetensors"].pop("encoding"),
    ],
)
def test_what_is_no_manifest_is_refused_by_both(packed, change):
    value = container.read_manifest(packed).to_json()
    change(value)
    value = json.loads(json.dumps(value))
    assert not VALIDATOR.is_valid(value)
    with pytest.raises(ArtifactError):
        Manifest.from_bytes(canonical_json(value).encode(), "here")


def leaves(value, path=()):
    """The path to everything in a manifest that is no mapping, lists included as a whole and by item."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from leaves(item, (*path, key))
    if not isinstance(value, dict) and path:
        yield path


def other(value):
    """Something else of the same kind, as close as it gets."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, str):
        return ("1" if value[:1] != "1" else "2") + value[1:]
    return [*value, *value[:1], "more"] if isinstance(value, list) else "something"


def test_every_field_of_a_manifest_counts(packed, tmp_path):
    """A change is refused, or names another artifact. Only what wrote the streams is no part of what an artifact does;
    it is part of what is signed."""
    data, made = packed.read_bytes(), container.read_manifest(packed)
    stored = {item.name: data[item.offset : item.offset + item.size] for item in container.payloads(packed)}
    outcomes = {"refused": 0, "another digest": 0, "another manifest": []}
    for path in leaves(made.to_json()):
        value = copy.deepcopy(json.loads(container.manifest_bytes(packed)))
        place = value
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = other(place[path[-1]])
        text = canonical_json(value).encode()
        entries, content = [], b""
        for name, part in (("manifest.json", text), *sorted(stored.items())):
            entries.append(Entry(name, len(content), len(part), zlib.crc32(part)))
            content += local_header(entries[-1]) + part
        (tmp_path / "changed.gsv").write_bytes(content + directory(entries))
        try:
            broken = container.damage(tmp_path / "changed.gsv")
            found = container.read_manifest(tmp_path / "changed.gsv")
        except ArtifactError:
            outcomes["refused"] += 1
            continue
        if broken:
            outcomes["refused"] += 1
        elif found.digest != made.digest:
            outcomes["another digest"] += 1
        else:
            assert sha256_bytes(text) != sha256_bytes(container.manifest_bytes(packed))
            outcomes["another manifest"].append(".".join(map(str, path)))
    assert outcomes.pop("another manifest") == ["compression"]
    assert all(count > 20 for count in outcomes.values())
    print(outcomes)  # noqa: T201 - shown by pytest -s
