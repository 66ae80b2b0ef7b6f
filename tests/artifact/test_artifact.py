import json
import os
import struct
import tempfile
import threading
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies

from gsvexport.artifact import container, kept
from gsvexport.artifact.layout import Entry, directory, local_header
from gsvexport.artifact.manifest import Decisions, Group, Manifest, Member, StageEntry, Weights
from gsvexport.errors import ArtifactError, EnvironmentProblem, InputError
from gsvexport.files import canonical_json, sha256_bytes
from gsvexport.untrusted.reading import safe_name

FILES = {"model.json": b"{}\n", "step.onnx": b"graph", "weights.safetensors": b"w" * 5000, "baked/ge.npy": b"123"}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GSVEXPORT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path):
    for name, data in FILES.items():
        path = tmp_path / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "files"


@pytest.fixture
def manifest(folder):
    stages = {"step": StageEntry("step.onnx", "onnxruntime", "fp32", ("as it is",))}
    empty = Manifest("alice", "v2", {"name": "x86-64"}, "s" * 64, None, {"onnx": "1"}, stages, {})
    return container.with_members(empty, folder)


@pytest.fixture
def artifact(tmp_path, manifest, folder):
    path = tmp_path / "alice.gsv"
    container.write(manifest, folder, path)
    return path


def zipped(path, members):
    """A container with these members, laid out as gsvexport would, whatever they are."""
    entries, data = [], b""
    for name, content in members:
        entries.append(Entry(name, len(data), len(content), zlib.crc32(content)))
        data += local_header(entries[-1]) + content
    path.write_bytes(data + (directory(entries) if entries else b""))
    return path


def text(manifest):
    return canonical_json(manifest.to_json()).encode()


def members(manifest, **changed):
    return [("manifest.json", text(manifest)), *sorted({**FILES, **changed}.items())]


def test_what_is_packed_comes_out_again(artifact, manifest, tmp_path):
    assert container.read_manifest(artifact) == manifest
    assert container.unpack(artifact, tmp_path / "out") == manifest
    for name, data in FILES.items():
        assert (tmp_path / "out" / name).read_bytes() == data
    assert container.read_manifest(tmp_path / "out") == manifest
    assert container.read_member(artifact, "step.onnx") == b"graph"


def test_the_manifest_is_the_first_member_and_nothing_is_compressed(artifact):
    with zipfile.ZipFile(artifact) as archive:
        assert [info.filename for info in archive.infolist()] == ["manifest.json", *sorted(FILES)]
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}


def test_equal_contents_give_equal_bytes_wherever_and_whenever(artifact, manifest, folder, tmp_path):
    for path in folder.rglob("*"):
        os.utime(path, (1, 1))
    container.write(manifest, folder, tmp_path / "elsewhere.gsv")
    assert (tmp_path / "elsewhere.gsv").read_bytes() == artifact.read_bytes()


def test_the_digest_leaves_out_the_report_and_nothing_else(manifest, folder):
    (folder / "report.json").write_text("{}")
    reported = container.with_members(manifest, folder)
    assert reported.report == Member(2, sha256_bytes(b"{}"))
    assert reported.digest == manifest.digest
    assert text(reported) != text(manifest)
    for change in (
        {"name": "bob"},
        {"source": "t" * 64},
        {"target": {"name": "other"}},
        {"tools": {}},
        {"stages": {}},
        {"baked_key": "k"},
        {"members": {**manifest.members, "step.onnx": Member(5, "0" * 64)}},
    ):
        assert replace(manifest, **change).digest != manifest.digest


def test_unpacking_happens_once_and_is_named_by_the_manifest(artifact, manifest, cache):
    folder = container.unpacked(artifact)
    assert folder == cache / "unpacked" / sha256_bytes(text(manifest))
    before = (folder / "step.onnx").stat().st_ino
    assert container.unpacked(artifact) == folder
    assert (folder / "step.onnx").stat().st_ino == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


@pytest.mark.parametrize(
    "harm",
    [
        lambda folder: (folder / "step.onnx").write_bytes(b"longer graph"),
        lambda folder: (folder / "baked/ge.npy").unlink(),
        lambda folder: (folder / "extra").write_bytes(b""),
        lambda folder: (folder / "manifest.json").unlink(),
    ],
    ids=["size", "missing", "extra", "manifest"],
)
def test_a_damaged_unpacked_folder_is_unpacked_again(artifact, manifest, harm):
    folder = container.unpacked(artifact)
    harm(folder)
    assert container.differences(folder, manifest)
    assert container.unpacked(artifact) == folder
    assert container.differences(folder, manifest, hashes=True) == []
    assert len(list(folder.parent.iterdir())) == 1


def test_a_changed_byte_is_found_when_every_byte_is_asked_for(artifact, manifest):
    folder = container.unpacked(artifact)
    (folder / "step.onnx").write_bytes(b"GRAPH")
    assert container.differences(folder, manifest) == []
    assert container.differences(folder, manifest, hashes=True) == ["step.onnx has changed (SHA-256 differs)"]


def test_a_whole_container_has_no_damage(artifact):
    assert container.damage(artifact) == []


def test_a_folder_that_another_takes_for_a_damaged_one_is_made_again(artifact, tmp_path, monkeypatch):
    rename, times = kept.disk.rename, []

    def raced(source, target):
        rename(source, target)
        if source.name == "new" and not times:
            times.append(1)
            rename(target, tmp_path / "aside")  # another, which had looked before that

    monkeypatch.setattr(kept.disk, "rename", raced)
    folder = container.unpacked(artifact)
    assert (folder / "manifest.json").is_file()
    assert times


def test_many_unpack_at_once_and_all_find_it_whole(artifact, manifest):
    found = []
    threads = [threading.Thread(target=lambda: found.append(container.unpacked(artifact))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert container.differences(found[0], manifest, hashes=True) == []
    assert len(list(found[0].parent.iterdir())) == 1


def test_an_existing_artifact_is_not_replaced_unasked(artifact, manifest, folder):
    with pytest.raises(InputError, match="exists already"):
        container.write(manifest, folder, artifact)
    container.write(manifest, folder, artifact, force=True)


def test_a_file_that_changed_since_the_manifest_is_not_packed(manifest, folder, tmp_path):
    (folder / "step.onnx").write_bytes(b"GRAPH")
    with pytest.raises(ArtifactError, match=r"step\.onnx is damaged"):
        container.write(manifest, folder, tmp_path / "bad.gsv")
    assert not list(tmp_path.glob("*.gsv"))
    assert not list(tmp_path.glob(".partial*"))


def test_a_full_disk_leaves_no_half_unpacked_folder(artifact, cache, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gsvexport.artifact.kept.sync_tree", full)
    with pytest.raises(EnvironmentProblem, match="the disk is full"):
        container.unpacked(artifact)
    assert list((cache / "unpacked").iterdir()) == []


# --- hostile and damaged containers --------------------------------------------------------------------------------


def refused(path, says, tmp_path):
    with pytest.raises(ArtifactError, match=says):
        container.unpacked(path)
    assert not [item for item in tmp_path.rglob("*") if "evil" in item.name]
    unpacked = tmp_path / "cache" / "unpacked"
    assert not unpacked.exists() or not list(unpacked.iterdir())


def test_every_changed_byte_of_every_member_is_found(artifact, tmp_path):
    data = artifact.read_bytes()
    with zipfile.ZipFile(artifact) as archive:
        infos = archive.infolist()
    for info in infos:
        start = info.header_offset + 30 + len(info.filename)
        for place in {0, info.file_size // 2, info.file_size - 1}:
            changed = bytearray(data)
            changed[start + place] ^= 1
            path = tmp_path / "changed.gsv"
            path.write_bytes(changed)
            if info.filename != "manifest.json":
                assert container.damage(path) == [f"{info.filename} has changed (SHA-256 differs)"]
            with pytest.raises(ArtifactError):
                container.unpack(path, tmp_path / f"out-{info.filename.replace('/', '-')}-{place}")


@settings(max_examples=300)
@given(data=strategies.data())
def test_any_changed_byte_of_the_file_is_found(artifact, data):
    content = bytearray(artifact.read_bytes())
    place = data.draw(strategies.integers(0, len(content) - 1))
    content[place] ^= data.draw(strategies.integers(1, 255))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "changed.gsv")
        path.write_bytes(content)
        with pytest.raises(ArtifactError):
            container.unpack(path, Path(folder, "out"))


def test_a_byte_changed_together_with_its_crc_is_found(manifest, tmp_path):
    path = zipped(tmp_path / "evil.gsv", members(manifest, **{"step.onnx": b"GRAPH"}))
    with pytest.raises(ArtifactError, match=r"step\.onnx is damaged"):
        container.unpacked(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.update(name="mallory"),
        lambda value: value["members"]["step.onnx"].update(sha256="0" * 64),
        lambda value: value["members"]["step.onnx"].update(size=6),
        lambda value: value["members"].pop("step.onnx"),
        lambda value: value["members"].update(ghost={"size": 1, "sha256": "0" * 64}),
        lambda value: value["stages"]["step"].update(file="ghost.onnx"),
        lambda value: value.update(schema=1),
        lambda value: value.update(schema=3),
        lambda value: value.update(compression="brotli"),
        lambda value: value["members"].update(weights={"size": 1, "sha256": "0" * 64}, **{"weights/a": {}}),
        lambda value: value.update(surprise=1),
        lambda value: value.pop("tools"),
        lambda value: value["members"]["step.onnx"].update(size=-1),
        lambda value: value["members"]["step.onnx"].update(size=True),
        lambda value: value["members"]["step.onnx"].update(size=1 << 50),
        lambda value: value.update(tools=["onnx"]),
        lambda value: value["stages"]["step"].update(backend=3),
        lambda value: value.update(members=[]),
        lambda value: value.update(stages=None),
    ],
)
def test_a_changed_manifest_is_refused_or_is_another_artifact(manifest, tmp_path, change):
    value = manifest.to_json()
    change(value)
    data = canonical_json(value).encode()
    path = zipped(tmp_path / "changed.gsv", [("manifest.json", data), *sorted(FILES.items())])
    if value["name"] == "mallory":  # consistent in itself: only its name and digest tell
        assert container.read_manifest(path).digest != manifest.digest
    else:
        with pytest.raises(ArtifactError):
            container.unpacked(path)


@pytest.mark.parametrize(
    "name", ["../evil", "/evil", "a/../../evil", "a//evil", "./evil", "a\\evil", "evil\n", "", ".evil"]
)
def test_names_that_lead_elsewhere_are_refused(manifest, tmp_path, name):
    assert not safe_name(name)
    listed = replace(manifest, members={**manifest.members, name: Member(1, sha256_bytes(b"x"))})
    path = zipped(tmp_path / "hostile.gsv", [*members(listed), (name, b"x")])
    refused(path, "cannot be right|does not hold|not a whole", tmp_path)


def test_members_that_the_manifest_does_not_list_or_that_are_missing(manifest, tmp_path):
    more = members(manifest, evil=b"x")
    for place in range(1, len(more)):
        moved = [one for one in more if one[0] != "evil"]
        moved.insert(place, ("evil", b"x"))
        refused(zipped(tmp_path / "more.gsv", moved), "does not hold what|holds more", tmp_path)
    refused(zipped(tmp_path / "less.gsv", members(manifest)[:-1]), r"no weights\.safetensors of 5000 bytes", tmp_path)


def test_a_member_that_is_there_twice_is_refused(manifest, tmp_path):
    refused(zipped(tmp_path / "twice.gsv", [*members(manifest), ("step.onnx", b"evil!")]), "holds more", tmp_path)


def test_names_that_differ_only_in_case_are_refused(manifest, tmp_path):
    listed = replace(manifest, members={**manifest.members, "STEP.onnx": Member(1, sha256_bytes(b"x"))})
    refused(zipped(tmp_path / "case.gsv", [*members(listed), ("STEP.onnx", b"x")]), "two members", tmp_path)


def test_a_zip_of_another_kind_is_refused(manifest, tmp_path):
    path = tmp_path / "other.gsv"
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, data in members(manifest):
                archive.writestr(name, data)
        refused(path, "not its first member", tmp_path)


def test_a_manifest_that_is_too_large_is_not_read(tmp_path):
    path = zipped(tmp_path / "large.gsv", [("manifest.json", b" " * (5 << 20))])
    refused(path, "too large a manifest", tmp_path)


def test_a_size_that_lies_in_the_table_of_contents_is_refused(artifact, tmp_path):
    data = bytearray(artifact.read_bytes())
    entry = data.rindex(b"PK\x01\x02")  # the last member: weights.safetensors
    data[entry + 20 : entry + 28] = struct.pack("<II", 1 << 30, 1 << 30)
    path = tmp_path / "lying.gsv"
    path.write_bytes(data)
    refused(path, "damaged at its end", tmp_path)


def test_other_files_are_no_artifacts(artifact, manifest, tmp_path):
    path = tmp_path / "no.gsv"
    for content, says in (
        (b"", "first member"),
        (b"PK\x03\x04 and no more", "first member"),
        (artifact.read_bytes()[:100], "not whole"),
        (artifact.read_bytes()[:-30], "damaged at its end"),
        (artifact.read_bytes()[: len(artifact.read_bytes()) // 2], "ends at byte"),
        (artifact.read_bytes() + b"more", "damaged at its end"),
        (b"prefix" + artifact.read_bytes(), "first member"),
    ):
        path.write_bytes(content)
        refused(path, says, tmp_path)
    refused(zipped(path, []), "first member", tmp_path)
    refused(zipped(path, members(manifest)[::-1]), "first member", tmp_path)
    refused(zipped(path, [("manifest.json", b"[]")]), "unknown schema", tmp_path)
    refused(zipped(path, [("manifest.json", b"\xff")]), "not JSON", tmp_path)
    spaced = json.dumps(manifest.to_json()).encode()
    refused(zipped(path, [("manifest.json", spaced), *members(manifest)[1:]]), "canonical form", tmp_path)
    refused(zipped(path, [("manifest.json", b"[" * 100_000)]), "not JSON", tmp_path)
    value = text(manifest).replace(b'"name": "alice"', b'"name": "\\ud800"')
    refused(zipped(path, [("manifest.json", value), *members(manifest)[1:]]), "half of a character", tmp_path)
    with pytest.raises(ArtifactError, match="does not exist"):
        container.read_manifest(tmp_path / "absent.gsv")
    with pytest.raises(ArtifactError, match="not an unpacked artifact"):
        container.read_manifest(tmp_path)
    with pytest.raises(ArtifactError, match="holds no ghost"):
        container.read_member(artifact, "ghost")


DECIDED = Decisions(0.7, 0.5, (Group("x1", 2, 480, 0.25, "int8"), Group("last", 1, 20, 13.0, "float")))


def test_decisions_and_weights_survive_being_stored_and_count_for_the_digest(manifest):
    entry = replace(manifest.stages["step"], decisions=DECIDED)
    more = replace(manifest, stages={"step": entry}, weights=(Weights(("step",), "int4", 5000),))
    assert Manifest.from_bytes(text(more), "here") == more
    assert more.digest != manifest.digest
    assert b"decisions" not in text(manifest)


@pytest.mark.parametrize(
    "change",
    [
        {"weights": (Weights(("step",), "int4", -1),)},
        {"weights": (Weights(("vocoder",), "int4", 1),)},
        {"weights": (Weights(("step",), 4, 1),)},
        {"decisions": replace(DECIDED, reached="all")},
        {"decisions": replace(DECIDED, groups=(Group("x1", 2.5, 480, 0.25, "int8"),))},
        {"decisions": replace(DECIDED, groups=(Group(1, 2, 480, 0.25, "int8"),))},
    ],
)
def test_decisions_and_weights_that_cannot_be_are_refused(manifest, change):
    if "decisions" in change:
        change = {"stages": {"step": replace(manifest.stages["step"], **change)}}
    with pytest.raises(ArtifactError, match="cannot be right"):
        Manifest.from_bytes(text(replace(manifest, **change)), "here")
