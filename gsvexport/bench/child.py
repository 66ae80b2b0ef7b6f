"""Work in a process of its own, so that its memory and its threads are its own: one request in, one answer out.

The child needs what a device has: the standard library, numpy, the backend's runtime, and gsvexport's device side.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from gsvexport.errors import BackendError, GsvError

_PACKAGES = str(Path(__file__).resolve().parent.parent.parent)  # where `import gsvexport` finds this gsvexport
_CHILD = "from gsvexport.bench.child import main; main()"
_BLAS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_LAST_WORDS = 600  # characters of standard error in a message
_STATUS = {"VmHWM": "peak_mb", "RssAnon": "anonymous_mb", "RssFile": "mapped_mb"}


def call(function: str, *, threads: int, **arguments: Any) -> dict[str, Any]:
    """What `function` ("module:name") returns for `threads` and JSON `arguments`, computed in a fresh process.

    BLAS libraries, too, may use `threads` threads there.

    Raises:
        BackendError: the function raised a `GsvError`, or its process failed; says how, with its last words.
    """
    environment = {**os.environ, **{name: str(threads) for name in _BLAS}}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (_PACKAGES, os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-c", _CHILD],
        input=json.dumps({"function": function, "arguments": {**arguments, "threads": threads}}),
        env=environment,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode:
        how = f"signal {signal.Signals(-done.returncode).name}" if done.returncode < 0 else f"code {done.returncode}"
        words = done.stderr.strip()[-_LAST_WORDS:]
        raise BackendError(
            f"{function} ended with {how} for {_subject(arguments)}",
            problems=[words] if words else [],
            fix="SIGKILL is often a lack of memory" if how.endswith("SIGKILL") else None,
        )
    answer: dict[str, Any] = json.loads(done.stdout)
    if "error" in answer:
        raise BackendError(f"{function} failed for {_subject(arguments)}", problems=[answer["error"]])
    return answer


def memory() -> dict[str, float | None]:
    """This process's memory in MB (10^6 bytes): peak resident, and resident now, anonymous and mapped from files.

    None where the system does not say (`/proc/self/status` is Linux).
    """
    found: dict[str, float | None] = dict.fromkeys(_STATUS.values())
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return found
    for key, _, value in (line.partition(":") for line in lines):
        if key in _STATUS:
            found[_STATUS[key]] = int(value.split()[0]) * 1024 / 1e6
    return found


def main() -> None:
    """The child's end. What libraries print goes to standard error, away from the answer."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    request = json.load(sys.stdin)
    module, _, name = request["function"].partition(":")
    try:
        answer = getattr(importlib.import_module(module), name)(**request["arguments"])
    except GsvError as error:
        answer = {"error": str(error)}
    json.dump(answer, out)
    out.close()


def _subject(arguments: dict[str, Any]) -> str:
    return str(arguments.get("folder") or arguments.get("voice") or "this machine")
