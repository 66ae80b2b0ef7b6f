"""Small artifacts that nothing runs, repositories to put them in, and a web server, for tests of the registry."""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from gsvexport.artifact import container
from gsvexport.artifact.manifest import Manifest, StageEntry
from gsvexport.artifact.signature import add_signature, sign
from gsvexport.verify.report import Check, Report

PRIVATE = bytes(range(32))
SHARED = b"shared by all voices " * 5000
DEVICE = {"arch": "x86-64", "os": "linux", "features": ["avx2"]}
REPORT = Report(
    (
        Check(1, "step", "snr", "source", 90.0, 60.0, "min", 3, "pass"),
        Check(2, "step", "pesq", "source", None, 4.0, "min", 0, "not_run", reason="no pesq"),
    )
).to_json()


def make_artifact(folder, name="alice", target="x86-64", *, own=b"own", device=DEVICE, signed=True, report=REPORT):
    """A .gsv of a few members: one that all have, and one of its own."""
    files = folder / f"{name}-{target}-files"
    files.mkdir(parents=True)
    (files / "model.json").write_bytes(b"{}\n")
    (files / "step.onnx").write_bytes(b"graph")
    (files / "weights.safetensors").write_bytes(SHARED)
    (files / "own.bin").write_bytes(own * 1000)
    if report is not None:
        (files / "report.json").write_text(json.dumps(report))
    stages = {"step": StageEntry("step.onnx", "onnxruntime", "fp32", ("as it is",))}
    empty = Manifest(name, "v2", {"name": target, "device": device}, "s" * 64, None, {"onnx": "1"}, stages, {})
    path = folder / f"{name}-{target}.gsv"
    container.write(container.with_members(empty, files), files, path, force=True)
    if signed:
        add_signature(path, lambda manifest: sign(PRIVATE, manifest))
    return path


def renamed(path, out, **changes):
    """The artifact with other values in its manifest, unsigned."""
    manifest = replace(container.read_manifest(path), **changes)
    with open(path, "rb") as stream:
        places = {one.name: one.offset for one in container.payloads(path)}

        def payload(name):
            stream.seek(places[name])
            return stream

        container.assemble(manifest, payload, out)
    return out


def files(root: Path) -> dict[str, bytes]:
    """Every file of a repository and its bytes."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


class Web:
    """A server of a folder's files that knows ranges, counts what it sends, and fails as it is told to.

    `cut` closes a connection after that many bytes of a longer blob, as often as `cuts` says; without `ranges` it
    ignores them; `status` maps a path to the code, or the place of a redirect, that it answers with.
    """

    def __init__(self, root: Path, trust: ssl.SSLContext | None = None) -> None:
        self.root, self.sent, self.requests = root, 0, []
        self.cut, self.cuts, self.ranges, self.status = 0, 0, True, {}
        self.lock = threading.Lock()
        web = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                web.answer(self)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        if trust is not None:
            self.server.socket = trust.wrap_socket(self.server.socket, server_side=True)
        self.url = f"http{'s' if trust else ''}://127.0.0.1:{self.server.server_address[1]}"

    def answer(self, handler):
        name = handler.path.lstrip("/").replace("%2B", "+")
        wanted = handler.headers.get("Range")
        with self.lock:
            self.requests.append((name, wanted))
            status = self.status.get(name)
        if isinstance(status, str):
            handler.send_response(302)
            handler.send_header("Location", status)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        path = self.root / name
        if status or not path.is_file():
            handler.send_response(status or 404)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        data, start = path.read_bytes(), 0
        if wanted and self.ranges:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            handler.send_response(200)
        handler.send_header("Content-Length", str(len(data) - start))
        handler.end_headers()
        body = data[start:]
        with self.lock:
            if name.startswith("blobs/") and self.cuts > 0 and self.cut < len(body):
                body = body[: self.cut]
                self.cuts -= 1
            self.sent += len(body)
        with contextlib.suppress(ConnectionError):
            handler.wfile.write(body)
        if len(body) < len(data) - start:
            handler.wfile.flush()
            handler.close_connection = True


@contextlib.contextmanager
def served(root: Path, trust: ssl.SSLContext | None = None):
    """A running `Web`."""
    web = Web(root, trust)
    thread = threading.Thread(target=web.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield web
    finally:
        web.server.shutdown()
        web.server.server_close()
