"""The host's end of an emulated process: its sessions, its decoder, and a voice whose stages run there."""

from __future__ import annotations

import io
import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from numpy.typing import NDArray

from gsvexport.backends import Session
from gsvexport.emulate import wire
from gsvexport.emulate.install import Emulator
from gsvexport.errors import BackendError, EnvironmentProblem
from gsvexport.files import sha256_bytes
from gsvexport.runtime.loaded import SOURCE_BACKEND
from gsvexport.runtime.pipeline import LoadedVoice
from gsvexport.runtime.ports import checked
from gsvexport.runtime.sampling import Floats, Ints

# s for one answer. Emulation takes 50 to 100 times as long as the processor: a full-size float vocoder some 200 s for
# each second of sound.
TIMEOUT = 1800.0
_CHILD = "from gsvexport.emulate.child import main; main()"
_LAST_WORDS = 600  # characters of standard error in a message
_FAREWELL = 10.0  # s that a process has to end by itself


class Guest:
    """One emulated process, on one core, with one thread. Use it in a `with` block.

    `timeout` is the longest wait for one answer, in seconds; `timed_out` tells that it was too short. Threads may share
    a guest: their requests queue.
    """

    def __init__(self, emulator: Emulator, core: str, *, timeout: float = TIMEOUT) -> None:
        self.core, self.timed_out = core, False
        self._timeout, self._ended = timeout, ""
        self._lock = threading.Lock()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the guest
        command, environment = emulator.command(core, ["-c", _CHILD])
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,  # Ctrl-C ends it through `close`, not in the middle of a message
        )

    def __enter__(self) -> Guest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process. Closing twice is allowed."""
        self._ended = self._ended or "it was closed"
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.close()
            self._process.wait(_FAREWELL)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    @property
    def alive(self) -> bool:
        """Whether it can still be asked."""
        return not self._ended

    def machine(self) -> dict[str, str]:
        """What the guest finds itself to be: machine, Python and package versions."""
        return self.call("machine").values

    def open_session(self, backend: str, folder: Path, file: str) -> Session:
        """A graph loaded in the guest; see `gsvexport.backends.open_session`."""
        session = _Remote(self, [backend, str(folder.resolve()), file])
        self.call("open", session=session.key)
        return session

    def call(self, method: str, arrays: Mapping[str, NDArray[Any]] | None = None, **values: Any) -> wire.Message:
        """One request and its answer.

        Raises:
            BackendError: what was asked failed in the guest, or the guest died.
            EnvironmentProblem: no answer in time; the guest is ended then.
        """
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        with self._lock:
            if self._ended:
                raise BackendError(f"emulated {self.core}: {self._ended}")
            watch = threading.Timer(self._timeout, self._expire)
            watch.start()
            try:
                wire.write(process.stdin, {**values, "method": method}, arrays)
                answer = wire.read(process.stdout)
            except OSError:  # a broken pipe
                answer = None
            except BaseException:
                self._ended = "a request to it was interrupted"
                process.kill()
                raise
            finally:
                watch.cancel()
            if answer is None:
                raise self._death()
        if "error" in answer.values:
            raise BackendError(f"emulated {self.core}: {answer.values['error']}")
        return answer

    def _expire(self) -> None:
        self.timed_out = True
        self._process.kill()

    def _death(self) -> BackendError | EnvironmentProblem:
        code = self._process.wait()
        if self.timed_out:
            self._ended = f"no answer within {self._timeout:g} s"
            return EnvironmentProblem(
                f"emulated {self.core}: {self._ended}", fix="verify on the device itself, or on a faster machine"
            )
        self._errors.seek(0)
        words = self._errors.read().decode(errors="replace").strip()[-_LAST_WORDS:]
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        self._ended = f"its process ended with {how}"
        return BackendError(f"emulated {self.core}: {self._ended}", problems=[words] if words else [])


class _Remote:
    """A session of the guest; see `gsvexport.backends.Session`."""

    def __init__(self, guest: Guest, key: list[str]) -> None:
        self.guest, self.key = guest, key

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return self.guest.call("run", feeds, session=self.key).arrays

    def close(self) -> None:
        if self.guest.alive:
            self.guest.call("close", session=self.key)


class RemoteDecoder:
    """The decoder that the guest makes of two of its sessions; see `gsvexport.runtime.tokens.Decoder`.

    A guest speaks one sentence at a time: a prefill ends the sentence before it, whoever began that.
    """

    def __init__(self, prefill: Session, step: Session) -> None:
        assert isinstance(prefill, _Remote)
        assert isinstance(step, _Remote)
        self._guest, self._keys = prefill.guest, {"prefill": prefill.key, "step": step.key}
        self._sentence = id(self)

    def prefill(self, phones: Ints, bert: Floats, prompt: Ints) -> Floats:
        """Start a sentence; see `Decoder.prefill`."""
        feeds: dict[str, NDArray[Any]] = {"phones": phones, "bert": bert, "prompt": prompt}
        return self._guest.call("prefill", feeds, sentence=self._sentence, **self._keys).arrays["logits"]

    def step(self, token: int, position: int) -> Floats:
        """Append a code; see `Decoder.step`."""
        answer = self._guest.call("step", sentence=self._sentence, token=token, position=position)
        return answer.arrays["logits"]


class EmulatedVoice(LoadedVoice):
    """A voice whose graphs and cache live in a guest; everything else (sampling, checks) happens here.

    `run` asks the guest once for the same inputs and keeps the answer: verification compares one result with several
    references.
    """

    def __init__(self, folder: Path, guest: Guest, *, backends: Mapping[str, str] | None = None) -> None:
        super().__init__(folder, backends=backends, decoder=RemoteDecoder)
        self._guest = guest
        self._answers: dict[str, dict[str, NDArray[Any]]] = {}

    def run(self, stage: str, feeds: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """See `LoadedVoice.run`."""
        message = io.BytesIO()
        wire.write(message, {"stage": stage}, checked(self.stage(stage), feeds, self.model.dims))
        key = sha256_bytes(message.getvalue())
        if key not in self._answers:
            self._answers[key] = super().run(stage, feeds)
        return dict(self._answers[key])

    def _session(self, stage: str) -> Session:
        if stage not in self._sessions:
            self.stage(stage)
            backend = self._backends.get(stage, SOURCE_BACKEND)
            self._sessions[stage] = self._guest.open_session(backend, self.path, self.model.files[stage])
        return self._sessions[stage]
