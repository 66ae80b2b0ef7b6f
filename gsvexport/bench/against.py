"""Another program in the same table, by a small protocol.

For each run a fresh process of the command is started. It gets one line of JSON on standard input:

    {"threads": 2, "tokens": 100, "audio_s": 4.0, "phones": 70, "prompt": 125, "run": 0}

It loads its voice, says about `audio_s` seconds of speech twice, to warm up and to be measured, and writes one line of
JSON to standard output: seconds and MB (10^6 bytes) by the names of the bench, of which `sentence_s` and `audio_s` are
needed.

    {"sentence_s": 1.31, "audio_s": 4.0, "load_s": 2.2, "prefill_s": 0.19, "first_audio_s": 0.75, "peak_mb": 1480}

Whatever else it has to say goes to standard error.
"""

from __future__ import annotations

import json
import math
import os
import shlex
import subprocess
from typing import Any

from gsvexport.errors import BackendError, InputError
from gsvexport.untrusted.reading import parse_json

KNOWN = ("load_s", "prefill_s", "step_ms", "acoustic_s", "vocoder_s", "sentence_s", "first_audio_s", "peak_mb")
NEEDED = ("sentence_s", "audio_s")
_LARGEST = 1 << 16  # characters of an answer
_LAST_WORDS = 600


def parsed(command: str) -> list[str]:
    """The words of a command, as a shell would split them.

    Raises:
        InputError: it cannot be split, or is empty.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise InputError(f"--against {command!a} is no command: {error}") from error
    if not words:
        raise InputError("--against names no command", fix="--against 'python other.py'")
    return words


def asked(words: list[str], request: dict[str, Any], timeout: float) -> dict[str, float]:
    """What the command answers to one request: its figures, and `rtf`, which follows from them.

    Raises:
        InputError: there is no such program.
        BackendError: it failed, took too long, or answered something else; says how, with its last words.
    """
    name = shlex.join(words)
    threads = str(request["threads"])
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    try:
        done = subprocess.run(
            words,
            input=json.dumps(request) + "\n",
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env=environment,
            timeout=timeout,
            check=False,
        )
    except OSError as error:
        raise InputError(
            f"{name} cannot be started: {error.strerror}", fix="give --against a program's path"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise BackendError(
            f"{name} gave no answer", limit=f"{timeout:g} s", fix="--against-timeout SECONDS gives it more"
        ) from error
    words_of = [done.stderr.strip()[-_LAST_WORDS:]] if done.stderr.strip() else []
    if done.returncode:
        raise BackendError(f"{name} ended with {done.returncode}", problems=words_of)
    try:
        answer = parse_json(done.stdout[:_LARGEST].encode())
    except ValueError as error:
        raise BackendError(
            f"{name} answered no JSON: {error}", found=done.stdout[:80].strip(), problems=words_of
        ) from error
    return _judged(answer, name)


def _judged(answer: Any, name: str) -> dict[str, float]:
    allowed = (*KNOWN, "audio_s")
    if not isinstance(answer, dict):
        raise BackendError(f"{name} answered no table of figures", found=type(answer).__name__)
    problems = [f"{key} is missing" for key in NEEDED if key not in answer]
    for key, value in answer.items():
        if key not in allowed:
            problems.append(f"{str(key)[:40]!a} is no figure; there are {', '.join(allowed)}")
        elif isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
            problems.append(f"{key} is {str(value)[:40]}, not a number above 0")
    if problems:
        raise BackendError(f"{name} answered something else than figures", problems=problems)
    figures = {key: float(answer[key]) for key in KNOWN if key in answer}
    return {**figures, "rtf": answer["sentence_s"] / answer["audio_s"]}
