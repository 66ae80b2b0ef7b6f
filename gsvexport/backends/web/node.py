"""A node process that runs graphs in onnxruntime-web: one for the graphs of a folder, asked and answered on pipes."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from gsvexport.backends.web import BACKEND, runtime
from gsvexport.errors import BackendError, EnvironmentProblem
from gsvexport.system.patience import seconds_of

Array = NDArray[Any]
VARIABLE = "GSVEXPORT_WEB_SECONDS"
SECONDS = 600.0  # that one graph may take to load, or to run once
_SCRIPT = Path(__file__).parent / "stages.mjs"
_TYPES = {"float32": np.float32, "int64": np.int64, "int32": np.int32}
_LARGEST = 1 << 30  # bytes of an answer's head, or of an array
_KEPT = 8  # lines of node's words that an error shows


class Node:
    """The process. It ends with the last session that uses it, and with Python."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._seconds, self._turn = seconds_of(VARIABLE, SECONDS), threading.Lock()
        program = shutil.which("node")
        if problem := runtime.missing():
            raise EnvironmentProblem(f"onnxruntime-web cannot run here: {problem}", fix=BACKEND.needs["session"].fix)
        assert program is not None
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process
        line = [program, "--no-warnings", str(_SCRIPT), str(runtime.files())]
        self._process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors)
        self._end = weakref.finalize(self, _ended, self._process, self._errors)

    def ask(self, what: Mapping[str, Any], arrays: Sequence[Array] = ()) -> tuple[dict[str, Any], list[Array]]:
        """One question and its answer: what it says, and its arrays.

        Raises:
            BackendError: it failed, ended, or took longer than the limit.
        """
        with self._turn:
            late = threading.Event()

            def stop() -> None:
                late.set()
                self._process.kill()

            timer = threading.Timer(self._seconds, stop)
            timer.daemon = True
            timer.start()
            try:
                return self._answer(what, arrays)
            except (OSError, ValueError) as error:
                self._process.kill()
                raise self._gone(what, late.is_set()) from error
            finally:
                timer.cancel()

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def _answer(self, what: Mapping[str, Any], arrays: Sequence[Array]) -> tuple[dict[str, Any], list[Array]]:
        asks, answers = self._process.stdin, self._process.stdout
        assert asks is not None
        assert answers is not None
        text = json.dumps(what).encode()
        asks.write(len(text).to_bytes(4, "little") + text)
        for array in arrays:
            asks.write(array.tobytes())
        asks.flush()
        head = json.loads(_read(answers, int.from_bytes(_read(answers, 4), "little")))
        if "error" in head:
            raise BackendError(f"{what['file']}: onnxruntime-web cannot {what['do']} it", problems=[head["error"]])
        found = []
        for one in head.get("outputs", ()):
            kind = np.dtype(_TYPES[one["type"]])
            size = int(np.prod(one["shape"], dtype=np.int64)) * kind.itemsize
            found.append(np.frombuffer(_read(answers, size), kind).reshape(one["shape"]))
        return head, found

    def _gone(self, what: Mapping[str, Any], late: bool) -> BackendError:
        code = self._process.wait()
        self._errors.seek(0)
        words = self._errors.read().decode(errors="replace").strip().splitlines()[-_KEPT:]
        if late:
            fix = f"{VARIABLE}=SECONDS sets another limit"
            return BackendError(f"{what['file']}: node did not {what['do']} it in {self._seconds:.0f} s", fix=fix)
        return BackendError(f"{what['file']}: node ended ({code}) when it was to {what['do']} it", problems=words)


_NODES: weakref.WeakValueDictionary[tuple[int, Path], Node] = weakref.WeakValueDictionary()
_OPENING = threading.Lock()


def node_of(folder: Path) -> Node:
    """The process of a folder; a new one where there is none."""
    key = os.getpid(), folder.resolve()
    with _OPENING:
        found = _NODES.get(key)
        if found is None or not found.alive:
            found = _NODES[key] = Node(folder)
        return found


def _read(stream: IO[bytes], size: int) -> bytes:
    if size > _LARGEST:
        raise ValueError(f"{size} bytes")
    found = stream.read(size)
    if len(found) != size:
        raise OSError("node has gone")
    return found


def _ended(process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
    for stream in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            assert stream is not None
            stream.close()
    process.kill()
    process.wait()
    errors.close()
