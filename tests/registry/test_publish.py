import json
import multiprocessing
import os
import signal
import sys
from pathlib import Path

import pytest
from published import files, make_artifact, renamed

from gsvexport.artifact import container
from gsvexport.cli import run
from gsvexport.errors import ArtifactError, EnvironmentProblem, GateFailed, InputError
from gsvexport.registry import publish as publishing
from gsvexport.registry.collect import collect
from gsvexport.registry.index import Entry, blob_path, choose, published, refresh, version_order
from gsvexport.registry.places import FolderPlace
from gsvexport.registry.publish import publish

fork = multiprocessing.get_context("fork")


class Killed(BaseException):
    """What a kill would be, without losing the process."""


class Frail(FolderPlace):
    """A folder whose process dies before its change number `after`."""

    def __init__(self, root, after, die):
        super().__init__(root)
        self.left, self.die = after, die

    def step(self):
        if self.left == 0:
            self.die()
        self.left -= 1

    def put(self, name, data):
        self.step()
        super().put(name, data)

    def create(self, name, data):
        self.step()
        return super().create(name, data)

    def remove(self, name):
        self.step()
        super().remove(name)


def killed():
    raise Killed


def whole(place):
    """The entries, after a check that everything they need is there."""
    listed = published(place)
    for item in listed:
        manifest = json.loads(place.read(f"manifests/{item.entry.manifest}.json", 1 << 20))
        for member in [*manifest["members"].values(), manifest["report"]]:
            assert place.size(blob_path(member["sha256"])) == member["size"]
    return [item.entry.title for item in listed]


def test_what_is_published_is_listed_with_what_a_release_engineer_asks(place, alice):
    [done] = publish([alice], place)
    assert done.new
    [item] = published(place)
    assert item.entry == done.entry
    assert (item.entry.name, item.entry.version, item.entry.target, item.entry.model) == ("alice", "1", "x86-64", "v2")
    assert item.entry.gates == {"pass": 1, "fail": 0, "not_run": 1}
    assert item.entry.digest == container.read_manifest(alice).digest
    assert item.entry.size == done.sent - sum(
        path.stat().st_size for path in (place.root / "signatures").rglob("*.json")
    )
    assert len(item.signed) == 1
    index = json.loads(place.read("index.json", 1 << 20))
    assert [row["version"] for row in index["entries"]] == ["1"]
    assert not list((place.root / "publishing").iterdir())


def test_nothing_in_a_repository_depends_on_when_or_where_it_was_made(tmp_path, alice):
    publish([alice], FolderPlace(tmp_path / "a"))
    publish([alice], FolderPlace(tmp_path / "b"))
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_publishing_again_changes_nothing_and_sends_nothing(place, alice):
    publish([alice], place)
    before = files(place.root)
    [done] = publish([alice], place)
    assert not done.new
    assert done.sent == 0
    assert done.entry.version == "1"
    assert files(place.root) == before


def test_a_version_never_changes(place, alice, tmp_path):
    publish([alice], place, version="1.2")
    other = make_artifact(tmp_path / "other", own=b"other")
    with pytest.raises(InputError, match="published already") as caught:
        publish([other], place, version="1.2")
    assert "--version" in str(caught.value)
    assert publish([alice], place, version="1.2")[0].new is False
    assert whole(place) == ["alice@1.2 for x86-64"]


def test_versions_are_ordered_by_their_numbers_and_not_by_time(place, tmp_path):
    for number, version in enumerate(["1.10", "2", "1.9"]):
        publish([make_artifact(tmp_path / version, own=version.encode())], place, version=version)
        os.utime(place.root / "entries/alice/x86-64" / f"{version}.json", (number, number))
    [latest] = choose(published(place), "alice", None, "x86-64")
    assert latest.entry.version == "2"
    [done] = publish([make_artifact(tmp_path / "next", own=b"next")], place)
    assert done.entry.version == "3"
    assert version_order("1.2") < version_order("1.2.0") < version_order("1.10")
    for wrong in ("", "v1", "01", "1..2", "1.2.3.4.5", "1 ", "1\n", "9" * 10, "latest", "../1"):
        with pytest.raises(InputError, match="no version"):
            version_order(wrong)


def test_voices_share_blobs(place, alice, tmp_path):
    publish([alice], place)
    [done] = publish([make_artifact(tmp_path / "bob", "bob", own=b"bob")], place)
    shared = (tmp_path / "made/alice-x86-64-files/weights.safetensors").stat().st_size
    assert done.sent < done.entry.size - shared + 2000


def test_what_failed_its_gates_or_is_damaged_is_not_published(place, alice, tmp_path):
    report = {"passed": False, "checks": [{"status": "fail"}]}
    with pytest.raises(GateFailed, match="missed a limit"):
        publish([make_artifact(tmp_path / "bad", report=report)], place)
    data = bytearray(alice.read_bytes())
    data[container.payloads(alice)[0].offset] ^= 1
    alice.write_bytes(data)
    with pytest.raises(ArtifactError, match="damaged"):
        publish([alice], place)
    assert files(place.root) == {}


def test_all_that_is_wrong_with_several_is_said_at_once_and_none_is_published(place, alice, tmp_path):
    strange = renamed(alice, tmp_path / "strange.gsv", name="not a name")
    with pytest.raises(ArtifactError) as caught:
        publish([alice, tmp_path / "none.gsv", strange], place)
    assert len(caught.value.problems) == 2
    with pytest.raises(InputError, match="two artifacts of one voice"):
        publish([alice, alice], place)
    assert files(place.root) == {}


def test_killed_before_any_change_it_is_visible_whole_or_not_at_all_and_goes_on(tmp_path, alice):
    clean = FolderPlace(tmp_path / "clean")
    publish([alice], clean)
    steps = 0
    while True:
        place = FolderPlace(tmp_path / f"killed-{steps}")
        try:
            publish([alice], Frail(place.root, steps, killed))
            break
        except Killed:
            assert whole(place) in ([], ["alice@1 for x86-64"])
        publish([alice], place)
        assert files(place.root) == files(clean.root)
        steps += 1
    assert steps >= 10  # the intent, five blobs, manifest, signature, entry, intent gone, index


def test_a_killed_process_leaves_nothing_visible_and_nothing_in_the_way(tmp_path, alice):
    place = FolderPlace(tmp_path / "repository")
    for after in (3, 5, 2):

        def die_there(after=after):
            publish([alice], Frail(place.root, after, lambda: os.kill(os.getpid(), signal.SIGKILL)))

        process = fork.Process(target=die_there)
        process.start()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
        assert whole(place) in ([], ["alice@1 for x86-64"])
    publish([alice], place)
    assert whole(place) == ["alice@1 for x86-64"]
    assert json.loads(place.read("index.json", 1 << 20))["entries"]


def publish_one(root, path, barrier):
    barrier.wait()
    publish([path], FolderPlace(root))


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_publishers_at_once_lose_nothing(place, tmp_path):
    paths = [make_artifact(tmp_path / str(number), own=b"%d" % number) for number in range(6)]
    paths += [make_artifact(tmp_path / f"bob{number}", "bob", own=b"%d" % number) for number in range(2)]
    barrier = fork.Barrier(len(paths))
    processes = [fork.Process(target=publish_one, args=(place.root, path, barrier)) for path in paths]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * len(paths)
    assert sorted(whole(place)) == sorted(
        [f"alice@{number} for x86-64" for number in range(1, 7)] + [f"bob@{number} for x86-64" for number in (1, 2)]
    )
    index = json.loads(place.read("index.json", 1 << 20))
    assert len(index["entries"]) == len(paths)
    assert len({item.entry.manifest for item in published(place)}) == len(paths)


def test_a_folder_that_goes_while_it_is_listed_is_none(place, alice, monkeypatch):
    publish([alice], place)
    names, gone = place.names("entries"), place.root / "entries" / ".part-of-another"
    gone.mkdir()
    scandir = os.scandir

    def raced(path="."):
        if Path(path) == gone and gone.exists():
            gone.rmdir()
        return scandir(path)

    monkeypatch.setattr(os, "scandir", raced)
    assert place.names("entries") == names
    assert not gone.exists()


def test_an_index_written_late_by_another_is_written_again(place, alice, tmp_path):
    publish([alice], place)
    stale = place.read("index.json", 1 << 20)
    bob = make_artifact(tmp_path / "bob", "bob")

    class Late(FolderPlace):
        late = True

        def put(self, name, data):
            super().put(name, data)
            if name == "index.json" and self.late:  # somebody who listed before this entry was there writes now
                self.late = False
                super().put(name, stale)

    publish([bob], Late(place.root))
    assert len(json.loads(place.read("index.json", 1 << 20))["entries"]) == 2
    assert refresh(place) == 2


def test_an_index_that_others_never_leave_alone_is_an_error(place, alice):
    class Restless(FolderPlace):
        def put(self, name, data):
            super().put(name, b"{}" if name == "index.json" else data)

    with pytest.raises(EnvironmentProblem, match="while its index was written"):
        publish([alice], Restless(place.root))
    assert publish([alice], place)[0].new is False


def test_a_full_disk_leaves_nothing_visible(place, alice, monkeypatch):
    import errno
    import shutil

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfileobj", full)
        with pytest.raises(EnvironmentProblem, match="disk is full"):
            publish([alice], place)
    assert published(place) == []
    publish([alice], place)
    assert whole(place) == ["alice@1 for x86-64"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_an_error_of_the_machine(place, alice):
    place.root.mkdir()
    place.root.chmod(0o500)
    with pytest.raises(EnvironmentProblem, match="cannot be written"):
        publish([alice], place)


def test_a_folder_that_refuses_is_an_error_of_the_machine(alice):
    with pytest.raises(EnvironmentProblem):
        publish([alice], FolderPlace(alice / "below-a-file"))


def test_garbage_is_what_no_entry_needs(place, alice, tmp_path):
    publish([alice], place)
    bob = make_artifact(tmp_path / "bob", "bob", own=b"bob")
    with pytest.raises(Killed):
        publish([bob], Frail(place.root, 4, killed))
    before = files(place.root)
    assert collect(place).files == 0  # bob's publisher may still be running
    assert files(place.root) == before
    os.utime(next((place.root / "publishing").iterdir()), (1, 1))
    done = collect(place)
    assert done.files > 0
    assert whole(place) == ["alice@1 for x86-64"]
    left = files(place.root)
    fresh = FolderPlace(tmp_path / "fresh")
    publish([alice], fresh)
    assert left == files(fresh.root)
    publish([bob], place)
    assert len(whole(place)) == 2


def test_a_clock_that_ran_backwards_keeps_more_and_loses_nothing(place, alice, tmp_path):
    publish([alice], place)
    with pytest.raises(Killed):
        publish([make_artifact(tmp_path / "bob", "bob", own=b"bob")], Frail(place.root, 4, killed))
    future = 4_000_000_000
    for path in place.root.rglob("*"):
        os.utime(path, (future, future))
    before = files(place.root)
    assert collect(place).files == 0
    assert files(place.root) == before


def test_a_publisher_and_a_collector_cannot_miss_each_other(place, alice, tmp_path, monkeypatch):
    """The blobs are there, as garbage, when a publisher looks; a collector that runs just then must not take them."""
    publish([alice], place)
    place.remove("entries/alice/x86-64/1.json")
    refresh(place)

    class Meanwhile(FolderPlace):
        ran = False

        def size(self, name):
            found = super().size(name)
            if name.startswith("blobs/") and not self.ran:
                self.ran = True
                collect(FolderPlace(self.root))
            return found

    publish([alice], Meanwhile(place.root))
    assert whole(place) == ["alice@1 for x86-64"]


def test_a_publisher_waits_for_a_collector(place, alice, monkeypatch):
    place.put("gc.json", b"x")
    said = []

    def say(text):
        said.append(text)
        if text.startswith("waiting"):
            place.remove("gc.json")

    publish([alice], place, progress=say)
    assert "waiting for a garbage collection to end" in said
    place.put("gc.json", b"x")
    monkeypatch.setattr(publishing, "_WAIT", 0)
    with pytest.raises(EnvironmentProblem, match="--take-over"):
        publish([alice], place)
    with pytest.raises(EnvironmentProblem, match="--take-over"):
        collect(place)
    collect(place, take_over=True)
    assert place.size("gc.json") is None
    assert whole(place) == ["alice@1 for x86-64"]


def test_old_versions_go_when_asked(place, tmp_path):
    for number in range(3):
        publish([make_artifact(tmp_path / str(number), own=b"%d" % number)], place)
    done = collect(place, keep=1)
    assert (done.versions, whole(place)) == (2, ["alice@3 for x86-64"])
    assert [row["version"] for row in json.loads(place.read("index.json", 1 << 20))["entries"]] == ["3"]
    assert publish([make_artifact(tmp_path / "4", own=b"4")], place)[0].entry.version == "4"


def test_nothing_is_collected_where_an_entry_cannot_be_followed(place, alice):
    publish([alice], place)
    [manifest] = (place.root / "manifests").iterdir()
    manifest.write_bytes(b"{}")
    before = files(place.root)
    with pytest.raises(ArtifactError, match="damaged"):
        collect(place)
    assert files(place.root) == before


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "../../etc"),
        ("version", "1/../2"),
        ("target", "a\nb"),
        ("manifest", "../" + "a" * 61),
        ("digest", 5),
        ("size", -1),
        ("size", True),
        ("size", 1 << 60),
        ("gates", {"pass": "many"}),
        ("gates", {"else": 1}),
        ("device", []),
        ("elsewhere", 3),
        ("url", "http://elsewhere/"),
        ("schema", 2),
    ],
)
def test_an_entry_that_cannot_be_right_keeps_nobody_from_the_others(place, alice, tmp_path, key, value):
    publish([make_artifact(tmp_path / "bob", "bob")], place)
    [done] = publish([alice], place)
    path = place.root / done.entry.path
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    bad = {}
    assert [item.entry.name for item in published(place, bad=bad)] == ["bob"]
    assert list(bad) == [done.entry.path]
    told = []
    collect(place, grace_days=0, progress=told.append)
    assert done.entry.path in told[0]
    blobs = len(place.names("blobs"))
    assert path.is_file()
    assert publish([alice], place)[0].entry.version == "2"  # 1 is taken by what nobody can read
    assert run(["pull", str(place.root)]) == 0
    assert collect(place, grace_days=0, remove_bad=True).versions == 1
    assert not path.exists()
    assert [item.entry.title for item in published(place)] == ["alice@2 for x86-64", "bob@1 for x86-64"]
    assert len(place.names("blobs")) == blobs or key == "manifest"


@pytest.mark.parametrize(
    "report",
    [
        {"passed": True, "checks": [{"status": "wonderful"}]},
        {"passed": True, "checks": [], "elsewhere": ["x"]},
        {"passed": True, "checks": [], "elsewhere": "x" * 300},
        {"passed": True, "checks": {"status": "pass"}},
        {"passed": True, "checks": [1]},
        {"passed": 1, "checks": []},
        [],
        "x",
    ],
)
def test_a_report_that_makes_no_entry_is_refused_before_there_is_one(place, tmp_path, report):
    path = make_artifact(tmp_path / "crafted", report=report)
    with pytest.raises((ArtifactError, GateFailed)):
        publish([path], place)
    assert not place.names("entries")


@pytest.mark.parametrize(
    "target",
    [
        {"device": {"features": ["x" * 1000] * 100}},
        {"device": {"gpu": {str(number): "x" * 900 for number in range(99)}}},
        {"device": {"memory_mb": "much"}},
        {"device": {"arch": 3}},
        {"device": []},
    ],
)
def test_a_target_that_makes_no_entry_is_refused_before_there_is_one(place, tmp_path, target):
    with pytest.raises(ArtifactError):
        publish([make_artifact(tmp_path / "crafted", **target)], place)
    assert not place.names("entries")


def test_an_entry_elsewhere_than_its_name_says_is_refused(place, alice):
    [done] = publish([alice], place)
    (place.root / "entries/bob/x86-64").mkdir(parents=True)
    (place.root / done.entry.path).rename(place.root / "entries/bob/x86-64/1.json")
    bad = {}
    assert published(place, "bob", bad) == []
    assert "something else" in str(bad["entries/bob/x86-64/1.json"])


def test_an_entry_is_bounded(place):
    place.put("entries/a/b/1.json", b" " * 100_000)
    bad = {}
    assert published(place, bad=bad) == []
    assert "larger than" in str(bad["entries/a/b/1.json"])


def test_an_entry_tells_no_time(place, alice):
    [done] = publish([alice], place)
    assert Entry.from_json(json.loads(done.entry.to_bytes()), "x") == done.entry
    assert not {"time", "date", "created"} & {*json.loads(done.entry.to_bytes())}
