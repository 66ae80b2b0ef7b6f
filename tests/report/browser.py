"""A real browser, driven over its own debugging pipe: nothing to install but Chromium or Chrome."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
KEYS = {"Enter": ("Enter", 13, "\r"), " ": ("Space", 32, " "), "End": ("End", 35, ""), "Home": ("Home", 36, "")}


def browser():
    """The path of a browser, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """One page in a browser of its own; what it asks of the network is in `asked`, what went wrong in `errors`."""

    def __init__(self, write, read):
        self._write, self._read, self._numbers, self._rest = write, read, itertools.count(1), b""
        self.asked, self.errors = [], []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = None
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self._call(f"{domain}.enable")

    def open(self, url, width, height=800):
        self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self._call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && document.querySelector('h1') !== null")

    def value(self, code):
        """What an expression gives."""
        found = self._call("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, code, seconds=60.0):
        """Until an expression is true."""
        end = time.monotonic() + seconds
        while not self.value(code):
            assert time.monotonic() < end, f"never true: {code}"
            time.sleep(0.02)

    def press(self, key):
        """One key, down and up."""
        code, number, text = KEYS[key] if key in KEYS else (f"Key{key.upper()}", ord(key.upper()), key)
        common = {"key": key, "code": code, "windowsVirtualKeyCode": number}
        self._call("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self._call("Input.dispatchKeyEvent", type="keyUp", **common)

    def picture(self, path):
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", captureBeyondViewport=True)["data"]))

    def _call(self, method, **params):
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if getattr(self, "_session", None):
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, answer["error"]
                return answer["result"]
            self._event(answer)

    def _event(self, event):
        about = event.get("params", {})
        if event.get("method") == "Network.requestWillBeSent":
            self.asked.append(about["request"]["url"][:200])
        elif event.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
            self.errors.append(json.dumps(about)[:500])

    def _next(self):
        while b"\0" not in self._rest:
            data = os.read(self._read, 1 << 16)
            assert data, "the browser has gone"
            self._rest += data
        line, self._rest = self._rest.split(b"\0", 1)
        return json.loads(line)


@contextlib.contextmanager
def opened(*graphics):
    """A browser with one page, without a graphics card or with the flags that give it one."""
    to_read, to_write = os.pipe(), os.pipe()  # we write into the first, it writes into the second
    profile = tempfile.mkdtemp()

    def place():  # the pipe is at 3 and 4 in the browser
        os.dup2(to_read[0], 100)
        os.dup2(to_write[1], 101)
        os.dup2(100, 3)
        os.dup2(101, 4)

    line = [
        *(browser(), "--headless=new", "--no-sandbox", "--mute-audio", "--no-first-run"),
        *(graphics or ("--disable-gpu",)),
        *("--autoplay-policy=no-user-gesture-required", "--remote-debugging-pipe", f"--user-data-dir={profile}"),
    ]
    with open(os.devnull, "wb") as nothing:
        run = subprocess.Popen(line, preexec_fn=place, close_fds=False, stdout=nothing, stderr=nothing)
    os.close(to_read[0])
    os.close(to_write[1])
    try:
        yield Page(to_read[1], to_write[0])
    finally:
        run.terminate()
        run.wait(20)
        os.close(to_read[1])
        os.close(to_write[0])
        shutil.rmtree(profile, ignore_errors=True)
