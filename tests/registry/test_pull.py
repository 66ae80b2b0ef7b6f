import errno
import json
import multiprocessing
import os
import signal
import time
import urllib.request

import pytest
from published import PRIVATE, SHARED, make_artifact, served

from gsvexport.artifact import container
from gsvexport.artifact.manifest import LARGEST_MANIFEST
from gsvexport.artifact.signature import add_signature, sign, to_bytes
from gsvexport.cli import run
from gsvexport.errors import ArtifactError, EnvironmentProblem, InputError
from gsvexport.files import cache_directory, sha256_bytes
from gsvexport.registry import pull as pulling
from gsvexport.registry.index import blob_path, published, refresh
from gsvexport.registry.places import FolderPlace, WebPlace, _Redirects, open_place
from gsvexport.registry.publish import publish
from gsvexport.registry.pull import pull

fork = multiprocessing.get_context("fork")
WEIGHTS = blob_path(sha256_bytes(SHARED))


@pytest.fixture
def there(place, alice):
    publish([alice], place)
    return place


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: None)


def members():
    """What the cache of members holds."""
    return {path.name: path.stat().st_size for path in (cache_directory() / "members").rglob("*") if path.is_file()}


def forget():
    for path in (cache_directory() / "members").rglob("*"):
        if path.is_file():
            path.unlink()


def get(place, out, key, **options):
    [item] = published(place)
    return pull(place, item, out, (key,), **options)


def test_what_is_pulled_is_byte_for_byte_what_was_published(there, web, key, alice, tmp_path):
    for place in (there, WebPlace(web.url)):
        out = tmp_path / f"{type(place).__name__}.gsv"
        done = get(place, out, key)
        assert out.read_bytes() == alice.read_bytes()
        assert done.trusted == key
    assert done.received < 10_000  # the second time only manifest and signature
    assert done.reused > len(SHARED)


def test_a_later_signature_comes_along(there, key, alice, tmp_path):
    add_signature(alice, lambda manifest: sign(bytes(32), manifest))
    [again] = publish([alice], there)
    assert not again.new
    assert len(get(there, tmp_path / "out.gsv", key).keys) == 2
    assert (tmp_path / "out.gsv").read_bytes() == alice.read_bytes()


def test_a_second_voice_transfers_only_what_differs(there, web, key, tmp_path):
    place = WebPlace(web.url)
    get(place, tmp_path / "alice.gsv", key)
    first, web.sent = web.sent, 0
    publish([make_artifact(tmp_path / "bob", "bob", own=b"bob")], there)
    item = next(item for item in published(place) if item.entry.name == "bob")
    done = pull(place, item, tmp_path / "bob.gsv", (key,))
    assert first > len(SHARED)
    assert done.reused > len(SHARED)
    assert web.sent < 12_000
    assert not container.damage(tmp_path / "bob.gsv")


def test_an_interrupted_pull_goes_on_where_it_was(there, web, key, tmp_path, monkeypatch):
    web.cut, web.cuts = 30_000, 1
    place = WebPlace(web.url)
    [item] = published(place)
    real = WebPlace.stream
    calls = []

    def once(self, name, offset):
        calls.append((name, offset))
        if len([name for name, offset in calls if name == WEIGHTS]) == 2:
            raise KeyboardInterrupt  # the user gives up in the middle
        return real(self, name, offset)

    monkeypatch.setattr(WebPlace, "stream", once)
    with pytest.raises(KeyboardInterrupt):
        pull(place, item, tmp_path / "out.gsv", (key,))
    monkeypatch.setattr(WebPlace, "stream", real)
    assert not (tmp_path / "out.gsv").exists()
    assert members()[f"{sha256_bytes(SHARED)}.part"] == 30_000
    web.requests.clear()
    done = pull(place, item, tmp_path / "out.gsv", (key,))
    assert (WEIGHTS, "bytes=30000-") in web.requests
    assert not container.damage(tmp_path / "out.gsv")
    assert done.received < item.entry.size - 30_000 + 2000
    assert not [name for name in members() if name.endswith(".part")]


def test_a_connection_that_breaks_often_is_taken_up_each_time(there, web, key, tmp_path):
    web.cut, web.cuts = 10_000, 100
    done = get(WebPlace(web.url), tmp_path / "out.gsv", key)
    ranges = [wanted for name, wanted in web.requests if name == WEIGHTS]
    assert ranges == [None, *(f"bytes={start}-" for start in range(10_000, len(SHARED), 10_000))]
    assert done.received < done.manifest.files["weights.safetensors"].size + 20_000
    assert not container.damage(tmp_path / "out.gsv")


def test_a_server_without_ranges_is_read_from_the_start(there, web, key, tmp_path, monkeypatch):
    web.ranges, web.cut, web.cuts = False, 30_000, 1
    get(WebPlace(web.url), tmp_path / "out.gsv", key)
    assert not container.damage(tmp_path / "out.gsv")
    assert web.sent > len(SHARED) + 30_000


def test_a_server_that_is_gone_is_an_error_and_what_came_is_kept(there, web, key, tmp_path, monkeypatch):
    web.cut, web.cuts = 30_000, 1
    real = web.answer

    def dying(handler):
        if web.cuts == 0:
            web.status = dict.fromkeys([WEIGHTS], 503)
        real(handler)

    monkeypatch.setattr(web, "answer", dying)
    with pytest.raises(EnvironmentProblem, match="HTTP 503") as caught:
        get(WebPlace(web.url), tmp_path / "out.gsv", key)
    assert "kept for the next time" in str(caught.value)
    with pytest.raises(EnvironmentProblem):
        published(WebPlace("http://127.0.0.1:9"))


def test_a_wrong_beginning_from_before_is_given_up(there, web, key, tmp_path):
    part = cache_directory() / "members" / sha256_bytes(SHARED)[:2] / f"{sha256_bytes(SHARED)}.part"
    part.parent.mkdir(parents=True)
    for wrong in (b"x" * 100, b"x" * (len(SHARED) + 5), b"x" * len(SHARED)):
        forget()
        part.write_bytes(wrong)
        get(WebPlace(web.url), tmp_path / "out.gsv", key, force=True)
        assert not container.damage(tmp_path / "out.gsv")


def test_a_member_that_rotted_in_the_cache_is_transferred_again(there, key, tmp_path):
    get(there, tmp_path / "out.gsv", key)
    kept = cache_directory() / "members" / sha256_bytes(SHARED)[:2] / sha256_bytes(SHARED)
    kept.write_bytes(b"y" + SHARED[1:])
    done = get(there, tmp_path / "again.gsv", key)
    assert done.received > len(SHARED)
    assert not container.damage(tmp_path / "again.gsv")


def test_a_tampered_blob_manifest_or_signature_is_refused(there, web, key, tmp_path):
    for folder in ("blobs", "manifests", "signatures"):
        for path in sorted((there.root / folder).rglob("*")):
            if path.is_dir():
                continue
            data = path.read_bytes()
            for changed in (data[:-1] + bytes([data[-1] ^ 1]), data[:-1]):
                path.write_bytes(changed)
                forget()
                with pytest.raises((ArtifactError, EnvironmentProblem)):
                    get(WebPlace(web.url), tmp_path / "out.gsv", key)
                assert not (tmp_path / "out.gsv").exists()
                path.write_bytes(data)
    assert not get(WebPlace(web.url), tmp_path / "out.gsv", key).manifest.files.keys() - {
        *("model.json", "step.onnx", "weights.safetensors", "own.bin", "report.json")
    }


def test_more_than_was_announced_is_not_read(there, web, key, tmp_path):
    path = there.root / WEIGHTS
    path.write_bytes(path.read_bytes() + b"x" * 10_000_000)
    get(WebPlace(web.url), tmp_path / "out.gsv", key)  # the announced bytes are right
    assert members()[sha256_bytes(SHARED)] == len(SHARED)
    [manifest] = (there.root / "manifests").iterdir()
    manifest.write_bytes(manifest.read_bytes() + b" " * LARGEST_MANIFEST)
    with pytest.raises(ArtifactError, match="larger than it may be"):
        get(WebPlace(web.url), tmp_path / "other.gsv", key)


def test_unsigned_or_signed_by_a_stranger_is_refused_unless_told_otherwise(place, key, tmp_path):
    bob = make_artifact(tmp_path / "bob", "bob", signed=False)
    publish([bob], place)
    with pytest.raises(ArtifactError, match="is not signed") as caught:
        get(place, tmp_path / "out.gsv", key)
    assert "--allow-unsigned" in str(caught.value)
    assert members() == {}  # before anything large came
    assert get(place, tmp_path / "out.gsv", key, allow_unsigned=True).trusted is None
    add_signature(bob, lambda manifest: sign(bytes(32), manifest))
    publish([bob], place)
    with pytest.raises(ArtifactError, match="nobody whom you trust") as caught:
        get(place, tmp_path / "other.gsv", key)
    stranger = sign(bytes(32), b"").key
    for word in (stranger.id, f"key trust {stranger.text}", "trusted-keys"):
        assert word in str(caught.value)


def test_a_wrong_signature_is_refused_whatever_is_allowed(there, key, alice, tmp_path):
    [path] = (there.root / "signatures").rglob("*.json")
    path.write_bytes(to_bytes([sign(PRIVATE, b"another manifest")]))
    with pytest.raises(ArtifactError, match="wrongly signed"):
        get(there, tmp_path / "out.gsv", key, allow_unsigned=True)


def test_an_entry_that_names_anothers_manifest_is_refused(there, key, tmp_path):
    [path] = (there.root / "entries").rglob("*.json")
    value = {**json.loads(path.read_text()), "name": "bob"}
    there.put("entries/bob/x86-64/1.json", json.dumps(value).encode())
    item = next(item for item in published(there) if item.entry.name == "bob")
    with pytest.raises(ArtifactError, match="something else"):
        pull(there, item, tmp_path / "out.gsv", (key,))


def test_an_existing_file_is_left_alone_unless_it_is_the_same(there, key, alice, tmp_path):
    out = tmp_path / "out.gsv"
    out.write_bytes(b"mine")
    with pytest.raises(InputError, match="exists already"):
        get(there, out, key)
    assert out.read_bytes() == b"mine"
    get(there, out, key, force=True)
    said = []
    inode = out.stat().st_ino
    get(there, out, key, progress=said.append)
    assert "already" in said[-1]
    assert out.stat().st_ino == inode


def pull_one(url, out, key, barrier):
    barrier.wait()
    place = WebPlace(url)
    [item] = published(place)
    pull(place, item, out, (key,))


def test_several_that_pull_at_once_transfer_it_once(there, web, key, tmp_path, alice):
    barrier = fork.Barrier(4)
    outs = [tmp_path / f"{number}.gsv" for number in range(4)]
    processes = [fork.Process(target=pull_one, args=(web.url, out, key, barrier)) for out in outs]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    assert {out.read_bytes() for out in outs} == {alice.read_bytes()}
    assert len([name for name, _ in web.requests if name == WEIGHTS]) == 1


def test_a_killed_pull_goes_on(there, web, key, tmp_path):
    def die():
        real = os.fsync
        calls = []

        def fsync(handle):
            calls.append(handle)
            if len(calls) == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(handle)

        os.fsync = fsync
        get(WebPlace(web.url), tmp_path / "out.gsv", key)

    process = fork.Process(target=die)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert not (tmp_path / "out.gsv").exists()
    before = set(members())
    assert len(before) == 3
    get(WebPlace(web.url), tmp_path / "out.gsv", key)
    assert not container.damage(tmp_path / "out.gsv")


def test_a_full_disk_is_said_and_what_came_is_kept(there, key, tmp_path, monkeypatch):
    class Full:
        def __init__(self, stream):
            self.stream, self.left = stream, 40_000

        def __getattr__(self, name):
            return getattr(self.stream, name)

        def write(self, data):
            self.left -= len(data)
            if self.left < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.stream.write(data)

    real = pulling._complete
    monkeypatch.setattr(pulling, "_CHUNK", 10_000)
    monkeypatch.setattr(
        pulling, "_complete", lambda place, name, size, part, told: real(place, name, size, Full(part), told)
    )
    with pytest.raises(EnvironmentProblem, match="disk is full"):
        get(there, tmp_path / "out.gsv", key)
    assert members()[f"{sha256_bytes(SHARED)}.part"] == 40_000
    monkeypatch.setattr(pulling, "_complete", real)
    done = get(there, tmp_path / "out.gsv", key)
    assert done.received < len(SHARED) - 40_000 + 10_000
    assert not container.damage(tmp_path / "out.gsv")


def test_members_are_pruned_with_the_cache(there, key, tmp_path, capfd):
    get(there, tmp_path / "out.gsv", key)
    assert run(["cache"]) == 0
    assert "MB members of pulled ones" in capfd.readouterr().out
    assert run(["cache", "--prune", "--older-than", "1"]) == 0
    assert members()
    future = time.time() + 10**6  # the clock was set back since
    for path in (cache_directory() / "members").rglob("*"):
        os.utime(path, (future, future))
    assert run(["cache", "--prune"]) == 0
    assert members() == {}
    get(there, tmp_path / "again.gsv", key)


@pytest.mark.parametrize("where", ["/proc/nothing", "a-file/below"])
def test_a_cache_that_cannot_be_written_is_an_error_of_the_machine(there, key, tmp_path, monkeypatch, where):
    (tmp_path / "a-file").write_bytes(b"")
    monkeypatch.setenv("GSVEXPORT_CACHE", str(tmp_path / where))
    with pytest.raises(EnvironmentProblem, match="GSVEXPORT_CACHE"):
        get(there, tmp_path / "out.gsv", key)


def test_redirects_stay_on_the_web(there, web, key, tmp_path):
    with served(there.root) as other:
        web.status = {WEIGHTS: f"{other.url}/{WEIGHTS}"}
        get(WebPlace(web.url), tmp_path / "out.gsv", key)
        web.status = {"index.json": f"file://{there.root}/index.json"}
        with pytest.raises(EnvironmentProblem, match="not allowed"):
            published(WebPlace(web.url))
    request = urllib.request.Request("https://host/index.json")
    with pytest.raises(EnvironmentProblem, match="not followed"):
        _Redirects("https").redirect_request(request, None, 302, "", {}, "http://host/index.json")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{",
        b'{"schema": 1}',
        b'{"schema": 9, "entries": []}',
        b"[" * 10_000,
        b'{"schema": 1, "schema": 1, "entries": []}',
        b'{"schema": 1, "entries": [' + b"[]," * 1_000_000 + b"[]]}",
    ],
)
def test_a_hostile_index_is_refused(there, web, data):
    (there.root / "index.json").write_bytes(data)
    with pytest.raises(ArtifactError):
        published(WebPlace(web.url))


def test_entries_with_strange_signers_or_twins_are_passed_over(there, web):
    path = there.root / "index.json"
    [row] = json.loads(path.read_text())["entries"]
    for rows in ([{**row, "signed": ["../../x"]}], [{**row, "signed": "x"}], [row, row], [1]):
        path.write_text(json.dumps({"schema": 1, "entries": rows}))
        bad = {}
        assert published(WebPlace(web.url), bad=bad) == []
        assert bad


@pytest.mark.parametrize(
    "url", ["http://user:secret@host/x", "http://", "nosuch://bucket/x", "simplecache::s3://b", "https://host/?a=1"]
)
def test_addresses_that_are_none(url):
    with pytest.raises(InputError) as caught:
        open_place(url)
    assert "secret" not in str(caught.value)


def test_the_web_is_for_pulling(web, alice):
    with pytest.raises(InputError, match="only be pulled from"):
        publish([alice], WebPlace(web.url))


def test_the_command_line_publishes_lists_and_pulls(alice, key, root, web, tmp_path, capfd, monkeypatch):
    from gsvexport.target import detect

    monkeypatch.chdir(tmp_path)
    assert run(["publish", str(alice), str(root), "--version", "1.0"]) == 0
    assert "alice@1.0 for x86-64" in capfd.readouterr().out
    assert run(["pull", web.url]) == 0
    listed = capfd.readouterr().out
    assert "1 pass, 1 not run" in listed
    assert key.key.id in listed
    monkeypatch.setattr(detect, "probe", lambda: detect.Probe("x86-64", "linux", ("avx2", "fma")))
    assert run(["pull", web.url, "alice"]) == 0
    done = capfd.readouterr()
    assert "signed by maker" in done.out
    assert "chosen: x86-64" in done.err
    assert "gsvexport verify" in done.err
    assert (tmp_path / "alice-x86-64.gsv").read_bytes() == alice.read_bytes()
    assert run(["verify", "alice-x86-64.gsv", "--key", "nobody"]) == 2
    monkeypatch.setattr(detect, "probe", lambda: detect.Probe("aarch64", "linux"))
    assert run(["pull", web.url, "alice@latest"]) == 6
    assert "for x86-64, and this is aarch64" in capfd.readouterr().err
    assert run(["pull", web.url, "alice@1.0", "--target", "x86-64", "-o", str(tmp_path)]) == 0
    assert run(["pull", web.url, "alice@7", "--target", "x86-64"]) == 2
    assert "of alice there is: x86-64 1.0" in capfd.readouterr().err
    assert run(["pull", web.url, "../alice"]) == 2
    assert run(["pull", web.url, "alice", "-t", "x86-64", "-o", "x.gsv", "--key", sign(bytes(32), b"").key.text]) == 6
    assert run(["gc", str(root)]) == 0
    assert run(["publish", str(alice), web.url]) == 2


def test_a_folder_that_is_no_repository_is_told_as_over_http(tmp_path, capfd):
    place = FolderPlace(tmp_path / "nothing")
    for words in ([], ["alice"]):
        assert run(["pull", str(place.root), *words]) == 7
        assert "there is no repository" in capfd.readouterr().err
    assert published(place) == []  # the first publisher finds it so
    refresh(place)
    assert run(["pull", str(place.root)]) == 0
