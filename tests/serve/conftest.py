"""Tiny voices as artifacts, signed and with a report, made once in a run; and a server of them in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import threading
import time

import httpx
import pytest
from building import runnable
from shelved import PRIVATE, make

from gsvexport.artifact.keys import TrustedKey, trust
from gsvexport.artifact.signature import sign
from gsvexport.serve.gather import Gatherer
from gsvexport.serve.logs import Log
from gsvexport.serve.run import running
from gsvexport.serve.settings import Settings


@pytest.fixture(scope="session")
def parts(tmp_path_factory):
    """The files of a tiny voice as ONNX Runtime runs them, and its model."""
    files, source = runnable(tmp_path_factory.mktemp("serve"))
    return files, source.model


@pytest.fixture(scope="session")
def shelf(parts, tmp_path_factory):
    """A folder of three signed voices, with cache and trusted keys of its own: (folder, environment)."""
    folder = tmp_path_factory.mktemp("shelf")
    home = {"GSVEXPORT_CACHE": str(folder / "cache"), "GSVEXPORT_CONFIG": str(folder / "config")}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in home.items():
            patch.setenv(name, value)
        trust(TrustedKey("maker", sign(PRIVATE, b"").key))
    (folder / "voices").mkdir()
    for name in ("alice", "bob", "carol"):
        make(parts, folder / "voices", name)
    return folder / "voices", home


@pytest.fixture
def home(shelf, monkeypatch):
    for name, value in shelf[1].items():
        monkeypatch.setenv(name, value)


class Running:
    """A server in a thread of its own. `log` is what it wrote."""

    def __init__(self, settings, **pool):
        self.settings, self.log, self._pool = settings, io.StringIO(), pool
        self._up, self._error = threading.Event(), None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._up.wait(60)
        if self._error:
            raise self._error
        headers = {"Authorization": f"Bearer {settings.key}"} if settings.key else {}
        self.client = httpx.Client(base_url=self.url, headers=headers, timeout=60)

    def _run(self):
        async def go():
            self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
            gatherer = Gatherer(self.settings)
            async with running(self.settings, gatherer, Log(self.log), **self._pool) as (service, host, port):
                self.service, self.host, self.port, self.url = service, host, port, f"http://{host}:{port}"
                self._up.set()
                await self._end.wait()

        try:
            asyncio.run(go())
        except BaseException as error:
            self._error = error
            self._up.set()

    def stop(self):
        """Begin to stop."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._end.set)

    def close(self):
        self.stop()
        self.client.close()
        self._thread.join(60)
        assert not self._thread.is_alive()
        assert self._error is None, self._error

    def events(self, name):
        lines = [json.loads(line) for line in self.log.getvalue().splitlines()]
        return [one for one in lines if one["event"] == name]

    def wait_for(self, count, **values):
        """Until so many requests with these values are in the log, which is written after their answers."""
        until = time.monotonic() + 30
        while True:
            found = [one for one in self.events("request") if values.items() <= one.items()]
            if len(found) >= count:
                assert len(found) == count
                return
            assert time.monotonic() < until, self.log.getvalue()
            time.sleep(0.02)

    def say(self, text="Good morning.", **more):
        """One request for speech."""
        value = {"model": "gsvexport", "voice": "alice", "input": text, "response_format": "wav", **more}
        return self.client.post("/v1/audio/speech", json=value)


@pytest.fixture(scope="module")
def start(shelf):
    """Start a server; all that a module started end with it."""
    with contextlib.ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        for name, value in shelf[1].items():
            patch.setenv(name, value)

        def begin(*, pool=None, **settings):
            one = Running(Settings(**{"voices": (str(shelf[0]),), "port": 0, "threads": 1, **settings}), **(pool or {}))
            stack.callback(one.close)
            return one

        yield begin


@pytest.fixture(scope="module")
def server(start):
    return start(aliases={"alloy": "alice"})
