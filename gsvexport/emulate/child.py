"""The guest's end: runs inside the emulated machine and answers one request after another from its standard input.

It needs what a device has: the standard library, numpy, the backend's runtime, and gsvexport's device side.
"""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from gsvexport.backends import Session, open_session
from gsvexport.emulate import wire
from gsvexport.errors import BackendError, GsvError
from gsvexport.runtime.tokens import Decoder, new_decoder

Answer = tuple[dict[str, Any], dict[str, Any]]


class Server:
    """Sessions by what was opened, and the decoder of the sentence that is being spoken."""

    def __init__(self) -> None:
        self._sessions: dict[tuple[str, str, str], Session] = {}
        self._decoder: Decoder | None = None
        self._sentence = -1

    def answer(self, request: wire.Message) -> Answer:
        """Carry out one request.

        Raises:
            GsvError: what the request itself made fail; anything else is a defect and ends the process.
        """
        values = request.values
        method = getattr(self, f"_{values['method']}")
        result: Answer = method(request)
        return result

    def _machine(self, request: wire.Message) -> Answer:
        found = {"machine": platform.machine(), "python": platform.python_version()}
        for package in ("numpy", "onnxruntime", "ai-edge-litert"):
            try:
                found[package] = version(package)
            except PackageNotFoundError:
                found[package] = "absent"
        return found, {}

    def _open(self, request: wire.Message) -> Answer:
        self._session(request.values["session"])
        return {}, {}

    def _run(self, request: wire.Message) -> Answer:
        return {}, self._session(request.values["session"]).run(request.arrays)

    def _close(self, request: wire.Message) -> Answer:
        session = self._sessions.pop(tuple(request.values["session"]), None)
        if session is not None:
            session.close()
        return {}, {}

    def _prefill(self, request: wire.Message) -> Answer:
        prefill, step = (self._session(request.values[name]) for name in ("prefill", "step"))
        self._decoder, self._sentence = new_decoder(prefill, step), request.values["sentence"]
        return {}, {"logits": self._decoder.prefill(**request.arrays)}

    def _step(self, request: wire.Message) -> Answer:
        values = request.values
        if self._decoder is None or values["sentence"] != self._sentence:
            raise BackendError("stage 'step': another sentence was begun meanwhile", fix="one sentence at a time")
        return {}, {"logits": self._decoder.step(values["token"], values["position"])}

    def _session(self, key: list[str]) -> Session:
        backend, folder, file = key
        found = self._sessions.get((backend, folder, file))
        if found is None:
            found = open_session(backend, Path(folder), file, threads=1)
            self._sessions[backend, folder, file] = found
        return found


def main() -> None:
    """Answer until the input ends. What libraries print goes to standard error, away from the answers."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    server = Server()
    while (request := wire.read(sys.stdin.buffer)) is not None:
        try:
            wire.write(out, *server.answer(request))
        except GsvError as error:
            wire.write(out, {"error": str(error)})


if __name__ == "__main__":
    main()
