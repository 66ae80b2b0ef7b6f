"""Servers that are slow, broken or hostile hold nobody up."""

import contextlib
import os
import socket
import threading
import time

import pytest
from published import SHARED

from gsvexport.cli import run
from gsvexport.errors import ArtifactError, EnvironmentProblem
from gsvexport.files import cache_directory, sha256_bytes
from gsvexport.registry import pace, places
from gsvexport.registry.index import blob_path, published
from gsvexport.registry.pace import Interrupted
from gsvexport.registry.places import FolderPlace, WebPlace
from gsvexport.registry.publish import publish
from gsvexport.registry.pull import pull

pytestmark = pytest.mark.slow

WEIGHTS = blob_path(sha256_bytes(SHARED))
REAL_SLEEP = time.sleep


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: None)


@contextlib.contextmanager
def answering(*parts, each=0.0):
    """A server that answers every request with these bytes, with a pause after each part, and then hangs up."""
    listener = socket.create_server(("127.0.0.1", 0))
    count = []

    def talk(connection):
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            for part in parts:
                connection.sendall(part)
                if each:
                    REAL_SLEEP(each)

    def serve():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                count.append(1)
                threading.Thread(target=talk, args=(connection,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", count
    finally:
        listener.close()


def test_a_server_that_ignores_ranges_and_breaks_off_early_is_left_soon(place, alice, web, key, tmp_path):
    publish([alice], place)
    web.ranges, web.cut, web.cuts = False, 30_000, 10**9
    [item] = published(WebPlace(web.url))
    with pytest.raises(EnvironmentProblem, match="ended early"):
        pull(WebPlace(web.url), item, tmp_path / "out.gsv", (key,))
    assert len([name for name, _ in web.requests if name == WEIGHTS]) <= 6
    [part] = (cache_directory() / "members").rglob("*.part")
    assert part.stat().st_size == 30_000  # what came is kept, and not thrown away by each new beginning


def test_a_server_that_gives_a_few_bytes_each_time_is_left_as_well(place, alice, web, key, tmp_path):
    publish([alice], place)
    web.cut, web.cuts = 10, 10**9
    [item] = published(WebPlace(web.url))
    with pytest.raises(EnvironmentProblem):
        pull(WebPlace(web.url), item, tmp_path / "out.gsv", (key,))
    assert len([name for name, _ in web.requests if name == WEIGHTS]) < 40


def test_pauses_grow(place, alice, web, key, tmp_path, monkeypatch):
    waited = []
    monkeypatch.setattr(time, "sleep", waited.append)
    publish([alice], place)
    web.ranges, web.cut, web.cuts = False, 30_000, 10**9
    [item] = published(WebPlace(web.url))
    with pytest.raises(EnvironmentProblem):
        pull(WebPlace(web.url), item, tmp_path / "out.gsv", (key,))
    assert waited == sorted(waited)
    assert waited[-1] > 5


def test_what_comes_whole_is_not_waited_after(place, alice, web, key, tmp_path, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail(f"waited {seconds} s"))
    publish([alice], place)
    [item] = published(WebPlace(web.url))
    pull(WebPlace(web.url), item, tmp_path / "out.gsv", (key,))


def test_a_byte_now_and_then_is_too_slow(monkeypatch):
    monkeypatch.setattr(pace, "WINDOW", 0.4)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
    with answering(head, *[b"x"] * 100, each=0.1) as (url, _):
        start = time.monotonic()
        with pytest.raises(EnvironmentProblem, match="too slowly"):
            WebPlace(url).read("index.json", 1 << 20)
        assert time.monotonic() - start < 5


def test_a_header_now_and_then_is_too_slow(monkeypatch):
    monkeypatch.setattr(places, "HEADERS", 0.4)
    with answering(b"HTTP/1.1 200 OK\r\n", *[b"X-A: b\r\n"] * 60, each=0.1) as (url, _):
        start = time.monotonic()
        with pytest.raises((EnvironmentProblem, Interrupted)):
            WebPlace(url).read("index.json", 1 << 20)
        assert time.monotonic() - start < 5


def test_a_transfer_has_a_total_time(monkeypatch):
    clock = pace.Pace(1000, "it")
    clock.came(500)
    monkeypatch.setattr(time, "monotonic", lambda real=time.monotonic: real() + 10_000)
    with pytest.raises(EnvironmentProblem, match="too slowly"):
        clock.came(10**9)


TARGETS = (b"file:///etc/passwd", b"http://[::1", b"ftp://x/y", b"http:///", b"\x1b[2J", b"gopher://x", b"")
OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nabcdefgh",
        OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc",
        OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"9" * 70_000,
        OK + b"Content-Length: -7\r\n\r\nabc",
        OK + b"Content-Length: many\r\n\r\nabc",
        OK + b"X" * 70_000 + b": 1\r\n\r\n",
        OK + b"a: b\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 99999 \x1b[31mX\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"SSH-2.0-x\r\n",
        b"\0" * 100,
        b"",
        *(
            b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + target + b"\r\n\r\n"
            for target in (
                b"file:///etc/passwd",
                b"http://[::1",
                b"ftp://x/y",
                b"http:///",
                b"\x1b[2J",
                b"gopher://x",
                b"",
            )
        ),
        b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 301 \x1b]0;title\x07\r\nLocation: http://127.0.0.1:1/x\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 403 \x1b[31m\xe2\x80\xaeevil\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_answers_that_are_nonsense_end_in_one_plain_line(answer, capsys):
    with answering(answer) as (url, count):
        code = run(["pull", url])
        message = capsys.readouterr().err
        assert code in (6, 7), message
        assert "defect" not in message
        assert message.replace("\n", "").isprintable(), message
        assert len(count) <= 40


def test_a_folder_with_pipes_and_links_in_it_holds_nobody_up(place, root, alice):
    publish([alice], place)
    (root / "entries/bob/x86-64").mkdir(parents=True)
    os.mkfifo(root / "entries/bob/x86-64/1.json")
    (root / "entries/alice/x86-64/7.json").symlink_to("/dev/zero")
    assert [item.entry.name for item in published(place)] == ["alice"]
    os.mkfifo(root / "index.json.tmp")
    with pytest.raises(EnvironmentProblem, match="is a pipe"), FolderPlace(root).stream("index.json.tmp", 0):
        pass


def test_a_link_in_place_of_a_beginning_is_not_followed(place, alice, key, tmp_path):
    publish([alice], place)
    part = cache_directory() / "members" / sha256_bytes(SHARED)[:2] / f"{sha256_bytes(SHARED)}.part"
    part.parent.mkdir(parents=True)
    (tmp_path / "precious").write_text("mine")
    part.symlink_to(tmp_path / "precious")
    [item] = published(place)
    pull(place, item, tmp_path / "out.gsv", (key,))
    assert (tmp_path / "precious").read_text() == "mine"


def test_an_index_that_would_take_gigabytes_is_refused_before_it_is_read(place, root, web, alice):
    import tracemalloc

    publish([alice], place)
    (root / "index.json").write_bytes(b'{"schema": 1, "entries": [' + b"{}," * 5_000_000 + b"{}]}")
    tracemalloc.start()
    with pytest.raises(ArtifactError, match="more than"):
        published(WebPlace(web.url))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 << 20
