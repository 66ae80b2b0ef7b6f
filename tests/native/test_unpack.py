"""Unpacking by the native runtime: the files that Python unpacks, or none."""

import ctypes
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import time

import pytest

from gsvexport.artifact import container
from gsvexport.artifact.manifest import Manifest
from gsvexport.compiler.compress import shrink
from gsvexport.compiler.store import Store


@pytest.fixture(scope="module")
def packed(native, voice, tmp_path_factory):
    """The artifact as a file, its members as Brotli streams where that pays."""
    if "GSV_BROTLI" not in (native.build / "build.ninja").read_text():
        pytest.skip("the native runtime was built without libbrotlidec here")
    folder = tmp_path_factory.mktemp("packed")
    manifest = Manifest.from_bytes((voice / "manifest.json").read_bytes(), "manifest")
    container.write(manifest, voice, folder / "plain.gsv")
    shrink(folder / "plain.gsv", folder / "a.gsv", "fast", Store(folder / "store"), progress=lambda text: None)
    return folder / "a.gsv"


@pytest.fixture(scope="module")
def unpack(native):
    """(status, text) of gsv_unpack."""
    library = ctypes.CDLL(str(native.library))

    def call(file, folder):
        error = ctypes.create_string_buffer(2048)
        status = library.gsv_unpack(str(file).encode(), str(folder).encode(), None, None, error, ctypes.c_size_t(2048))
        return status, error.value.decode()

    return call


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["a.gsv", "plain.gsv"])
def test_the_files_are_those_that_python_unpacks(native, voice, packed, tmp_path, name):
    line = [native.gsvsay, packed.with_name(name), "--unpack", tmp_path / "own"]
    done = subprocess.run(line, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    container.unpack(packed.with_name(name), tmp_path / "python")
    assert files(tmp_path / "own") == files(tmp_path / "python")
    done = subprocess.run([native.gsvsay, tmp_path / "own", "--info"], capture_output=True, timeout=60, check=False)
    assert done.stdout.startswith(b"name synthetic\n")
    again = subprocess.run(line, capture_output=True, timeout=60, check=False)
    assert again.returncode == 2
    assert b"exists" in again.stderr


def test_a_changed_byte_anywhere_before_the_directory_is_noticed(packed, unpack, tmp_path):
    """What lies in the directory behind the last member is not read: every member is found by its own header."""
    data, draw = packed.read_bytes(), random.Random(5)
    end = data.index(b"PK\1\2")
    ignored = 0
    for place in [*range(0, 34, 4), *(draw.randrange(end) for _ in range(15))]:
        changed = bytearray(data)
        changed[place] ^= 1 << draw.randrange(8)
        (tmp_path / "bad.gsv").write_bytes(changed)
        status, text = unpack(tmp_path / "bad.gsv", tmp_path / "out")
        if status == 0:  # a header's version, date or CRC, which decide nothing
            assert files(tmp_path / "out").keys() >= {"manifest.json", "model.json"}
            shutil.rmtree(tmp_path / "out")
            ignored += 1
        else:
            assert status == 6, text
            assert "bad.gsv" in text
        assert sorted(os.listdir(tmp_path)) == ["bad.gsv"]
    assert ignored < 8


@pytest.mark.parametrize("share", [0, 0.001, 0.3, 0.9])
def test_a_cut_file_is_refused(packed, unpack, tmp_path, share):
    data = packed.read_bytes()
    (tmp_path / "cut.gsv").write_bytes(data[: int(share * len(data))])
    status, text = unpack(tmp_path / "cut.gsv", tmp_path / "out")
    assert status == 6, text
    assert os.listdir(tmp_path) == ["cut.gsv"]


def rewritten(packed, change):
    """The artifact with another text of its manifest."""
    data = packed.read_bytes()
    size = struct.unpack_from("<L", data, 22)[0]
    start = 30 + len("manifest.json")
    text = change(data[start : start + size])
    head = bytearray(data[:start])
    struct.pack_into("<2L", head, 18, len(text), len(text))
    return bytes(head) + text + data[start + size :]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text.replace(b'"schema": 2', b'"schema": 9'), "does not know"),
        (lambda text: text.replace(b'"model.json"', b'"../../model.json"'), "no name inside a folder"),
        (lambda text: text.replace(b'"model.json"', b'"model.txt"'), "'model.json' is no member"),
        (lambda text: text.replace(b'"encoding": "br"', b'"encoding": "xz"'), "encoding that is unknown"),
        (
            lambda text: text.replace(b'"size": ', b'"size": 9'),
            "times its size|fit on the disk|size or SHA-256|than it declares",
        ),
        (lambda text: text.replace(b'"size": ', b'"size": -'), "size that is none"),
        (lambda text: b"{}", "does not know"),
        (lambda text: b"[" * 100, "JSON|deeper"),
    ],
)
def test_a_manifest_that_lies_is_refused(packed, unpack, tmp_path, change, words):
    (tmp_path / "bad.gsv").write_bytes(rewritten(packed, change))
    status, text = unpack(tmp_path / "bad.gsv", tmp_path / "out")
    assert status in (6, 7), text
    assert any(word in text for word in words.split("|")), text
    assert os.listdir(tmp_path) == ["bad.gsv"]


def test_a_full_disk_and_no_file_leave_nothing(native, packed, unpack, tmp_path):
    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    line = [native.gsvsay, packed, "--unpack", tmp_path / "out"]
    done = subprocess.run(line, capture_output=True, timeout=60, check=False, preexec_fn=limited)
    assert done.returncode == 7
    assert b"cannot be written" in done.stderr
    assert unpack(tmp_path / "none.gsv", tmp_path / "out")[0] == 6
    assert not os.listdir(tmp_path)


def test_who_watches_is_told_and_may_end_it(native, packed, tmp_path):
    library, error, told = ctypes.CDLL(str(native.library)), ctypes.create_string_buffer(2048), []

    def call(most):
        @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64)
        def watch(_, done, total):
            told.append((done, total))
            return len(told) == most

        out = str(tmp_path / "out").encode()
        return library.gsv_unpack(str(packed).encode(), out, watch, None, error, ctypes.c_size_t(2048))

    assert call(4) == 130
    assert len(told) == 4
    assert not os.listdir(tmp_path)
    told.clear()
    assert call(-1) == 0
    assert told == sorted(told)
    assert {total for _, total in told} == {told[-1][0]}
    assert told[-1][0] == sum(len(data) for data in files(tmp_path / "out").values())


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interruption_leaves_nothing(native, tmp_path, which):
    size = 1 << 29
    digest = hashlib.sha256()
    for _ in range(size >> 20):
        digest.update(bytes(1 << 20))
    member = {"size": size, "sha256": digest.hexdigest(), "encoding": None}
    manifest = json.dumps({"schema": 2, "members": {"a": member}, "report": None}).encode()
    with (tmp_path / "large.gsv").open("wb") as stream:  # with a hole, so it takes no room
        for name, length in ((b"manifest.json", len(manifest)), (b"a", size)):
            stream.write(b"PK\3\4" + bytes(14) + struct.pack("<2L2H", length, length, len(name), 0) + name)
            stream.write(manifest) if name != b"a" else stream.seek(size, os.SEEK_CUR)
        stream.write(b"PK\1\2")
    line = [native.gsvsay, tmp_path / "large.gsv", "--unpack", tmp_path / "out"]
    heeds = lambda: signal.signal(which, signal.SIG_DFL)  # noqa: E731 - nohup has SIGHUP ignored
    with subprocess.Popen(line, stderr=subprocess.PIPE, preexec_fn=heeds) as process:
        while not list(tmp_path.glob("out.*.part")) and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(which)
        told = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 130, told
    assert told == "error: interrupted\n"
    assert os.listdir(tmp_path) == ["large.gsv"]
