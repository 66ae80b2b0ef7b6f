"""Builds an engine in a child process, again and again with less, until it succeeds or nothing is left to try."""

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
from gsvexport.errors import BackendError

_PACKAGES = Path(__file__).resolve().parent.parent.parent.parent  # where `import gsvexport` finds this gsvexport
_CHILD = "from gsvexport.backends.tensorrt.builder import main; main()"
_MB = 1 << 20
_WORKSPACE = 1024 * _MB  # as much as any of the graphs was seen to use elsewhere; more only reserves memory
_LEAST_WORKSPACE = 64 * _MB
_SMALL = 8 << 30  # bytes; a board with less is given fewer tactics to try at once
_LEVEL, _LOW_LEVEL = 3, 2  # of 0..5; 3 is TensorRT's own
_SILENCE = 15.0  # s without a word until the elapsed time is told


@dataclass(frozen=True)
class Attempt:
    """Bytes of scratch memory and the optimisation level that a build is allowed."""

    workspace: int
    level: int

    def __str__(self) -> str:
        return f"workspace {self.workspace // _MB} MB, optimisation level {self.level}"


def attempts(free: int, total: int) -> list[Attempt]:
    """What to try one after the other on a device with so many bytes free: less memory first, then less effort."""
    workspace = max(_LEAST_WORKSPACE, min(_WORKSPACE, free // 2))
    level = _LEVEL if total > _SMALL else _LOW_LEVEL
    found = [Attempt(workspace, level)]
    for part, lower in ((2, 0), (4, 0), (4, 1), (8, 2)):
        found.append(Attempt(max(_LEAST_WORKSPACE, workspace // part), max(0, level - lower)))
    return list(dict.fromkeys(found))


def build(
    folder: Path, entry: Mapping[str, Any], plan: plans.Plan, device: Device, *, half: bool, say: Callable[[str], None]
) -> dict[str, Any]:
    """Build the engine `entry` of `tensorrt.json` into `plan`; returns what the builder reports.

    Raises:
        BackendError: the graph was refused (every parser error), or every attempt failed (all of them).
    """
    request = {
        "graph": str((folder / plans.graph_file(entry, device)).resolve()),
        "strong": device.strong,
        "half": half,
        "single": list(entry["single"]),
        "profiles": entry["profiles"],
        "plan": str(plan.file.resolve()),
        "timing_cache": str(plans.timing_cache(device).resolve()),
    }
    plans.discard(plan)
    tried: list[str] = []
    for attempt in attempts(device.gpu.free, device.gpu.total):
        say(f"{plan.engine}: building, {attempt}")
        answer = _child({**request, "workspace": attempt.workspace, "level": attempt.level}, plan, say)
        if "done" in answer:
            plans.note(plan)
            return {**answer["done"], "attempts": [*tried, f"{attempt}: built"]}
        if answer["failed"] == "graph":
            raise BackendError(
                f"TensorRT {device.tensorrt} refuses {request['graph']}",
                problems=answer["problems"],
                fix="send these lines to the project: its checker expected the graph to be taken",
            )
        tried.append(f"{attempt}: {'; '.join(answer['problems'])}")
        say(f"{plan.engine}: failed: {answer['problems'][-1]}")
    raise BackendError(
        f"TensorRT {device.tensorrt} could not build {plan.engine} on {device.gpu.name}",
        problems=tried,
        found=f"{device.gpu.free / _MB:.0f} of {device.gpu.total / _MB:.0f} MB were free",
        fix="'Could not find any implementation' and a killed builder mean too little memory: close the desktop "
        "(sudo systemctl isolate multi-user), add swap (sudo fallocate -l 8G /swap, chmod 600, mkswap, swapon), and "
        "run gsvexport finalize again: finished engines are kept",
    )


def _child(request: dict[str, Any], plan: plans.Plan, say: Callable[[str], None]) -> dict[str, Any]:
    """The last word of one builder process; a process that ends without one has failed."""
    environment = dict(os.environ, PYTHONDONTWRITEBYTECODE="1", CUDA_MODULE_LOADING="LAZY")
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(_PACKAGES), os.environ.get("PYTHONPATH"))))
    log = plan.file.with_suffix(".log")
    with open(log, "wb") as words:
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=words,
            env=environment,
            cwd=str(_PACKAGES),  # Python looks for modules in the current folder first
        )
        try:
            answer = _listen(child, json.dumps(request).encode(), plan.engine, say)
        except BaseException:
            child.kill()
            raise
        finally:
            child.wait()
    if answer is not None:
        log.unlink()
        return answer
    code = child.returncode
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
    return {"failed": "build", "problems": [f"the builder {how}", *last]}


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
