import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gsvexport.artifact.held import release
from gsvexport.compiler.store import Store
from gsvexport.errors import EnvironmentProblem

KEY, OTHER = "0" * 64, "1" * 64
# Makes an entry and stops in the middle, after telling that it got there.
MAKER = """
import sys, time
from pathlib import Path
from gsvexport.compiler.store import Store
def make(work):
    (work / "half").write_bytes(b"x" * 1000)
    print("inside", flush=True)
    sys.stdin.readline()
    (work / "whole").write_text("done")
Store(Path(sys.argv[1])).obtain(sys.argv[2], make, "slow")
print("finished", flush=True)
"""


def write(text="content"):
    def make(work):
        (work / "folder").mkdir()
        (work / "folder" / "file").write_text(text)

    return make


def refuse(work):
    raise AssertionError("made again")


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def maker(store):
    started = []

    def start(key=KEY):
        process = subprocess.Popen(
            [sys.executable, "-c", MAKER, str(store.root), key],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def visible(store):
    return sorted(path.name for path in store.root.iterdir() if path.name != "locks")


def test_a_result_is_made_once(store):
    folder = store.obtain(KEY, write(), "text")
    assert (folder / "folder" / "file").read_text() == "content"
    assert store.obtain(KEY, refuse) == folder
    assert Store(store.root).obtain(KEY, refuse) == folder
    (entry,) = store.entries()
    assert (entry.key, entry.label, entry.size) == (KEY, "text", 7)


def test_a_failure_leaves_nothing(store):
    def fail(work):
        (work / "half").write_text("half")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        store.obtain(KEY, fail)
    assert visible(store) == []
    assert store.obtain(KEY, write())


def test_a_full_disk_is_named_and_leaves_nothing(store, monkeypatch):
    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gsvexport.compiler.store.os.fsync", full)
    with pytest.raises(EnvironmentProblem, match="the disk is full"):
        store.obtain(KEY, write())
    assert visible(store) == []
    monkeypatch.undo()
    assert store.obtain(KEY, write())


@pytest.mark.parametrize(
    "harm",
    [
        lambda entry: (entry / "content/folder/file").write_text("CONTENT"),  # the same size
        lambda entry: (entry / "content/folder/file").write_text("longer content"),
        lambda entry: (entry / "content/folder/file").unlink(),
        lambda entry: (entry / "content/extra").write_text(""),
        lambda entry: (entry / "index.json").unlink(),
        lambda entry: (entry / "index.json").write_text("{}"),
        lambda entry: (entry / "index.json").write_text("{"),
        lambda entry: (entry / "index.json").write_bytes((entry / "index.json").read_bytes()[:-40]),
    ],
    ids=["byte", "size", "missing", "extra", "no index", "empty index", "broken index", "cut index"],
)
def test_a_damaged_result_is_made_again_and_said_so(tmp_path, harm):
    root = tmp_path / "store"
    Store(root).obtain(KEY, write())
    harm(root / KEY)
    notes = []
    folder = Store(root, notes.append).obtain(KEY, write(), "the text")
    assert (folder / "folder" / "file").read_text() == "content"
    assert len(notes) == 1
    assert "the stored result the text is damaged" in notes[0]
    assert Store(root, notes.append).obtain(KEY, refuse)
    assert len(notes) == 1


def test_a_link_in_a_result_is_refused(store, tmp_path):
    with pytest.raises(EnvironmentProblem, match="not a plain file"):
        store.obtain(KEY, lambda work: (work / "link").symlink_to(tmp_path))
    assert visible(store) == []


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_killed_process_leaves_nothing_that_counts(store, maker, how):
    process = maker()
    assert process.stdout.readline() == "inside\n"
    assert visible(store) == [f"{KEY}.partial"]
    process.send_signal(how)
    process.wait(30)
    assert not (store.root / KEY).exists()
    assert store.entries() == []
    store.obtain(OTHER, write())  # any later use sweeps what the dead process left
    assert visible(store) == [OTHER]
    store.obtain(KEY, write())
    assert visible(store) == [KEY, OTHER]


def test_a_result_that_is_being_made_is_not_swept(store, maker):
    process = maker()
    assert process.stdout.readline() == "inside\n"
    release(store.obtain(OTHER, write()).parent)
    assert store.prune() > 0
    assert visible(store) == [f"{KEY}.partial"]
    assert process.communicate("go\n", timeout=30)[0] == "finished\n"
    assert visible(store) == [KEY]


def test_two_processes_that_want_the_same_both_get_it_and_one_makes_it(store, maker):
    first = maker()
    assert first.stdout.readline() == "inside\n"
    notes, found = [], []
    second = threading.Thread(target=lambda: found.append(Store(store.root, notes.append).obtain(KEY, refuse)))
    second.start()
    deadline = time.monotonic() + 30
    while not notes and time.monotonic() < deadline:
        time.sleep(0.01)
    assert notes == ["waiting for another gsvexport that makes the same thing"]
    assert first.communicate("go\n", timeout=30)[0] == "finished\n"
    second.join(30)
    assert (found[0] / "whole").read_text() == "done"


def test_prune_goes_by_the_last_use(store):
    folders = [store.obtain(key, write()) for key in (KEY, OTHER)]
    os.utime(store.root / OTHER / "index.json", (0, 0))
    assert [entry.key for entry in store.entries()] == [KEY, OTHER]
    assert store.prune(older_than_days=1) == 0  # this process uses them
    for folder in folders:
        release(folder.parent)
    assert store.prune(older_than_days=1) == 7
    assert visible(store) == [KEY]
    assert store.prune() == 7
    assert store.entries() == []
    assert Store(store.root / "nowhere").prune() == 0


def test_using_a_result_counts_as_use(store):
    store.obtain(KEY, write())
    os.utime(store.root / KEY / "index.json", (0, 0))
    store.obtain(KEY, refuse)
    assert store.prune(older_than_days=1) == 0


def test_a_key_is_a_digest(store):
    with pytest.raises(ValueError, match="not a store key"):
        store.obtain("../escape", write())


def test_the_index_lists_every_file(store):
    store.obtain(KEY, write(), "text")
    index = json.loads((store.root / KEY / "index.json").read_text())
    assert list(index["files"]) == ["folder/file"]
    assert len(index["files"]["folder/file"]["sha256"]) == 64


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_store_that_cannot_be_written_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(EnvironmentProblem, match="cannot be written"):
        Store(tmp_path / "store").obtain(KEY, write())


def test_what_a_failed_tool_left_is_made_again(tmp_path):
    made = []

    def make(work):
        made.append(work)
        (work / "a").write_text("x")
        return len(made) == 1  # the tool works the second time

    first = Store(tmp_path)
    for _ in range(2):
        first.obtain("0" * 16, make)
    assert len(made) == 1
    assert first.passing("0" * 16)
    second = Store(tmp_path)
    second.obtain("0" * 16, make)
    assert len(made) == 2
    assert not second.passing("0" * 16)
    Store(tmp_path).obtain("0" * 16, make)
    assert len(made) == 2
