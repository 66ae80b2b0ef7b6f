"""Members stored as Brotli streams, signatures behind them, and streams that want to be more than they declare."""

import hashlib
import io
import zipfile
from dataclasses import replace

import brotli
import pytest

from gsvexport.artifact import container, layout
from gsvexport.artifact.encoding import QUALITIES, compress, decoded
from gsvexport.artifact.manifest import LARGEST_SIGNATURE, Manifest, Member, StageEntry
from gsvexport.errors import ArtifactError, EnvironmentProblem
from gsvexport.files import canonical_json, sha256_bytes

TEXT = b"the same again and again, " * 4000
NOISE = b"".join(hashlib.sha256(bytes([index])).digest() for index in range(250))
FILES = {"model.json": b"{}\n", "step.onnx": TEXT, "weights.safetensors": NOISE}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GSVEXPORT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def parts(tmp_path):
    """The manifest of an artifact with one compressed member, and the payload of each."""
    found, payload = {}, {}
    for name, data in FILES.items():
        payload[name] = tmp_path / name
        payload[name].write_bytes(data)
        plain = Member(len(data), sha256_bytes(data))
        found[name] = compress(io.BytesIO(data), plain, tmp_path / "stream", 11) or plain
        if found[name].encoding:
            payload[name] = (tmp_path / "stream").rename(tmp_path / f"{name}.br")
    stages = {"step": StageEntry("step.onnx", "onnxruntime", "fp32")}
    made = Manifest("alice", "v2", {"name": "x"}, "s", None, {}, stages, found, compression="brotli")
    return made, payload


@pytest.fixture
def artifact(parts, tmp_path):
    container.assemble(parts[0], parts[1].__getitem__, tmp_path / "alice.gsv")
    return tmp_path / "alice.gsv"


def one(member, stored, tmp_path, **more):
    """An artifact whose member `step.onnx` declares `member` and holds `stored`."""
    stages = {"step": StageEntry("step.onnx", "onnxruntime", "fp32")}
    made = Manifest("eve", "v2", {"name": "x"}, "s", None, {}, stages, {"step.onnx": member}, compression="brotli")
    value = made.to_json()
    value["members"]["step.onnx"].update(more)
    entries, data = [], b""
    for name, content in (("manifest.json", canonical_json(value).encode()), ("step.onnx", stored)):
        entries.append(layout.Entry(name, len(data), len(content), zipfile.crc32(content)))
        data += layout.local_header(entries[-1]) + content
    (tmp_path / "eve.gsv").write_bytes(data + layout.directory(entries))
    return tmp_path / "eve.gsv"


def stream_of(plain, stored, size=None):
    return Member(len(plain) if size is None else size, sha256_bytes(plain), "br", len(stored), sha256_bytes(stored))


def test_only_what_gets_smaller_is_compressed(parts):
    members = parts[0].members
    assert [name for name, member in members.items() if member.encoding] == ["step.onnx"]
    assert members["step.onnx"].payload_size < len(TEXT) / 100
    assert members["weights.safetensors"].to_json().keys() == {"size", "sha256"}


def test_what_was_compressed_comes_out_again(artifact, parts, tmp_path):
    assert container.unpack(artifact, tmp_path / "out") == parts[0]
    for name, data in FILES.items():
        assert (tmp_path / "out" / name).read_bytes() == data
        assert container.read_member(artifact, name) == data
    assert container.damage(artifact) == []
    assert container.differences(tmp_path / "out", parts[0], hashes=True) == []


def test_any_zip_tool_finds_the_streams_under_their_names(artifact):
    with zipfile.ZipFile(artifact) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["manifest.json", *sorted(FILES)]
        assert brotli.decompress(archive.read("step.onnx")) == TEXT
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}


def test_equal_files_give_equal_streams(tmp_path):
    data = TEXT + NOISE
    plain = Member(len(data), sha256_bytes(data))
    for quality in filter(None, QUALITIES.values()):
        made = [compress(io.BytesIO(data), plain, tmp_path / name, quality) for name in "ab"]
        assert made[0] == made[1]
        assert made[0].plain == plain
        assert sha256_bytes((tmp_path / "b").read_bytes()) == made[1].payload_sha256


def test_the_digest_is_that_of_what_is_not_compressed(parts):
    plain = parts[0].plain
    assert plain.digest == parts[0].digest
    assert plain.compression is None
    assert plain.members == {name: Member(len(data), sha256_bytes(data)) for name, data in FILES.items()}
    assert replace(parts[0], name="bob").digest != parts[0].digest


def test_a_container_is_made_again_from_its_payloads(artifact, tmp_path):
    data = artifact.read_bytes()
    found = {item.name: data[item.offset : item.offset + item.size] for item in container.payloads(artifact)}
    assert {item.name: item.sha256 for item in container.payloads(artifact)} == {
        name: sha256_bytes(stored) for name, stored in found.items()
    }
    container.assemble(
        Manifest.from_bytes(container.manifest_bytes(artifact), "here"),
        lambda name: io.BytesIO(found[name] + b"what follows"),
        tmp_path / "again.gsv",
    )
    assert (tmp_path / "again.gsv").read_bytes() == data


@pytest.mark.parametrize("harm", [lambda data: data[:-1], lambda data: data + b"x", lambda data: b"x" + data[1:]])
def test_a_payload_that_is_not_what_the_manifest_says_is_not_packed(parts, tmp_path, harm):
    made, payload = parts
    payload["step.onnx"].write_bytes(harm(payload["step.onnx"].read_bytes()))
    with pytest.raises(ArtifactError, match=r"step\.onnx\.br is damaged"):
        container.assemble(made, payload.__getitem__, tmp_path / "bad.gsv")
    assert not (tmp_path / "bad.gsv").exists()


def test_a_signature_changes_nothing_but_the_end(artifact, tmp_path):
    signed = tmp_path / "signed.gsv"
    before = artifact.read_bytes()
    assert container.signature(artifact) is None
    container.with_signature(artifact, b'{"by": "me"}', signed)
    assert container.signature(signed) == b'{"by": "me"}'
    assert container.manifest_bytes(signed) == container.manifest_bytes(artifact)
    assert container.payloads(signed) == container.payloads(artifact)
    assert container.unpacked(signed) == container.unpacked(artifact)
    with zipfile.ZipFile(signed) as archive:
        assert archive.testzip() is None
        assert archive.namelist()[-1] == "signature.json"
    container.with_signature(signed, b"{}", signed, force=True)
    assert container.signature(signed) == b"{}"
    container.with_signature(signed, None, signed, force=True)
    assert signed.read_bytes() == before


def test_a_signature_that_is_too_large_or_elsewhere_is_refused(artifact, parts, tmp_path, monkeypatch):
    with pytest.raises(ArtifactError, match="signature is too large"):
        container.with_signature(artifact, bytes(LARGEST_SIGNATURE + 1), tmp_path / "signed.gsv")
    with monkeypatch.context() as patch:
        patch.setattr(container, "LARGEST_SIGNATURE", 1 << 20)
        container.with_signature(artifact, bytes(LARGEST_SIGNATURE + 1), tmp_path / "signed.gsv")
    with pytest.raises(ArtifactError, match="too large a signature"):
        container.read_manifest(tmp_path / "signed.gsv")
    listed = replace(parts[0], members={**parts[0].members, "signature.json": Member(1, "0" * 64)})
    with pytest.raises(ArtifactError, match=r"signature\.json cannot be among the members"):
        Manifest.from_bytes(canonical_json(listed.to_json()).encode(), "here")


# --- streams that lie ----------------------------------------------------------------------------------------------


def bombs():
    bomb = brotli.compress(bytes(200_000_000), quality=5)  # under 1 kB
    text = brotli.compress(TEXT)
    return {
        "a bomb": (stream_of(TEXT, bomb), bomb, "holds more than the 104000 bytes"),
        "a byte more": (stream_of(TEXT[:-1], text), text, "holds more than the 103999 bytes"),
        "a byte less": (stream_of(TEXT, text, len(TEXT) + 1), text, "is damaged"),
        "other content": (stream_of(NOISE * 20, text, len(TEXT)), text, "is damaged"),
        "cut off": (stream_of(TEXT, text[:-3]), text[:-3], "is damaged"),
        "bytes behind the stream": (stream_of(TEXT, text + b"x"), text + b"x", "is damaged"),
        "no stream": (stream_of(TEXT, NOISE[:500]), NOISE[:500], "no Brotli stream"),
        "nothing": (stream_of(TEXT, b""), b"", "is damaged"),
        "other stored bytes": (replace(stream_of(TEXT, text), stored_sha256="0" * 64), text, "is damaged"),
    }


@pytest.mark.parametrize("case", bombs())
def test_a_stream_that_is_not_what_it_declares_is_refused(case, tmp_path):
    member, stored, says = bombs()[case]
    path = one(member, stored, tmp_path)
    with pytest.raises(ArtifactError, match=says):
        container.unpacked(path)
    assert not list((tmp_path / "cache" / "unpacked").iterdir())
    with pytest.raises(ArtifactError, match=says):
        container.read_member(path, "step.onnx")
    assert container.damage(path) == ["step.onnx has changed (SHA-256 differs)"]


def test_a_bomb_is_stopped_at_its_declared_size():
    bomb = brotli.compress(bytes(200_000_000), quality=5)
    member = stream_of(bytes(10_000_000), bomb)
    pieces = []
    with pytest.raises(ArtifactError, match="holds more"):
        for piece in decoded(io.BytesIO(bomb), member, "eve"):
            pieces.append(len(piece))
    assert 0 < sum(pieces) <= 10_000_000
    assert max(pieces) < 4_000_000


def test_an_artifact_that_would_unpack_to_a_hundred_times_its_size_is_refused(tmp_path):
    bomb = brotli.compress(bytes(1000))
    path = one(stream_of(b"", bomb, size=1 << 33), bomb, tmp_path)
    with pytest.raises(ArtifactError, match="at most 100 times is allowed"):
        container.read_manifest(path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"encoding": "zstd"}, "unknown encoding 'zstd'"),
        ({"encoding": None}, "unknown encoding None"),
        ({"stored_size": None}, "impossible stored size"),
        ({"stored_size": -1}, "impossible stored size"),
        ({"stored_size": len(TEXT)}, "impossible stored size"),
        ({"stored_sha256": "A" * 64}, "impossible stored size"),
        ({"stored_sha256": None}, "impossible stored size"),
        ({"quality": 11}, "lacks or adds something"),
    ],
)
def test_encodings_that_cannot_be_are_refused(tmp_path, change, says):
    stored = brotli.compress(TEXT)
    with pytest.raises(ArtifactError, match=says):
        container.read_manifest(one(stream_of(TEXT, stored), stored, tmp_path, **change))


def test_what_does_not_fit_on_the_disk_is_said_before_it_is_unpacked(artifact, tmp_path, monkeypatch):
    monkeypatch.setattr(container, "free_space", lambda path: 1000)
    with pytest.raises(EnvironmentProblem, match="does not fit on the disk") as caught:
        container.unpacked(artifact)
    assert "0.1 MB are needed" in str(caught.value)
    assert not list((tmp_path / "cache" / "unpacked").iterdir())


def test_without_brotli_its_name_is_told_and_plain_artifacts_open(artifact, parts, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "brotli", None)
    assert container.read_member(artifact, "weights.safetensors") == NOISE
    with pytest.raises(EnvironmentProblem, match="package 'brotli'"):
        container.read_member(artifact, "step.onnx")


def test_wide_numbers_are_what_zipfile_writes():
    """The directory of a member of 5 GB behind another of 5 GB, read by Python's own reader from a file with a hole."""
    entries = [layout.Entry("a", 0, 5 << 30, 1)]
    entries.append(layout.Entry("b", entries[0].end, 5, 2))
    entries.append(layout.Entry("c", entries[1].end, 5 << 30, 3))
    assert [layout.read_header(layout.local_header(entry), entry.start) for entry in entries] == entries
    data = layout.directory(entries)

    class Hole(io.BytesIO):
        """`data` behind gigabytes of nothing."""

        place = 0

        def seek(self, offset, whence=0):
            self.place = offset + {0: 0, 1: self.place, 2: entries[-1].end + len(data)}[whence]
            return self.place

        def tell(self):
            return self.place

        def read(self, count=-1):
            start = self.place - entries[-1].end
            found = data[start:] if count < 0 else data[start : start + count]
            self.place += len(found)
            return found

    with zipfile.ZipFile(Hole()) as archive:
        found = [(info.filename, info.file_size, info.header_offset, info.CRC) for info in archive.infolist()]
    assert found == [(entry.name, entry.size, entry.start, entry.crc) for entry in entries]
