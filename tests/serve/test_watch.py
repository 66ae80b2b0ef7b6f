"""What is published while a server runs is served without a restart; what is taken back is served no more."""

import os
import shutil
import threading
import time

import pytest
from shelved import make

from gsvexport.artifact.signature import add_signature, sign
from gsvexport.registry.places import FolderPlace
from gsvexport.registry.publish import publish
from gsvexport.registry.withdraw import withdraw
from gsvexport.serve import gather
from gsvexport.serve.settings import Settings


@pytest.fixture(scope="module")
def second(parts, tmp_path_factory):
    """alice again, as another artifact; and one of hers that nobody signed."""
    folder = tmp_path_factory.mktemp("second")
    files, model = parts
    other = folder / "files"
    shutil.copytree(files, other)
    (other / "NOTICE").write_text("the second one")
    (folder / "unsigned").mkdir()
    (other / "NOTICE").write_text("the third one")
    bad = make((other, model), folder / "unsigned", "alice", signed=False)
    (other / "NOTICE").write_text("the second one")
    return make((other, model), folder, "alice"), bad


def until(what):
    end = time.monotonic() + 20
    while not (found := what()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def voices(server):
    return {one["id"]: one for one in server.client.get("/voices").json()["voices"]}


def test_a_new_voice_is_live_and_a_withdrawn_one_is_not(start, shelf, home, second, tmp_path):
    root = tmp_path / "repository"
    publish([shelf[0] / "alice.gsv"], place := FolderPlace(root))
    server = start(voices=(str(root),), watch=0.1, allow_older=True, pin=("alice",))
    first = voices(server)["alice"]["digest"]
    assert server.say(voice="bob").status_code == 404

    publish([shelf[0] / "bob.gsv"], place)
    until(lambda: "bob" in voices(server))
    assert server.say(voice="bob").status_code == 200

    # Somebody hears the first alice while the second one comes, to the end; whoever asks then hears the second.
    alone = server.say(text="One, two, three. " * 4, seed=4).content
    heard = {}
    listener = threading.Thread(target=lambda: heard.update(it=server.say(text="One, two, three. " * 4, seed=4)))
    listener.start()
    until(lambda: any(one.users for one in server.service.desk.pool._open.values()))
    publish([second[0]], place)
    until(lambda: voices(server)["alice"]["digest"] != first)
    assert server.say().status_code == 200
    listener.join()
    assert heard["it"].status_code == 200
    assert heard["it"].content == alone
    until(lambda: [one["voice"] for one in server.events("closed")] == ["alice"])
    assert [one["voice"] for one in server.events("voice_replaced")] == ["alice"]
    until(lambda: voices(server)["alice"]["open"])  # it is pinned

    publish([second[1]], place)  # nobody signed the third, so the second one stays
    until(lambda: any("alice" in one["where"] for one in server.events("refused")))
    assert server.say().status_code == 200
    time.sleep(0.3)
    assert len(server.events("refused")) == 1  # and it is told of once
    withdraw(place, "alice", "3")

    withdraw(place, "alice")
    until(lambda: voices(server)["alice"]["digest"] == first)
    withdraw(place, "alice")
    withdraw(place, "bob")
    until(lambda: not voices(server))
    until(lambda: not server.service.desk.pool.open)
    assert server.say().status_code == 404
    assert server.client.get("/readyz").status_code == 200


def test_an_older_version_does_not_come_back_unless_that_is_allowed(shelf, home, second, tmp_path):
    place = FolderPlace(tmp_path / "repository")
    publish([shelf[0] / "alice.gsv"], place)
    publish([second[0]], place)
    looks = gather.Gatherer(Settings(voices=(str(place.root),)))
    assert looks.look().offers["alice"].trusted
    withdraw(place, "alice")
    found = looks.look()
    assert not found.offers
    assert "older than what was pulled before" in str(found.refused)


def test_a_version_that_nobody_serves_any_more_leaves_the_cache(shelf, home, second, tmp_path, monkeypatch):
    monkeypatch.setenv("GSVEXPORT_CACHE", str(tmp_path / "cache"))
    place = FolderPlace(tmp_path / "repository")
    publish([shelf[0] / "alice.gsv"], place)
    one = gather.Gatherer(Settings(voices=(str(place.root),)))
    old = one.look().offers["alice"].path.parent
    publish([second[0]], place)
    new = one.look().offers["alice"].path.parent
    assert old.is_dir()
    for folder in (old, new):
        os.utime(folder, (time.time() - 2 * gather._KEPT,) * 2)
    assert one.look().offers["alice"].path.parent == new
    assert not old.exists()
    assert new.is_dir()  # as old, but in use
    withdraw(place, "alice", "2")
    again = gather.Gatherer(Settings(voices=(str(place.root),), allow_older=True)).look().offers["alice"]
    assert again.path.parent == old  # put together again


def test_what_cannot_be_looked_at_takes_nothing_away(shelf, home, tmp_path, monkeypatch):
    place, folder = FolderPlace(tmp_path / "repository"), tmp_path / "folder"
    publish([shelf[0] / "alice.gsv"], place)
    folder.mkdir()
    shutil.copy(shelf[0] / "bob.gsv", folder)
    counted = []
    real = gather.judged
    monkeypatch.setattr(gather, "judged", lambda *args: counted.append(args) or real(*args))
    looks = gather.Gatherer(Settings(voices=(str(place.root), str(folder))))
    assert set(looks.look().offers) == {"alice", "bob"}
    place.root.rename(tmp_path / "away")  # as a disk that is not mounted
    found = looks.look()
    assert set(found.offers) == {"alice", "bob"}
    assert "no repository any more" in found.refused[str(place.root)]
    (tmp_path / "away").rename(place.root)
    shutil.copy(shelf[0] / "carol.gsv", folder)
    assert set(looks.look().offers) == {"alice", "bob", "carol"}
    assert len(counted) == 3  # each once, however often somebody looked
    (folder / "bob.gsv").unlink()
    add_signature(folder / "carol.gsv", lambda data: sign(bytes(range(1, 33)), data))  # another file now
    assert set(looks.look().offers) == {"alice", "carol"}
    assert len(counted) == 4
