"""Sentences that are written side by side, as they come: a thread takes one step for all of them.

A sentence enters and leaves between two steps, so a long one holds nobody up. Its codes are those that it gets alone:
it has its own randomness, and its row of the network knows nothing of the others.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Generator
from concurrent.futures import CancelledError, Future
from types import TracebackType
from typing import Any

import numpy as np

from gsvexport.errors import InputError
from gsvexport.runtime.draws import Draws
from gsvexport.runtime.loaded import LoadedStages
from gsvexport.runtime.ports import Array, outside
from gsvexport.runtime.sampling import Floats, Ints, Sampling
from gsvexport.runtime.side_by_side import ReadsAhead, Rows
from gsvexport.runtime.tokens import Writing
from gsvexport.stages import MAX_TOKENS

ROWS = 8  # sentences in one step; more would each wait longer for their next code than they take to be spoken
MOST_ROWS = 64
_CORES = os.cpu_count() or 1
WAITING = 64  # sentences that have been submitted and are not being written


class Written:
    """One sentence of a batch: its codes, each as soon as it is known."""

    def __init__(self) -> None:
        self._codes: list[int] = []
        self._changed = threading.Condition()
        self._error: BaseException | None = None
        self._done = False
        self.ended = False  # whether the sentence ended by itself, once it is done

    def __iter__(self) -> Generator[int, None, bool]:
        """Every code from the first one on; waits for those that are to come; returns `ended`. Raises as `result`.

        Whoever stops before the end cancels what is left.
        """
        place = 0
        try:
            while True:
                with self._changed:
                    while not self._done and len(self._codes) == place:
                        self._changed.wait()
                    found = self._codes[place:]
                    if not found:
                        self._raise()
                        return self.ended
                place += len(found)
                yield from found
        except GeneratorExit:
            self.cancel()
            raise

    def wait(self) -> None:
        """Until it is done, well or not."""
        with self._changed:
            self._changed.wait_for(lambda: self._done)

    def result(self, timeout: float | None = None) -> Ints:
        """All codes, int64 [n] without EOS.

        Raises:
            BackendError: the backend failed.
            CancelledError: the sentence was cancelled, or its batch closed.
            TimeoutError: they are not there after so many seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._done, timeout):
                raise TimeoutError(f"the sentence has {len(self._codes)} codes after {timeout} s, and goes on")
            self._raise()
            return np.array(self._codes, np.int64)

    def cancel(self) -> None:
        """Write no further: its row is free after the step that is running. Nothing happens to one that is done."""
        self.end(CancelledError())

    @property
    def done(self) -> bool:
        """Whether no code will come."""
        return self._done

    def add(self, code: int) -> None:
        """One more code."""
        with self._changed:
            self._codes.append(code)
            self._changed.notify_all()

    def end(self, error: BaseException | None = None) -> None:
        """No code will come; `error` says why."""
        with self._changed:
            if not self._done:
                self._done, self._error = True, error
                self._changed.notify_all()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error


class _Job:
    """A sentence with what is needed to write it; `read` is its prefill, where another thread does it."""

    def __init__(self, feeds: dict[str, Array], writing: Writing) -> None:
        self.feeds, self.writing, self.written = feeds, writing, Written()
        self.read: Future[Any] | None = None

    @property
    def arguments(self) -> tuple[Array, Array, Array]:
        """Of `Rows.enter`."""
        return self.feeds["phones"], self.feeds["bert"], self.feeds["prompt"]

    def take(self, logits: Floats) -> None:
        """Choose the next code. What is wrong with these logits is no other sentence's fault."""
        try:
            code = self.writing.take(logits)
        except Exception as error:
            self.written.end(error)
            return
        if code is not None:
            self.written.add(code)
        else:
            self.written.ended = True
        if self.writing.ended:
            self.written.end()


def _reading(rows: ReadsAhead, job: _Job) -> Future[Any]:
    """`rows.read` in a thread of its own."""
    found: Future[Any] = Future()

    def work() -> None:
        try:
            found.set_result(rows.read(*job.arguments))
        except BaseException as error:
            found.set_exception(error)

    threading.Thread(target=work, name="gsvexport-prefill").start()
    return found


class Batch:
    """Writes the codes of up to `rows` sentences of a voice in one step; others wait, at most `waiting` of them.

        with voice.batch() as batch:
            sentences = [batch.submit(phones, sampling=Sampling(seed=seed)) for seed, phones in enumerate(texts)]
            codes = [sentence.result() for sentence in sentences]

    Any thread may submit, and cancel. What is written runs in one thread, which is there only while there is something
    to write; where there is a core for it, another thread reads the next sentence meanwhile. `close` cancels what is
    not done. A backend whose step takes one sentence, or a processor whose kernels give a row other numbers beside
    others, writes one sentence after the other.
    """

    def __init__(self, voice: LoadedStages, rows: int = ROWS, waiting: int = WAITING) -> None:
        problems = outside("rows", rows, 1, MOST_ROWS, integer=True)
        problems += outside("waiting", waiting, 1, integer=True)
        if problems:
            raise InputError("no batch can be like this", problems=problems)
        self._voice, self._most, self._room = voice, rows, waiting
        self._changed = threading.Condition()
        self._waiting: deque[_Job] = deque()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._rows: Rows | None = None  # the thread's own

    def submit(
        self,
        phones: Any,
        bert: Any = None,
        prompt: Any = None,
        sampling: Sampling | None = None,
        max_tokens: int = MAX_TOKENS,
        *,
        draws: Draws | None = None,
    ) -> Written:
        """One more sentence; arguments as in `LoadedVoice.tokens`, whose codes these are. Waits while too many wait.

        `draws` are used in place of those of the seed in `sampling`.

        Raises:
            InputError: arguments out of range (all listed), no prompt given and none baked, or the batch is closed.
        """
        if problems := outside("max_tokens", max_tokens, 1, integer=True):
            raise InputError("no codes can be generated", problems=problems)
        chosen = sampling or self._voice.sampling
        feeds = self._voice.sentence(phones, bert, prompt)
        job = _Job(feeds, self._voice.writing(feeds, chosen, draws or chosen.draws(), max_tokens))
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._waiting) < self._room)
            if self._closed:
                raise InputError("the batch is closed", fix="open another one with voice.batch()")
            self._waiting.append(job)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="gsvexport-batch")
                self._thread.start()
        return job.written

    def close(self) -> None:
        """Cancel what is not done, and wait for the step that is running."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()

    def __enter__(self) -> Batch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _work(self) -> None:
        """Until nothing is left: let one sentence in, take a step for all, let those go that have ended."""
        active: list[_Job] = []
        try:
            while (job := self._next(active)) is not None or active:
                if job is not None and self._enters(job, ahead=bool(active) and _CORES > 1):
                    active.append(job)
                self._leave(active)
                if active:
                    self._step(active)
                    self._leave(active)
        except BaseException as error:  # nobody may wait for a thread that is gone
            with self._changed:
                for one in (*active, *self._waiting):
                    one.written.end(error)
                self._waiting.clear()
                self._rows = self._thread = None
                self._changed.notify_all()
            raise

    def _next(self, active: list[_Job]) -> _Job | None:
        """A sentence for which there is a row. Where there is nothing to do, the thread is over."""
        most = self._rows.most if self._rows else self._most
        with self._changed:
            if self._closed or not threading.main_thread().is_alive():
                for job in (*active, *self._waiting):
                    job.written.cancel()
                self._waiting.clear()
                self._leave(active)
            found = None
            while found is None and self._waiting and len(active) < most:
                found = self._waiting.popleft()
                if found.written.done:
                    found = None
                elif active and found.read is not None and not found.read.done():
                    self._waiting.appendleft(found)  # still being read: meanwhile, another step
                    found = None
                    break
            if found is None and not active:
                self._thread = None
            self._changed.notify_all()
        return found

    def _enters(self, job: _Job, *, ahead: bool) -> bool:
        """Let a sentence in; false where it cannot be, or, with `ahead`, not yet: another thread reads it first."""
        try:
            if self._rows is None:
                self._rows = self._voice.rows(self._most)
            rows = self._rows
            if job.read is not None and isinstance(rows, ReadsAhead):
                logits = rows.enter_read(job.read.result())
            elif ahead and isinstance(rows, ReadsAhead):
                job.read = _reading(rows, job)
                with self._changed:
                    self._waiting.appendleft(job)
                return False
            else:
                logits = rows.enter(*job.arguments)
        except Exception as error:
            job.written.end(error)
            return False
        job.take(logits)
        return True

    def _step(self, active: list[_Job]) -> None:
        assert self._rows is not None
        writings = [job.writing for job in active]
        try:
            found = self._rows.step([one.newest for one in writings], [one.position for one in writings])
        except Exception as error:
            for job in active:
                job.written.end(error)
            return
        for job, logits in zip(active, found, strict=True):
            job.take(logits)

    def _leave(self, active: list[_Job]) -> None:
        for row in reversed(range(len(active))):
            if active[row].written.done:
                assert self._rows is not None
                self._rows.leave(row)
                active[row] = active[-1]
                active.pop()
