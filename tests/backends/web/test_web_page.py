"""The folder that `unpack --web` writes, and the page in a real browser."""

from __future__ import annotations

import functools
import http.server
import json
import threading
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from report import browser as chromium

from gsvexport.artifact.container import read_manifest
from gsvexport.backends.web import site as web
from gsvexport.cli.unpack import unpack
from gsvexport.errors import EnvironmentProblem, GsvError, InputError
from gsvexport.model import read_model
from gsvexport.phrases.pack import Pack, Phrase
from gsvexport.text.symbols import phone_ids

NAMES = (["HH", "AH0", "L", "OW1", "."], ["W", "AH1", "N", "T", "UW1", "."])
IDS = list(phone_ids(NAMES[0], "v2"))
MOST = 30
SOUND = "page.pieces.flatMap(one => [...one])"
at = "document.getElementById('{}')".format
real = pytest.mark.skipif(chromium.browser() is None, reason="no Chromium or Chrome on this machine")


def run(*arguments):
    """`gsvexport unpack`, to its end; what it raises is raised."""
    done = CliRunner().invoke(unpack, list(map(str, arguments)), standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.output


@pytest.fixture(scope="module")
def folder(packed, runtime, tmp_path_factory):
    """A page with two phrases."""
    base = tmp_path_factory.mktemp("page")
    phrases = {name: Phrase(name, pieces=(tuple(phones),)) for name, phones in zip(("a", "b"), NAMES, strict=True)}
    (base / "pack.gsvp").write_bytes(Pack("tiny", "en", "v2", 32000, phrases).to_bytes())
    run(packed, "--web", "-o", base / "site", "--ort", runtime, "--phrases", base / "pack.gsvp")
    return base / "site"


class Server(http.server.ThreadingHTTPServer):
    """Any server of static files: `wrong` maps a path to what becomes of its bytes."""

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
        self.wrong = {}
        self.url = f"http://127.0.0.1:{self.server_address[1]}/"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(http.server.SimpleHTTPRequestHandler):
    extensions_map = {**http.server.SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript"}  # noqa: RUF012

    def log_message(self, *_):
        pass

    def do_GET(self):
        path = self.path.split("?")[0]
        if path not in self.server.wrong:
            return super().do_GET()
        with open(self.translate_path(path), "rb") as stream:
            data = stream.read()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(self.server.wrong[path](data))
        self.close_connection = True
        return None


@pytest.fixture
def server(folder):
    one = Server(folder)
    yield one
    one.shutdown()
    one.server_close()


def ready(page, url, before=""):
    if before:
        page._call("Page.addScriptToEvaluateOnNewDocument", source=before)
    page.open(url, 1200, 900)
    page.wait(f"globalThis.page?.ready || {at('problem')}?.hidden === false")
    page.value(f"page.manner = {{max_tokens: {MOST}}}")  # a tiny voice never ends


def speaks(page, phrase="a", seed="1"):
    page.value(f"{at('phrase')}.value = '{phrase}'; {at('seed')}.value = '{seed}'; {at('speak')}.click()")
    page.wait(f"!{at('speak')}.disabled", 120)
    return page.value(f"{at('problem')}.textContent")


def test_the_folder_has_all_that_a_page_needs_and_says_what(folder):
    told = json.loads((folder / "site.json").read_text())
    assert set(told["page"]) | {"index.html", "sw.js"} == {path.name for path in web.PAGE.iterdir()}
    assert {path.name for path in (folder / "ort").iterdir()} == set(told["ort"])
    manifest = json.loads((folder / "voice/manifest.json").read_text())
    assert all((folder / "voice" / name).stat().st_size == one["size"] for name, one in manifest["members"].items())
    assert list(told["phrases"]) == ["a", "b"]
    assert "Cross-Origin-Embedder-Policy: require-corp" in (folder / "README.txt").read_text()


def test_what_no_page_can_speak_is_refused(folder, packed, runtime, tmp_path):
    model, manifest = read_model(folder / "voice"), read_manifest(packed)
    with pytest.raises(InputError, match="v3 voice"):
        web.refuse(replace(model, version="v3"), manifest)
    with pytest.raises(InputError, match="no baked reference"):
        web.refuse(replace(model, baked={}), manifest)
    entries = {name: replace(entry, backend="onnxruntime") for name, entry in manifest.stages.items()}
    with pytest.raises(InputError, match="run on onnxruntime"):
        web.refuse(model, replace(manifest, stages=entries))
    with pytest.raises(InputError, match="are for --web"):
        run(packed, "-o", tmp_path / "out", "--ort", runtime)
    with pytest.raises(EnvironmentProblem, match="is not onnxruntime-web"):
        run(packed, "--web", "-o", tmp_path / "out", "--ort", tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/file").touch()
    with pytest.raises(InputError, match="other things in it"):
        run(packed, "--web", "-o", tmp_path / "other", "--force")
    with pytest.raises(GsvError, match="exists already"):
        run(packed, "--web", "-o", folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other"]


@real
def test_a_browser_says_what_python_says_also_without_a_network(folder, native, tmp_path):
    server = Server(folder)
    wanted = native.tokens(IDS, sampling=replace(native.sampling, seed=1), max_tokens=MOST)
    with chromium.opened() as page:
        ready(page, server.url)
        assert page.value("crossOriginIsolated")  # by the service worker: the server sends no headers
        page.value(f"{at('window')}.value = '0'")
        assert speaks(page) == ""
        assert page.value("page.said.codes") == list(wanted)
        sound = native.synthesize(phones=IDS, seed=1, max_tokens=MOST).samples
        found = np.array(page.value(SOUND), np.float32)
        assert found.shape == sound.shape
        assert np.abs(found - sound).max() < 1e-3
        file = bytes(
            page.value(f"fetch({at('save')}.href).then(a => a.arrayBuffer()).then(d => [...new Uint8Array(d)])")
        )
        assert np.array_equal(np.frombuffer(file[44:], "<i2"), np.rint(np.clip(found, -1, 1) * np.float32(32767)))
        page.value(f"{at('compare')}.click()")
        page.wait(f"!{at('speak')}.disabled", 120)
        assert page.value("page.checked.length") == 8
        assert page.value("page.checked.every(row => row.passed)")
        # English text, with an abbreviation, money, and a word that no dictionary has.
        text = "Dr. Fox paid $3.50. Was it a smartwatch?"
        page.value(f"{at('text')}.value = '{text}'; {at('text')}.oninput()")
        assert speaks(page, phrase="") == ""
        sound = native.synthesize(text=text, seed=1, max_tokens=MOST).samples
        found = np.array(page.value(SOUND), np.float32)
        assert found.shape == sound.shape
        assert np.abs(found - sound).max() < 1e-3
        page.value("page.kept.then(() => 0)")
        page.value(f"{at('text')}.value = 'Привет'")
        assert "(U+041F) at 1" in speaks(page, phrase="")
        page.value(f"{at('phrase')}.onchange()")  # a phrase takes the place of what was typed
        # A sentence that is stopped stops, although its worker computes all the time.
        page.value("page.manner = {max_tokens: 1500}")
        page.value(f"{at('window')}.value = '0.4'; {at('phrase')}.value = 'b'; {at('speak')}.click()")
        page.value("new Promise(done => setTimeout(done, 100))")
        page.value(f"{at('stop')}.click()")
        page.wait(f"!{at('speak')}.disabled", 60)
        assert page.value(f"{at('status')}.textContent") == "stopped"
        server.shutdown()
        server.server_close()
        ready(page, server.url)
        page.value(f"{at('window')}.value = '0'")
        assert speaks(page) == ""
        assert page.value("page.said.codes") == list(wanted)
        page.value(f"{at('text')}.value = 'A wasabi, without a network.'")
        assert speaks(page, phrase="") == ""
        page.picture(tmp_path / "page.png")
        assert page.value("document.documentElement.scrollWidth <= innerWidth")


@real
def test_a_cut_download_and_another_file_are_told_and_not_kept(server):
    name = "/voice/weights.safetensors"
    with chromium.opened() as page:
        ready(page, server.url)
        server.wrong[name] = lambda data: data[: len(data) // 2]
        assert "weights.safetensors: the download was cut" in speaks(page)
        server.wrong[name] = lambda data: data[:-1] + bytes([data[-1] ^ 1])
        assert "weights.safetensors is damaged: its SHA-256" in speaks(page)
        server.wrong.clear()
        assert speaks(page) == ""
        server.wrong["/english/dictionary.bin"] = lambda data: data[:-1] + bytes([data[-1] ^ 1])
        page.value(f"{at('text')}.value = 'A fox.'")
        assert "english/dictionary.bin is damaged: its SHA-256" in speaks(page)
        server.wrong.clear()
        assert speaks(page) == ""


@real
def test_a_browser_that_lacks_something_is_told_what(server):
    bare = "Object.defineProperty(Navigator.prototype, 'gpu', {get: () => undefined});"
    bare += "Object.defineProperty(Navigator.prototype, 'serviceWorker', {get: () => undefined});"
    with chromium.opened() as page:
        ready(page, server.url, bare)
        assert "neither threads (no COOP and COEP headers, see README.txt) nor WebGPU" in page.value(
            f"{at('threads')}.textContent"
        )
        assert page.value(f"{at('threads')}.offsetHeight > 0")
        ready(page, server.url, "WebAssembly.validate = () => false")
        assert "no WebAssembly SIMD" in page.value(f"{at('problem')}.textContent")
        assert page.value(f"{at('speak')}.disabled")
