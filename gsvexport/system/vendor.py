"""A vendor's program in a process of its own, which may hang, crash and print what it likes."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from gsvexport.errors import BackendError
from gsvexport.system.patience import seconds_of

Say = Callable[[str], None]
_EVERY = 10.0  # seconds between two words of progress
_KEPT = 12  # lines of its words that an error shows
_READ = 1 << 20  # bytes of its words that are looked at, the last ones
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Tool:
    """A vendor's program: the `name` that errors have, the environment's `variable` that says how many `seconds` it may
    take for one thing, what else to do where that is too little, and the lines of its words that tell nothing."""

    name: str
    variable: str
    seconds: float
    otherwise: str
    noise: str = r"(?!)"


class Running:
    """The process, and all that it starts. It ends with `end`, on Ctrl-C, and with Python.

    One that `asks` is told one line of JSON at a time on its standard input and answers each with one on its standard
    output; what it prints besides goes where its errors go.
    """

    def __init__(
        self,
        tool: Tool,
        command: Sequence[str],
        *,
        asks: bool = False,
        cwd: Path | None = None,
    ) -> None:
        self._tool, self._seconds = tool, seconds_of(tool.variable, tool.seconds)
        self._words: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process
        self._answers: queue.Queue[bytes] = queue.Queue()
        self._process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE if asks else subprocess.DEVNULL,
            stdout=subprocess.PIPE if asks else self._words,
            stderr=self._words,
            cwd=cwd,
            start_new_session=True,
        )
        self._end = weakref.finalize(self, _ended, self._process, self._words)
        if asks:
            threading.Thread(target=_listen, args=(self._process.stdout, self._answers), daemon=True).start()

    def wait(self, doing: str, say: Say) -> None:
        """Wait for its end; `say` is told of it.

        Raises:
            BackendError: it failed, crashed, or took too long.
        """
        with self._ending():
            for patience in self._patience(doing, say):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(patience)
                    break
            if self._process.returncode:
                raise self._gone(doing)
        self.end()

    def ask(self, question: Mapping[str, Any], doing: str, say: Say) -> dict[str, Any]:
        """Its answer to one question.

        Raises:
            BackendError: it has an `error`, ended, answered what is no answer, or took too long.
        """
        with self._ending():
            assert self._process.stdin is not None
            with contextlib.suppress(OSError):  # it has gone, and what it answers says so
                self._process.stdin.write(json.dumps(question).encode() + b"\n")
                self._process.stdin.flush()
            for patience in self._patience(doing, say):
                with contextlib.suppress(queue.Empty):
                    line = self._answers.get(timeout=patience)
                    break
            if not line:
                self._process.wait()
                raise self._gone(doing)
            try:
                answer = json.loads(line)
                found: dict[str, Any] = {**answer}
            except (ValueError, TypeError) as error:
                raise BackendError(f"{doing}: {self._tool.name} answered what is no answer") from error
            if "error" in found:
                raise BackendError(f"{doing}: {self._tool.name} failed", problems=[str(found["error"]), *self._said()])
        return found

    def end(self) -> None:
        """Kill it, where it still runs, with all that it started."""
        self._end()

    def _patience(self, doing: str, say: Say) -> Iterator[float]:
        """Seconds to wait once more, as long as it has any left."""
        started = time.monotonic()
        while True:
            past = time.monotonic() - started
            if past >= self._seconds:
                fix = f"allow more with {self._tool.variable}=SECONDS, or {self._tool.otherwise}"
                raise BackendError(f"{doing}: no end after {self._seconds:g} s, so it was stopped", fix=fix)
            say(f"{doing}, {past:.0f} s of at most {self._seconds:.0f}")
            yield min(_EVERY, max(0.01, self._seconds - past))

    def _gone(self, doing: str) -> BackendError:
        code = self._process.returncode
        what = f"died of signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"failed with code {code}"
        return BackendError(f"{doing}: {self._tool.name} {what}", problems=self._said())

    def _said(self) -> list[str]:
        """The last lines that it printed besides its answers, without those that tell nothing."""
        self._words.seek(max(0, self._words.seek(0, os.SEEK_END) - _READ))
        text = _COLOUR.sub("", self._words.read().decode(errors="replace")).replace("\r", "\n")
        lines = (line.strip() for line in text.splitlines())
        return [line for line in lines if line and not re.search(self._tool.noise, line)][-_KEPT:]

    @contextlib.contextmanager
    def _ending(self) -> Iterator[None]:
        """Nothing of it is left where the work inside does not come to its end."""
        try:
            yield
        except BaseException:
            self.end()
            raise


def _listen(stream: IO[bytes], answers: queue.Queue[bytes]) -> None:
    with contextlib.suppress(OSError, ValueError):  # closed at its end
        for line in stream:
            answers.put(line)
    answers.put(b"")


def _ended(process: subprocess.Popen[bytes], words: IO[bytes]) -> None:
    if process.poll() is None:
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdin, process.stdout, words):
        with contextlib.suppress(OSError):
            if stream is not None:
                stream.close()
