"""Callers who mean harm, or do not care: nothing crashes, waits for them, or is given to them."""

import contextlib
import http.client
import json
import os
import signal
import socket
import sys
import threading
import time

import pytest
from building import command
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from gsvexport.serve.guard import _this_machine

KEY = "a key that nobody guesses"


@pytest.fixture(scope="module")
def guarded(start):
    return start(key=KEY, idle=0.3, longest_text=100, largest_body=2000, deadline=20)


def raw(server, data, *, timeout=10):
    """What a connection answers to these bytes until it is closed."""
    with socket.create_connection((server.host, server.port), timeout) as one:
        one.sendall(data)
        found = b""
        while piece := one.recv(65536):
            found += piece
        return found


def post(*headers, path="/v1/audio/speech", key=KEY):
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {key}", *headers, "", ""]
    return "\r\n".join(lines).encode()


def test_a_body_that_is_too_large_is_refused_before_it_is_sent(guarded):
    began = time.monotonic()
    found = raw(guarded, post("Content-Type: application/json", "Content-Length: 100000000"))
    assert found.startswith(b"HTTP/1.1 413")
    assert b'"code": "too_large"' in found
    found = raw(
        guarded, post("Content-Type: application/json", "Transfer-Encoding: chunked") + b"fff0\r\n" + b"x" * 4000
    )
    assert found.startswith(b"HTTP/1.1 413")
    assert time.monotonic() - began < 5


def upgrade(*headers):
    lines = ["GET /v1/audio/live HTTP/1.1", "Host: localhost", "Upgrade: websocket", "Connection: Upgrade", *headers]
    lines += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13", "", ""]
    return "\r\n".join(lines).encode()


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "invalid_json"),
        (b"\xff", 400, "invalid_json"),
        (b"[]", 400, "invalid_json"),
        (b"[" * 1900, 400, "invalid_json"),
        (b'{"model": "gsvexport", "model": "alice"}', 400, "invalid_json"),
        ({"model": None}, 404, "model_not_found"),
        ({"model": "../../etc"}, 404, "model_not_found"),
        ({"voice": "../alice"}, 404, "voice_not_found"),
        ({"voice": "alice.gsv"}, 404, "voice_not_found"),
        ({"voice": "/etc/passwd\u0000"}, 404, "voice_not_found"),
        ({"voice": ["alice"]}, 404, "voice_not_found"),
        ({"input": ""}, 400, "invalid"),
        ({"input": 7}, 400, "invalid"),
        ({"input": "a" * 101}, 400, "too_long"),
        ({"input": "\ud800"}, 400, "invalid_json"),
        ({"input": "\u0e01"}, 400, "cannot_be_spoken"),
        ({"speed": 1e9}, 400, "invalid"),
        ({"speed": True}, 400, "invalid"),
        ({"seed": -1}, 400, "invalid"),
        ({"language": "../en"}, 400, "invalid"),
        ({"response_format": "aac"}, 400, "unsupported"),
        ({"stream": True, "response_format": "flac"}, 400, "unsupported"),
        ({"stream_format": "sse"}, 400, "unsupported"),
        ({"path": "/etc/passwd"}, 400, "unknown_parameter"),
    ],
)
def test_what_cannot_be_is_refused_and_named(guarded, body, status, code):
    if isinstance(body, dict):
        value = {"model": "alice", "voice": "alice", "input": "Hello.", "response_format": "wav", **body}
        body = json.dumps(value).encode()
    answer = guarded.client.post("/v1/audio/speech", content=body, headers={"Content-Type": "application/json"})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code), error
    assert set(error) == {"message", "type", "param", "code"}
    assert str(guarded.settings.voices[0]) not in answer.text  # no path of the server
    assert "Hello" not in guarded.log.getvalue()


def test_only_the_right_key_opens(guarded):
    for header in (
        {},
        {"Authorization": "Bearer "},
        {"Authorization": f"Bearer {KEY}x"},
        {"Authorization": f"Basic {KEY}"},
    ):
        with contextlib.closing(http.client.HTTPConnection(guarded.host, guarded.port, timeout=10)) as one:
            for path in ("/voices", "/v1/models", "/metrics", "/v1/audio/speech", "/nothing"):
                one.request("GET", path, headers=header)
                answer = one.getresponse()
                assert (answer.status, json.loads(answer.read())["error"]["code"]) == (401, "invalid_api_key")
            one.request("GET", "/healthz")
            answer = one.getresponse()
            assert (answer.status, answer.read()) == (200, b'{"ok":true}')
    found = raw(guarded, upgrade())
    assert found.startswith(b"HTTP/1.1 401")
    assert KEY not in guarded.log.getvalue()


def test_what_is_not_there_is_said_in_the_same_form(guarded):
    assert guarded.client.get("/nothing").json()["error"]["code"] == "not_found"
    assert guarded.client.get("/v1/audio/speech").status_code == 405
    answer = guarded.client.post("/v1/audio/speech", content=b"{}", headers={"Content-Type": "text/plain"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "media_type")


def test_new_connections_beyond_the_limit_are_refused_and_the_open_ones_served(start):
    server = start(connections=2)

    def ask(one, path="/readyz"):
        one.request("GET", path)
        answer = one.getresponse()
        return answer.status, json.loads(answer.read())

    with contextlib.ExitStack() as stack:
        first, second, third, fourth = (
            stack.enter_context(contextlib.closing(http.client.HTTPConnection(server.host, server.port, timeout=10)))
            for _ in range(4)
        )
        assert ask(first)[0] == ask(second)[0] == 200
        status, value = ask(third)
        assert (status, value["error"]["code"]) == (503, "too_many_connections")
        assert raw(server, upgrade()).startswith(b"HTTP/1.1 503")
        assert ask(first)[0] == ask(second)[0] == 200
        second.close()
        until = time.monotonic() + 10
        while ask(fourth)[0] != 200:
            assert time.monotonic() < until
        assert ask(first)[0] == 200


def test_silence_slow_headers_and_slow_bodies_end(guarded):
    began = time.monotonic()
    assert raw(guarded, b"") == b""
    assert raw(guarded, b"GET /healthz HTTP/1.1\r\nHost:") == b""
    assert raw(guarded, post("Content-Type: application/json", "Content-Length: 100") + b"{").startswith(
        b"HTTP/1.1 408"
    )
    assert time.monotonic() - began < 8
    assert raw(guarded, b"GET / HTTP/1.1\r\n" + b"X: " + b"x" * 40_000).startswith(b"HTTP/1.1 400")


def test_a_request_that_comes_byte_by_byte_ends(guarded):
    began = time.monotonic()
    with socket.create_connection((guarded.host, guarded.port), 10) as one, contextlib.suppress(OSError):
        while time.monotonic() - began < 8:
            one.sendall(b"G" if time.monotonic() - began < 0.1 else b"x")
            time.sleep(0.05)
    assert time.monotonic() - began < 6


def test_many_headers_and_a_body_that_is_really_sent_are_refused(guarded):
    many = b"".join(b"X-%d: y\r\n" % number for number in range(4000))
    assert raw(guarded, b"GET /healthz HTTP/1.1\r\n" + many).startswith(b"HTTP/1.1 400")
    before = guarded.service.desk.growth
    sent = 0
    with socket.create_connection((guarded.host, guarded.port), 10) as one, contextlib.suppress(OSError):
        one.sendall(post("Content-Type: application/json", "Content-Length: 100000000"))
        while sent < 100_000_000:
            sent += one.send(b"x" * 65536)
    assert sent < 50_000_000  # the connection ended long before
    assert guarded.service.desk.growth - before < 50_000_000
    assert guarded.client.get("/readyz").status_code == 200


@pytest.mark.parametrize("name", ["..%2Falice", "%2e%2e", "..", "alice%00", "alice.gsv", "%2Fetc%2Fpasswd", "A" * 4000])
def test_no_path_leads_out_of_the_catalogue(guarded, name):
    found = raw(guarded, post(path=f"/voices/{name}/report").replace(b"POST", b"GET") + b"", timeout=10)
    status = int(found.split()[1])
    assert status in (400, 404)
    assert b"root:" not in found
    assert str(guarded.settings.voices[0]).encode() not in found


def test_a_message_that_is_too_large_ends_the_conversation(guarded):
    url = f"ws://{guarded.host}:{guarded.port}/v1/audio/live"
    with connect(url, additional_headers={"Authorization": f"Bearer {KEY}"}, max_size=None) as talk:
        talk.send("x" * 100_000)
        with pytest.raises(ConnectionClosed) as ended:
            talk.recv(timeout=10)
        assert ended.value.rcvd.code == 1009


def test_a_slow_reader_holds_up_nobody_and_is_left(start):
    server = start(rows=2, idle=0.4)
    text = " ".join(["It is a long story."] * 15)
    value = {"model": "alice", "voice": "alice", "input": text, "stream": True, "response_format": "wav"}
    body = json.dumps(value).encode()
    slow = []
    for _ in range(2):
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.connect((server.host, server.port))
        one.sendall(post("Content-Type: application/json", f"Content-Length: {len(body)}") + body)
        slow.append(one)
    assert server.say("Hello.", voice="bob").status_code == 200
    assert server.say("Hello.").status_code == 200  # once the slow ones were left, or their sound was all made
    server.wait_for(2, status=499)
    for one in slow:
        one.close()


def test_a_conversation_that_is_not_listened_to_ends(start):
    server = start(rows=1, idle=0.4)
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    one.connect((server.host, server.port))
    url = f"ws://{server.host}:{server.port}/v1/audio/live"
    with connect(url, sock=one, max_queue=1, close_timeout=1) as talk:
        talk.send(json.dumps({"voice": "alice"}))
        talk.send(json.dumps({"text": "It is a long story. " * 15, "end": True}))
        until = time.monotonic() + 20
        while not server.events("request") and time.monotonic() < until:
            time.sleep(0.05)
        assert server.events("request")
        assert server.say("Hello.").status_code == 200


def test_without_a_key_no_web_page_reaches_the_server(server):
    assert server.client.get("/voices", headers={"Host": "evil.example"}).status_code == 403
    assert server.client.get("/voices", headers={"Host": f"localhost:{server.port}"}).status_code == 200
    found = raw(server, upgrade("Origin: http://evil.example"))
    assert found.startswith(b"HTTP/1.1 403")
    assert [_this_machine(one) for one in ("[::1]:80", "127.1.2.3", "", "localhost.evil", "10.0.0.1:80")] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_a_stop_finishes_what_was_begun_and_refuses_the_rest(start):
    server = start(rows=1)
    text = " ".join(["It is a long story."] * 3)
    found = []
    caller = threading.Thread(target=lambda: found.append(server.say(text)))
    caller.start()
    while not server.service.guard.active:
        time.sleep(0.005)
    server.stop()
    while not server.service.guard.stopping:
        time.sleep(0.005)
    refused = server.client.post("/v1/audio/speech", json={})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "stopping")
    assert server.client.get("/readyz").status_code == 503
    caller.join(60)
    assert found[0].status_code == 200


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM")
def test_the_command_ends_well_on_sigterm(shelf, tmp_path):
    import subprocess

    line, environment = command(tmp_path, "serve", shelf[0] / "alice.gsv", "--port", 0, "--pin", "alice")
    environment |= shelf[1]
    with subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:"), process.stderr.read()
        one = http.client.HTTPConnection(address.removeprefix("http://"), timeout=20)
        one.request("GET", "/readyz")
        assert one.getresponse().status == 200
        line = [sys.executable, "-m", "gsvexport.serve.bench", address, "--voice", "alice", "--callers", "2"]
        done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=True)
        told = json.loads(done.stdout)
        assert (told["requests"], told["lost"], told["statuses"]) == (2, 0, {"200": 2})
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(20) == 0
        events = [json.loads(found)["event"] for found in process.stderr.read().splitlines()]
        assert events == ["warm", "opened", "listening", "request", "request", "request", "stopping", "stopped"]
