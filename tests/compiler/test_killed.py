"""A small build through the store, killed by SIGKILL at each single change that it makes on the disk."""

import os
import signal
import sys
import time

import pytest

from gsvexport.artifact import container
from gsvexport.artifact.held import release
from gsvexport.artifact.kept import prune_unpacked, unpacked_root
from gsvexport.artifact.manifest import Manifest, StageEntry
from gsvexport.compiler.compress import shrink
from gsvexport.compiler.store import Store
from gsvexport.errors import EnvironmentProblem, InputError
from gsvexport.files import sha256_bytes, sha256_file

CHANGES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.utime", "os.chmod", "os.link", "os.truncate"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")]


def build(base):
    """Three steps that build on each other, then an artifact that is compressed, delivered and unpacked."""
    store = Store(base / "cache" / "store")
    first = store.obtain("a" * 64, lambda work: (work / "weights").write_bytes(b"weights " * 5000), "first")
    second = store.obtain("b" * 64, lambda work: (work / "graph").write_bytes((first / "weights").read_bytes()[:999]))

    def pack(work):
        files = work / "files"
        files.mkdir()
        os.link(first / "weights", files / "weights.safetensors")
        os.link(second / "graph", files / "step.onnx")
        stages = {"step": StageEntry("step.onnx", "onnxruntime", "fp32")}
        made = container.with_members(Manifest("a", "v2", {"name": "x"}, "s", None, {}, stages, {}), files)
        container.write(made, files, work / "artifact.gsv")

    packed = store.obtain("c" * 64, pack, "packed")
    out = base / "out" / "a.gsv"
    with store.locked("d" * 64):
        shrink(packed / "artifact.gsv", out, "fast", store, force=True, progress=lambda _: None)
    return container.unpacked(out)


def child(base, kill_at=None):
    """Run `build` in a process of its own, killed at its `kill_at`-th change; returns its status."""
    process = os.fork()
    if process:
        return os.waitpid(process, 0)[1]
    seen = 0

    def watch(event, arguments):
        nonlocal seen
        if event in CHANGES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES):
            seen += 1
            if seen == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    try:
        sys.addaudithook(watch)
        os.environ["GSVEXPORT_CACHE"] = str(base / "cache")
        build(base)
        os._exit(0)
    except BaseException as error:  # the test's process must not go on twice
        os.write(2, repr(error).encode())
        os._exit(1)


def leftovers(base):
    """Files that killed processes left; empty folders may stay until something else is unpacked."""
    every = (path for path in base.rglob("*") if path.is_file())
    return [path for path in every if ".partial" in str(path.relative_to(base))]


def test_killed_at_any_change_it_resumes_to_the_same_bytes(tmp_path, monkeypatch, thorough):
    monkeypatch.setattr("gsvexport.compiler.compress._KEPT", 1000)  # bytes; so that streams are kept in the store, too
    assert child(tmp_path / "whole") == 0
    whole = sha256_file(tmp_path / "whole" / "out" / "a.gsv")
    step = 0
    while True:
        step += 1 if thorough or step < 8 else 5
        base = tmp_path / str(step)
        if child(base, step) == 0:
            break
        for path in (base / "out").glob("*.gsv"):
            assert sha256_file(path) == whole, f"half a file after change {step}"
        for path in (base / "cache" / "unpacked").glob("[!.]*"):
            assert container.differences(path, container.read_manifest(path), hashes=True) == []
        assert child(base) == 0, f"does not resume after change {step}"
        assert sha256_file(base / "out" / "a.gsv") == whole
        assert leftovers(base) == [], f"something is left after change {step}"
    assert step > 60
    print(f"killed at changes up to {step - 1} on the disk")  # noqa: T201 - shown by pytest -s


def test_a_clock_that_is_set_back_or_leaps_hurts_nobody(tmp_path, monkeypatch):
    monkeypatch.setenv("GSVEXPORT_CACHE", str(tmp_path / "cache"))
    folder = build(tmp_path)
    store = Store()
    tomorrow = time.time() + 86400
    for path in (folder, *(store.root / entry.key / "index.json" for entry in store.entries())):
        os.utime(path, (tomorrow, tomorrow))
    assert store.prune(older_than_days=1) == prune_unpacked(1) == 0  # used in the future counts as used now
    with monkeypatch.context() as patch:  # a board without a battery: 1970, then the network tells the time
        patch.setattr(time, "time", lambda: 0.0)
        assert store.prune(older_than_days=1) == prune_unpacked(1) == 0
        assert container.unpacked(tmp_path / "out" / "a.gsv") == folder
    assert prune_unpacked(0) == 0  # this process uses it
    for used in (folder, *(store.root / entry.key for entry in store.entries())):
        for _ in range(100):  # as often as it was asked for
            release(used)
    assert prune_unpacked(0) > 0
    assert store.prune() > 0
    assert store.entries() == []
    assert not folder.exists()


def test_what_is_being_unpacked_is_not_pruned_however_old_it_looks(tmp_path, monkeypatch):
    monkeypatch.setenv("GSVEXPORT_CACHE", str(tmp_path / "cache"))
    packed = build(tmp_path)
    artifact = tmp_path / "out" / "a.gsv"
    prune_unpacked(0)
    real = container.unpack

    def slow(path, folder):
        manifest = real(path, folder)
        os.utime(folder.parent, (0, 0))
        prune_unpacked(0)
        return manifest

    monkeypatch.setattr(container, "unpack", slow)
    assert container.unpacked(artifact) == packed
    assert [path.name for path in unpacked_root().iterdir()] == [packed.name]


@pytest.mark.skipif(not os.path.exists("/dev/full") or os.geteuid() != 0, reason="needs root, to mount a small disk")
def test_a_disk_that_is_full_at_any_point_is_said_and_recovered_from(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    if os.system(f"mount -t tmpfs -o size=64k tmpfs '{small}' 2>/dev/null"):
        pytest.skip("nothing can be mounted here")
    try:
        said = {}
        for kilobytes in (16, 48, 64, 96, 128, 192, 512):
            assert os.system(f"mount -o remount,size={kilobytes}k '{small}'") == 0
            try:
                build(small)
            except EnvironmentProblem as error:
                said[kilobytes] = str(error)
                assert leftovers(small) == []
        assert said
        assert all("disk" in text for text in said.values())
        assert kilobytes not in said
    finally:
        os.system(f"umount '{small}'")


def test_a_read_only_cache_serves_what_it_holds_and_names_what_it_cannot(tmp_path, monkeypatch):
    monkeypatch.setenv("GSVEXPORT_CACHE", str(tmp_path / "cache"))
    folder = build(tmp_path)
    artifact = tmp_path / "out" / "a.gsv"

    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    for name in ("mkdir", "utime", "rename", "unlink", "rmdir"):  # of a read-only file system, also for root
        monkeypatch.setattr(os, name, refuse)
    assert container.unpacked(artifact) == folder
    (folder / "step.onnx").write_bytes(b"")  # damaged, so it would have to be unpacked again
    with pytest.raises(EnvironmentProblem, match="cannot be written: Read-only file system"):
        container.unpacked(artifact)


def test_a_name_in_the_way_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("GSVEXPORT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").write_text("no folder")
    with pytest.raises((EnvironmentProblem, InputError), match="cannot be written"):
        build(tmp_path)
    assert sha256_bytes((tmp_path / "cache").read_bytes()) == sha256_bytes(b"no folder")
