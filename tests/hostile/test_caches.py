"""What lies in the cache is checked before it is believed, and stays while somebody uses it."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from artifacts import copied

from gsvexport import demo
from gsvexport.artifact import container, kept
from gsvexport.artifact.held import alone, hold, release
from gsvexport.cli.show import prune_cache
from gsvexport.compiler.store import Store
from gsvexport.errors import ArtifactError, EnvironmentProblem
from gsvexport.files import cache_directory, sha256_bytes, sha256_once
from gsvexport.registry.pull import prune_members
from gsvexport.runtime.pipeline import load

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("GSVEXPORT_CACHE", str(folder))
    return folder


def flip(path, place=-1):
    """Change a byte, and let size and time of the last change be what they were."""
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[place] ^= 0xFF
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("name", ["weights.safetensors", "baked/ge.npy", "model.json", "vocoder.onnx", "manifest.json"])
def test_flipped_bytes_in_the_cache_are_found_and_the_folder_is_made_anew(subject, name):
    folder = container.unpacked(subject.artifact)
    right = (folder / name).read_bytes()
    flip(folder / name)
    with load(subject.artifact) as voice:
        assert (voice.path / name).read_bytes() == right


@pytest.mark.parametrize("name", ["weights.safetensors", "baked/ge.npy", "vocoder.onnx"])
def test_flipped_bytes_in_an_unpacked_artifact_are_an_error(subject, tmp_path, name):
    folder = copied(subject.files, tmp_path / "folder")
    load(folder).close()
    flip(folder / name)
    with pytest.raises(ArtifactError, match=f"{Path(name).name} has changed"):
        load(folder)


def test_every_byte_is_read_once_in_a_process(subject, monkeypatch):
    container.unpacked(subject.artifact)
    load(subject.artifact).close()
    read = []
    monkeypatch.setattr("gsvexport.files.sha256_file", lambda path: read.append(path) or sha256_bytes(b""))
    start = time.process_time()
    load(subject.artifact).close()
    assert not read
    assert time.process_time() - start < 1


def test_a_file_that_changed_is_read_again(tmp_path):
    (tmp_path / "a").write_bytes(b"one")
    assert sha256_once(tmp_path / "a") == sha256_bytes(b"one")
    flip(tmp_path / "a")
    assert sha256_once(tmp_path / "a") != sha256_bytes(b"one")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to somebody else")
@pytest.mark.parametrize("names", [(), ("unpacked",), ("store",), ("members",), ("demo",), ("engines",)])
def test_a_folder_that_another_user_made_is_not_used(cache, names):
    folder = cache.joinpath(*names)
    folder.mkdir(parents=True)
    os.chown(folder, 12345, 12345)
    with pytest.raises(EnvironmentProblem, match="belongs to another user") as caught:
        cache_directory(*names)
    assert "12345" in str(caught.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to somebody else")
def test_a_folder_of_another_user_that_has_an_artifacts_name_is_not_used(subject, cache):
    folder = container.unpacked(subject.artifact)
    os.chown(folder, 12345, 12345)
    with pytest.raises(EnvironmentProblem, match="belongs to another user"):
        load(subject.artifact)


def test_a_folder_of_ones_own_is_closed_to_others(cache):
    cache.mkdir()
    cache.chmod(0o777)
    assert cache_directory() == cache
    assert cache.stat().st_mode & 0o777 == 0o755


def test_without_a_home_there_is_a_line_that_says_so(tmp_path):
    code = (
        "import os, pwd\n"
        "def none(_): raise KeyError('no such user')\n"
        "pwd.getpwuid = none\n"
        "from gsvexport.cli import run\n"
        "raise SystemExit(run(['cache']))"
    )
    hidden = ("HOME", "GSVEXPORT_CACHE", "XDG_CACHE_HOME", "GSVEXPORT_CONFIG", "XDG_CONFIG_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 7, done.stderr
    assert "no home folder" in done.stderr
    assert "GSVEXPORT_CACHE" in done.stderr


def test_the_demo_voice_is_read_whole_and_leftovers_of_killed_processes_go(cache):
    left = cache / "demo" / ".partial-left"
    left.mkdir(parents=True)
    folder = demo.demo_voice()
    assert not left.exists()
    for name in ("sovits.pth", "reference_codes.npy", "voice.toml", "NOTICE"):
        right = (folder / name).read_bytes()
        flip(folder / name)
        assert demo.demo_voice() == folder  # made again
        assert (folder / name).read_bytes() == right


# In use


def test_what_a_voice_was_unpacked_to_stays_while_it_lives(subject):
    voice = load(subject.artifact)
    prune_cache(0)
    assert voice.synthesize(phones=[3, 4, 5], max_tokens=5).samples.size
    folder = voice.path
    del voice
    release(folder)  # the process's own, of tests before
    prune_cache(0)
    assert not folder.exists()


def test_another_process_prunes_nothing_that_is_in_use_here(subject, cache):
    environment = {**os.environ, "GSVEXPORT_CACHE": str(cache), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "gsvexport", "cache", "--prune"]
    with load(subject.artifact) as voice:
        subprocess.run(command, env=environment, check=True, capture_output=True)
        assert (voice.path / "weights.safetensors").is_file()
        assert voice.synthesize(phones=[3, 4, 5], max_tokens=5).samples.size


def test_a_result_of_the_store_stays_while_its_build_runs(cache):
    store = Store()
    folder = store.obtain("0" * 16, lambda work: (work / "a").write_text("x"))
    code = (
        f"from gsvexport.compiler.store import Store; print(Store().prune(0), Store().root == {str(cache / 'store')!r})"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)
    assert (folder / "a").is_file()
    del store
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)
    assert not folder.exists()


def test_members_stay_while_a_pull_runs(cache):
    member = cache / "members" / "ab" / "abcd"
    member.parent.mkdir(parents=True)
    member.write_bytes(b"1234")
    assert hold(cache / "members")
    assert prune_members(0) == 0
    release(cache / "members")
    assert prune_members(0) == 4


def test_a_lock_is_shared_by_those_who_use_and_alone_with_who_removes(tmp_path):
    assert hold(tmp_path)
    assert hold(tmp_path)
    with alone(tmp_path) as unused:
        assert not unused
    release(tmp_path)
    release(tmp_path)
    with alone(tmp_path) as unused:
        assert unused
    assert not hold(tmp_path / "absent")
    with alone(tmp_path / "absent") as unused:
        assert not unused


def test_pruning_removes_a_link_and_not_what_it_points_to(tmp_path, cache):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "a").write_text("mine")
    for place in ("unpacked/0", "members/ab", "members/cd/ef", "unpacked/.partial-x", "store/x"):
        (cache / place).parent.mkdir(parents=True, exist_ok=True)
        (cache / place).symlink_to(precious if place != "members/cd/ef" else precious / "a")
    (cache / "store/x/index.json").write_text('{"schema": 1, "label": "", "files": {"a": {"size": 4}}}')
    prune_cache(0)
    kept.prune_unpacked(0)
    assert (precious / "a").read_text() == "mine"
    assert not (cache / "unpacked/0").is_symlink()
    shutil.rmtree(cache)
