"""Builds an engine in a child process, again and again with other limits until it succeeds."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsvexport.backends.tensorrt import plans
from gsvexport.backends.tensorrt.device import Device
from gsvexport.backends.tensorrt.told import BUILD, CRASHED, GRAPH, KILLED, MACHINE, MEMORY
from gsvexport.errors import BackendError, EnvironmentProblem

_PACKAGES = Path(__file__).resolve().parent.parent.parent.parent  # where `import gsvexport` finds this gsvexport
_MORE_MEMORY = (
    "a killed builder and a workspace that is too small mean too little memory: close the desktop (sudo systemctl "
    "isolate multi-user), add swap (sudo fallocate -l 8G /swap, chmod 600, mkswap, swapon), and run gsvexport finalize "
    "again: finished engines are kept"
)
_CHILD = "from gsvexport.backends.tensorrt.builder import main; main()"
_MB = 1 << 20
_LEAST_WORKSPACE = 64 * _MB
_SMALL = 8 << 30  # bytes; a board with less is given fewer tactics to try at once
_KILL = getattr(signal, "SIGKILL", 9)
_LEVEL, _LOW_LEVEL = 3, 2  # of 0..5; 3 is TensorRT's own
_MOST = 6  # attempts
_SILENCE = 15.0  # s without a word until the elapsed time is told


@dataclass(frozen=True)
class Attempt:
    """Bytes of scratch memory and the optimisation level that a build is allowed."""

    workspace: int
    level: int

    def __str__(self) -> str:
        return f"workspace {self.workspace // _MB} MB, optimisation level {self.level}"


class Ladder:
    """What to try one after the other on a device with `free` of `total` bytes.

    It begins with all that is free: a workspace is a limit, and only what an engine needs is taken. One that was too
    small is raised to all there is (what other programs hold may be given back), one that killed the builder is halved,
    and between the two is the middle. Whatever else fails is tried once more with less effort.
    """

    def __init__(self, free: int, total: int) -> None:
        self._most = max(total, free)
        self._low, self._high = 0, 0  # known to be too small; known to be too much
        self.now = Attempt(max(_LEAST_WORKSPACE, free), _LEVEL if total > _SMALL else _LOW_LEVEL)
        self._tried = [self.now]

    def after(self, kind: str) -> Attempt | None:
        """The next attempt after one that failed for a reason of `told`; None when nothing is left to try."""
        space, level = self.now.workspace, self.now.level
        if kind == MEMORY and space < (self._high or self._most):
            self._low = space
            space = (space + self._high) // 2 if self._high else self._most
        elif kind == KILLED:
            self._high = space
            space, level = max(_LEAST_WORKSPACE, (self._low + space) // 2), max(0, level - 1)
        elif kind in (BUILD, CRASHED) and level:
            level = 0
        else:
            return None
        self.now = Attempt(space, level)
        if self.now in self._tried or len(self._tried) == _MOST:
            return None
        self._tried.append(self.now)
        return self.now


def build(
    folder: Path, entry: Mapping[str, Any], plan: plans.Plan, device: Device, *, half: bool, say: Callable[[str], None]
) -> dict[str, Any]:
    """Build the engine `entry` of `tensorrt.json` into `plan`; returns what the builder reports.

    Raises:
        BackendError: the graph was refused (every parser error), or every attempt failed (all of them).
        EnvironmentProblem: the disk is full, or TensorRT cannot be imported.
    """
    request = {
        "graph": str((folder / plans.graph_file(entry, device)).resolve()),
        "strong": device.strong,
        "half": half,
        "single": list(entry["single"]),
        "profiles": entry["profiles"],
        "plan": str(plan.file.resolve()),
        "timing_cache": "" if device.rtx else str(plans.timing_cache(device).resolve()),
        "module": {"capabilities": [device.gpu.compute_capability]} if device.rtx else None,
    }
    plans.discard(plan)
    tried: list[str] = []
    ladder = Ladder(device.gpu.free, device.gpu.total)
    attempt: Attempt | None = ladder.now
    while attempt is not None:
        say(f"{plan.engine}: building, {attempt}")
        asked = {**request, "workspace": attempt.workspace, "level": attempt.level}
        answer = child(asked, plan.file.with_suffix(".log"), plan.engine, say)
        if "done" in answer:
            plans.note(plan)
            return {**answer["done"], "attempts": [*tried, f"{attempt}: built"]}
        kind, problems = answer["failed"], answer["problems"]
        if kind == GRAPH:
            raise BackendError(
                f"TensorRT {device.tensorrt} refuses {request['graph']}",
                problems=problems,
                fix="send these lines to the project: its checker expected the graph to be taken",
            )
        if kind == MACHINE:
            raise EnvironmentProblem(f"{plan.engine} cannot be built on this machine", problems=problems)
        tried.append(f"{attempt}: {'; '.join(problems)}")
        say(f"{plan.engine}: failed: {problems[-1]}")
        attempt = ladder.after(kind)
    short = any(answer["failed"] == word for word in (MEMORY, KILLED))
    raise BackendError(
        f"TensorRT {device.tensorrt} could not build {plan.engine} on {device.gpu.name}",
        problems=tried,
        found=f"{device.gpu.free / _MB:.0f} of {device.gpu.total / _MB:.0f} MB were free",
        fix=_MORE_MEMORY if short else "send these lines to the project, with `trtexec`'s from tensorrt.json",
    )


def child(request: dict[str, Any], log: Path, name: str, say: Callable[[str], None]) -> dict[str, Any]:
    """The last word of one builder process, see `builder.py`; one that ends without a word was killed. What it writes
    by itself goes to `log`, which is left only where it was.
    """
    environment = dict(os.environ, PYTHONDONTWRITEBYTECODE="1", CUDA_MODULE_LOADING="LAZY")
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(_PACKAGES), os.environ.get("PYTHONPATH"))))
    with open(log, "wb") as words:
        process = subprocess.Popen(
            [sys.executable, "-c", _CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=words,
            env=environment,
            cwd=str(_PACKAGES),  # Python looks for modules in the current folder first
        )
        try:
            answer = _listen(process, json.dumps(request).encode(), name, say)
        except BaseException:
            process.kill()
            raise
        finally:
            process.wait()
    if answer is not None:
        log.unlink()
        return answer
    code = process.returncode
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
    return {"failed": KILLED if code == -_KILL else CRASHED, "problems": [f"the builder {how}", *last]}


def _listen(
    child: subprocess.Popen[bytes], request: bytes, engine: str, say: Callable[[str], None]
) -> dict[str, Any] | None:
    assert child.stdin is not None
    assert child.stdout is not None
    started = time.monotonic()
    try:
        child.stdin.write(request)
        child.stdin.close()
    except BrokenPipeError:  # it died while starting; its exit code tells more
        return None
    held = b""
    answer: dict[str, Any] | None = None
    while True:
        ready, _, _ = select.select([child.stdout], [], [], _SILENCE)
        if not ready:
            say(f"{engine}: building for {time.monotonic() - started:.0f} s")
            continue
        chunk = os.read(child.stdout.fileno(), 1 << 16)
        if not chunk:
            return answer
        *lines, held = (held + chunk).split(b"\n")
        for line in lines:
            value = _value(line)
            if "progress" in value:
                say(f"{engine}: {value['progress']}")
            elif value:
                answer = value


def _value(line: bytes) -> dict[str, Any]:
    """One line of a child; TensorRT itself may print something there, too."""
    try:
        value = json.loads(line.decode())
    except ValueError:
        return {}
    known = isinstance(value, dict) and {"progress", "done", "failed"} & set(value)
    return value if known else {}
